package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/inspect/ask"
	asked "github.com/onload-go/onload/internal/inspect/report"
	"github.com/onload-go/onload/internal/pcapfilter"
	"github.com/onload-go/onload/internal/record"
	"github.com/onload-go/onload/internal/record/pcapng"
)

const captureUsage = `usage: onload capture [-p PID] [-i IF] [-Q in|out|inout] [-w FILE|-] [-s SNAPLEN] [-c COUNT]
                      [-B KIB] [--no-match] [FILTER]

capture writes the packets that programs send and receive by onload, which tcpdump does
not see, until it is interrupted, as pcapng. FILTER is an expression of tcpdump's
(pcap-filter(7)). Without -p it takes all programs that this user may ask.

	onload capture -w web.pcapng tcp port 443
	onload capture -w - | tcpdump -nr -
	onload capture -w - | wireshark -k -i -`

// captureOptions are the arguments of onload capture.
type captureOptions struct {
	pid    int
	file   string
	count  uint64
	want   asked.Capture
	filter string
}

func captureCommand(args []string) error {
	o, err := captureArgs(args)
	if err != nil {
		return err
	}
	out := os.Stdout
	if o.file == "-" {
		if _, err := unix.IoctlGetTermios(int(out.Fd()), unix.TCGETS); err == nil {
			return usageError("onload capture: packets are not written to a terminal: say -w FILE, or pipe them to tcpdump -nr -")
		}
	}
	// A pipe's reader that is gone is an error of Write.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGPIPE)
	defer stop()
	c, err := openCapture(o)
	if err != nil {
		return err
	}
	defer c.close()
	if o.file != "-" {
		if out, err = os.Create(o.file); err != nil {
			return err
		}
	}
	n, err := c.run(ctx, out, o)
	if o.file != "-" {
		err = errors.Join(err, out.Close())
	}
	if errors.Is(err, syscall.EPIPE) {
		err = nil // whoever read has seen enough
	}
	fmt.Fprintf(os.Stderr, "%d packets captured, %d lost because they were read too slowly\n", n, c.in.Lost())
	return err
}

func captureArgs(args []string) (*captureOptions, error) {
	o := &captureOptions{}
	f := flag.NewFlagSet("onload capture", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.IntVar(&o.pid, "p", 0, "")
	f.StringVar(&o.want.Interface, "i", "", "")
	f.StringVar(&o.file, "w", "-", "")
	f.IntVar(&o.want.SnapLen, "s", 0, "")
	f.Uint64Var(&o.count, "c", 0, "")
	f.BoolVar(&o.want.NoMatch, "no-match", false, "")
	way := f.String("Q", "inout", "")
	kib := f.Int("B", 0, "")
	if err := f.Parse(args); err != nil {
		return nil, usageError(fmt.Sprintf("onload capture: %v\n%s", err, captureUsage))
	}
	switch *way {
	case "inout":
	case "in", "out":
		o.want.Direction = *way
	default:
		return nil, usageError(fmt.Sprintf("onload capture: -Q %s is neither in, out nor inout", *way))
	}
	if o.pid < 0 || o.want.SnapLen < 0 || *kib < 0 || *kib > 1<<20 {
		return nil, usageError("onload capture: -p, -s or -B is out of range")
	}
	o.want.Buffer = *kib << 10
	o.filter = strings.Join(f.Args(), " ")
	return o, nil
}

// capturing is packets of some processes that are being read.
type capturing struct {
	in      record.Reader
	asking  []*ask.Asking
	mapped  [][]byte
	ended   chan error // of each process, once
	running int
}

// openCapture asks processes for their packets.
func openCapture(o *captureOptions) (_ *capturing, err error) {
	filter, err := pcapfilter.Compile(o.filter)
	if err != nil {
		return nil, err
	}
	o.want.Filter = instructions(filter)
	var all []*ask.Process
	if o.pid != 0 {
		p, err := ask.Of(o.pid)
		if err != nil {
			return nil, err
		}
		all = append(all, p)
	} else if all, err = ask.Find(); len(all) == 0 {
		return nil, errors.Join(errors.New("no program of this user's goes by onload: see onload ps"), err)
	}
	c := &capturing{ended: make(chan error, len(all))}
	var errs []error
	for _, p := range all {
		of := ""
		if len(all) > 1 {
			of = fmt.Sprintf("%d/", p.PID)
		}
		errs = append(errs, c.begin(p, of, &o.want), p.Close())
	}
	if c.running == 0 {
		return nil, errors.Join(errs...)
	}
	if err := errors.Join(errs...); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	return c, nil
}

func instructions(filter []bpf.RawInstruction) (l [][4]uint32) {
	for _, i := range filter {
		l = append(l, [4]uint32{uint32(i.Op), uint32(i.Jt), uint32(i.Jf), i.K})
	}
	return l
}

// begin asks one process. of is put in front of its interfaces' names.
func (c *capturing) begin(p *ask.Process, of string, want *asked.Capture) error {
	a, err := p.Ask(asked.KindCapture, want)
	if err != nil {
		return err
	}
	answer, files, err := a.Next()
	if err == nil {
		err = c.mapRings(answer, files, of)
	}
	for _, f := range files {
		_ = f.Close()
	}
	if err != nil {
		return errors.Join(err, a.Close())
	}
	c.asking = append(c.asking, a)
	c.running++
	go func() {
		_, _, err := a.Next()
		c.ended <- err
	}()
	return nil
}

func (c *capturing) mapRings(answer json.RawMessage, files []*os.File, of string) error {
	var r asked.CaptureReady
	if err := json.Unmarshal(answer, &r); err != nil {
		return err
	}
	if len(files) != 1 || r.Rings < 1 || r.Size < 1 || r.Stride < r.Size {
		return errors.New("the program answers with something else than its packets")
	}
	st, err := files[0].Stat()
	if err != nil {
		return err
	}
	if int64(r.Rings)*int64(r.Stride) > st.Size() {
		return errors.New("the program's packets are in less memory than it says")
	}
	mem, err := unix.Mmap(int(files[0].Fd()), 0, r.Rings*r.Stride, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return os.NewSyscallError("mmap", err)
	}
	c.mapped = append(c.mapped, mem)
	for i := range r.Rings {
		if !c.in.Add(mem[i*r.Stride:][:r.Size], of) {
			return errors.New("the program's packets are in rings of an impossible size")
		}
	}
	return nil
}

func (c *capturing) close() {
	for _, a := range c.asking {
		_ = a.Close()
	}
	for _, m := range c.mapped {
		_ = unix.Munmap(m)
	}
}

const (
	// captureInterval is the time between looks for packets: nobody wakes the reader.
	captureInterval = 5 * time.Millisecond
	// captureLate is how long a packet of one stack may be recorded behind a later one of
	// another.
	captureLate = 100 * time.Millisecond
	// endWait is how long a process may take to stop recording.
	endWait = 10 * time.Second
)

// run writes packets until ctx ends, enough are there or all processes have ended.
func (c *capturing) run(ctx context.Context, out io.Writer, o *captureOptions) (n uint64, err error) {
	file, err := pcapng.New(out, o.want.SnapLen, c.in.Names())
	if err != nil {
		return 0, err
	}
	if err := file.Flush(); err != nil {
		return 0, err
	}
	write := func(horizon int64) error {
		wrote := false
		for o.count == 0 || n < o.count {
			p, ok := c.in.Next(horizon)
			if !ok {
				break
			}
			if err := file.Write(&p); err != nil {
				return err
			}
			wrote = true
			n++
		}
		if !wrote {
			return c.in.Err()
		}
		return errors.Join(c.in.Err(), file.Flush())
	}
	tick := time.NewTicker(captureInterval)
	defer tick.Stop()
	var failed []error
	ending := false
	end := time.NewTimer(endWait)
	end.Stop()
	stop := func() {
		ending = true
		end.Reset(endWait)
		for _, a := range c.asking {
			_ = a.Stop() // a process that has ended needs none
		}
	}
	done := ctx.Done()
	for c.running > 0 {
		select {
		case <-done:
			done = nil
			stop()
		case err := <-c.ended:
			c.running--
			if err != io.EOF && !errors.Is(err, io.ErrUnexpectedEOF) { // a program may end
				failed = append(failed, err)
			}
		case <-end.C:
			failed = append(failed, errors.New("a program goes on although it was told to stop"))
			c.running = 0
		case <-tick.C:
			if err := write(time.Now().Add(-captureLate).UnixNano()); err != nil {
				return n, err
			}
			if o.count > 0 && n >= o.count && !ending {
				stop()
			}
		}
	}
	return n, errors.Join(append(failed, write(record.All))...)
}
