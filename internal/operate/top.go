package operate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/inspect/ask"
	"github.com/onload-go/onload/internal/inspect/report"
)

// topSample is what one screen is made of, beside the sample before it.
type topSample struct {
	at        time.Time
	processes []topProcess
}

type topProcess struct {
	status  ProcessStatus
	sets    []Counted
	sockets []report.Socket
}

func topCommand() *cobra.Command {
	var o common
	var every time.Duration
	var count int
	c := &cobra.Command{
		Use:   "top",
		Short: "watch connections by rate, spinning, drops and queues",
		Long: `Show a screen that is drawn anew each second, until Ctrl-C: of each process packets and
drops a second, and the part of its spinning that found a packet (spin gain); of each queue
packets; then the connections, the busiest first. Where the output is no terminal, screens
follow each other.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if every < 100*time.Millisecond {
				return errors.New("the interval is too short")
			}
			o.all = o.all || o.pid == 0
			ps, err := o.processes()
			if err != nil {
				return err
			}
			defer closeAll(ps)
			return top(c.Context(), ps, c.OutOrStdout(), every, count)
		},
	}
	c.Flags().IntVarP(&o.pid, "pid", "p", 0, "this process only")
	c.Flags().BoolVarP(&o.all, "all", "a", true, "all processes, which is the default")
	c.Flags().DurationVarP(&every, "interval", "i", time.Second, "how often")
	c.Flags().IntVarP(&count, "count", "n", 0, "screens, then end; 0: until Ctrl-C")
	complete(c)
	return c
}

// top draws screens until ctx ends.
func top(ctx context.Context, ps []*ask.Process, out io.Writer, every time.Duration, count int) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	was, err := topLook(ps)
	for n := 0; err == nil; {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		var now *topSample
		if now, err = topLook(ps); err != nil {
			return err
		}
		if err = drawTop(out, was, now); err != nil {
			return err
		}
		if n++; n == count {
			return nil
		}
		was = now
	}
	return err
}

// topLook asks the processes. One that does not answer has ended, or is of a version that
// does not know the question: it is left out.
func topLook(ps []*ask.Process) (*topSample, error) {
	s := &topSample{at: time.Now()}
	var errs []error
	for _, p := range ps {
		one, err := topLookAt(p)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		s.processes = append(s.processes, one)
	}
	if len(s.processes) > 0 {
		return s, nil
	}
	return s, errors.Join(errs...)
}

func topLookAt(p *ask.Process) (topProcess, error) {
	one := topProcess{status: ProcessStatus{PID: p.PID, Program: programOf(p.PID)}}
	counters, err := counterList([]*ask.Process{p})
	if err != nil {
		return one, err
	}
	one.sets = counters.Processes[0].Sets
	st, err := ask.One[report.Status](p, report.KindStatus, nil)
	if err != nil {
		return one, err
	}
	one.status.Engines = st.Engines
	err = ask.Each(p, report.KindSockets, &report.SocketsArgs{TCP: true, Info: true}, func(some *report.SomeSockets) error {
		one.sockets = append(one.sockets, some.Sockets...)
		return nil
	})
	return one, err
}

// drawTop draws a screen: over the one before on a terminal, else below it.
func drawTop(out io.Writer, was, now *topSample) error {
	f, ok := out.(interface{ Fd() uintptr })
	if ok {
		if size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ); err == nil && size.Row > 0 {
			return drawTerminal(out, topLines(was, now), int(size.Row), int(size.Col))
		}
	}
	_, err := io.WriteString(out, strings.Join(topLines(was, now), "\n")+"\n\n")
	return err
}

// Orders of every terminal since the VT100 (ECMA-48: CUP, EL, ED).
const (
	toHome    = "\x1b[H"
	clearLine = "\x1b[K"
	clearRest = "\x1b[J"
)

// drawTerminal draws as many lines as fit.
func drawTerminal(out io.Writer, lines []string, rows, columns int) error {
	var b strings.Builder
	b.WriteString(toHome)
	for i, l := range lines[:min(len(lines), max(rows-1, 1))] {
		if i > 0 {
			b.WriteString("\r\n")
		}
		if r := []rune(l); len(r) > columns {
			l = string(r[:columns])
		}
		b.WriteString(l + clearLine)
	}
	b.WriteString("\r\n" + clearRest)
	_, err := io.WriteString(out, b.String())
	return err
}

// drops are the counters of packets that were lost here.
var drops = []string{
	"RxMalformed", "RxBogus", "RxChecksum", "RxNoSocket", "TxNoRoute", "TxUnresolved", "UDPErrors", "HandOverDrops", "DetourErrors", "InletErrors",
	"ReturnErrors", "TCP.ListenDrops", "TCP.TCPRcvQDrop", "TCP.OfoPruned", "TCP.TCPZeroWindowDrop", "RxDropped", "RxFillEmpty",
}

// added are what counters have grown by.
type added struct {
	was, now map[string]uint64
	seconds  float64
}

func valuesOf(p *topProcess) map[string]uint64 {
	m := map[string]uint64{}
	if p == nil {
		return m
	}
	for _, s := range p.sets {
		prefix := ""
		if s.Queue != nil {
			prefix = fmt.Sprintf("%s/%d ", strings.Join(s.Interfaces, ","), *s.Queue)
		}
		for _, c := range s.Counters {
			m[prefix+c.Name] += c.Value
			if prefix != "" {
				m[c.Name] += c.Value // of all queues; no counter of a stack has the name
			}
		}
	}
	return m
}

// of is how much a counter has grown; 0 if it has become less.
func (a *added) of(name string) uint64 {
	if a.now[name] < a.was[name] {
		return 0
	}
	return a.now[name] - a.was[name]
}

func (a *added) rate(name string) string { return perSecond(float64(a.of(name)), a.seconds) }

func perSecond(n, seconds float64) string {
	if seconds <= 0 {
		return "-"
	}
	return rateText(n/seconds) + "/s"
}

// topLines are the lines of a screen.
func topLines(was, now *topSample) []string {
	seconds := now.at.Sub(was.at).Seconds()
	conns := 0
	for i := range now.processes {
		conns += len(now.processes[i].sockets)
	}
	lines := []string{fmt.Sprintf("onload top  %s  processes: %d  connections: %d", now.at.Format(time.TimeOnly), len(now.processes), conns), ""}
	var b strings.Builder
	w := table(&b)
	row(w, "PID", "PROGRAM", "PROFILE", "INTERFACES", "CONNS", "RECEIVED", "SENT", "SPIN GAIN", "PARKS", "DROPS")
	var queues [][]any
	for i := range now.processes {
		p := &now.processes[i]
		a := added{now: valuesOf(p), was: valuesOf(was.process(p.status.PID)), seconds: seconds}
		lost := uint64(0)
		for _, d := range drops {
			lost += a.of(d)
		}
		gain := "-"
		if hits, misses := a.of("SpinHits"), a.of("SpinMisses"); hits+misses > 0 {
			gain = fmt.Sprintf("%d%%", 100*hits/(hits+misses))
		}
		for _, e := range p.status.Engines {
			row(w, p.status.PID, p.status.Program, e.Profile, interfacesOf(&e), e.Sockets.TCP,
				a.rate("RxPackets"), a.rate("TxPackets"), gain, a.rate("Parks"), perSecond(float64(lost), seconds))
		}
		for _, s := range p.sets {
			if s.Queue == nil {
				continue
			}
			name := fmt.Sprintf("%s/%d", strings.Join(s.Interfaces, ","), *s.Queue)
			lost := a.of(name+" RxDropped") + a.of(name+" RxFillEmpty")
			queues = append(queues, []any{p.status.PID, name, a.rate(name + " RxPackets"), a.rate(name + " TxPackets"),
				a.rate(name + " Kicks"), perSecond(float64(lost), seconds)})
		}
	}
	row(w)
	_ = w.Flush() // into memory
	row(w, "PID", "QUEUE", "RECEIVED", "SENT", "KICKS", "DROPS")
	for _, q := range queues {
		row(w, q...)
	}
	row(w)
	_ = w.Flush()
	row(w, "PID", "STATE", "LOCAL", "PEER", "PATH", "BYTES IN", "BYTES OUT", "RTT", "RECV-Q", "SEND-Q", "LIMIT")
	for _, c := range busiest(was, now) {
		x := c.socket
		row(w, c.pid, x.State, endText(x.Proto, x.Local, true), endText(x.Proto, x.Peer, true), orDash(x.Interface),
			perSecond(float64(c.received), seconds), perSecond(float64(c.sent), seconds), trimmed(float64(x.Info.RTT)/1e6)+"ms", x.RecvQ, x.SendQ, x.Info.Limit)
	}
	_ = w.Flush()
	return append(lines, strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")...)
}

func (s *topSample) process(pid int) *topProcess {
	i := slices.IndexFunc(s.processes, func(p topProcess) bool { return p.status.PID == pid })
	if i < 0 {
		return nil
	}
	return &s.processes[i]
}

// mostTop is how many connections a screen has at most.
const mostTop = 200

type topConn struct {
	pid            int
	socket         *report.Socket
	received, sent uint64 // bytes
}

// busiest are the connections with the most bytes since the sample before.
func busiest(was, now *topSample) []topConn {
	type key struct {
		pid         int
		local, peer report.End
	}
	before := map[key]*report.TCPInfo{}
	for i := range was.processes {
		p := &was.processes[i]
		for j := range p.sockets {
			x := &p.sockets[j]
			before[key{p.status.PID, x.Local, x.Peer}] = x.Info
		}
	}
	var l []topConn
	for i := range now.processes {
		p := &now.processes[i]
		for j := range p.sockets {
			x := &p.sockets[j]
			if x.Info == nil {
				continue
			}
			c := topConn{pid: p.status.PID, socket: x, received: x.Info.BytesReceived, sent: x.Info.BytesSent}
			if b := before[key{p.status.PID, x.Local, x.Peer}]; b != nil && b.BytesReceived <= c.received && b.BytesSent <= c.sent {
				c.received, c.sent = c.received-b.BytesReceived, c.sent-b.BytesSent
			}
			l = append(l, c)
		}
	}
	slices.SortStableFunc(l, func(a, b topConn) int { return cmp.Compare(b.received+b.sent, a.received+a.sent) })
	return l[:min(len(l), mostTop)]
}
