package operate

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/onload-go/onload/internal/inspect/ask"
	"github.com/onload-go/onload/internal/inspect/report"
)

// SocketList is what `onload ss --json` prints.
type SocketList struct {
	Sockets []ProcessSocket `json:"sockets"`
}

// ProcessSocket is a socket with its process.
type ProcessSocket struct {
	PID     int    `json:"pid"`
	UID     int    `json:"uid"`
	Program string `json:"program"`
	report.Socket
}

// ssOptions are the flags, ss's where they have one letter.
type ssOptions struct {
	pid                                                           int
	tcp, udp, listening, all, numeric                             bool
	processes, info, timers, memory, extended, noHeader, ip4, ip6 bool
	json                                                          bool
}

func ssCommand() *cobra.Command {
	var o ssOptions
	c := &cobra.Command{
		Use:   "ss [filter]",
		Short: "list sockets, as ss does",
		Long: `List the sockets of processes with engines: those that stacks carry, and the TCP and UDP
sockets of these processes that the kernel carries. Columns, options and filters are those
of ss(8). The column Path has the interface, or "kernel"; -e has why.

A filter is any number of "state NAME" and "exclude NAME", and an expression:
  dst HOST, src HOST        HOST is ADDRESS[/PREFIX][:PORT], IPv6 in brackets
  dport OP PORT, sport ...  OP is = != < > <= >= (or eq ne lt gt le ge), PORT is :80 or a name
  dev NAME                  the interface; path kernel, path stack
  not, and, or, ( )         two expressions side by side are joined by and`,
		Example: `  onload ss -ti state established '( sport = :80 or sport = :443 )' dst 10.0.0.0/8`,
		RunE: func(c *cobra.Command, args []string) error {
			f, err := parseFilter(args)
			if err != nil {
				return err
			}
			l, err := socketList(&o, f)
			if o.json {
				return errors.Join(printJSON(c.OutOrStdout(), l), err)
			}
			return errors.Join(printSockets(c.OutOrStdout(), &o, l.Sockets), err)
		},
	}
	b := c.Flags()
	b.IntVar(&o.pid, "pid", 0, "sockets of this process only")
	b.BoolVarP(&o.tcp, "tcp", "t", false, "TCP sockets")
	b.BoolVarP(&o.udp, "udp", "u", false, "UDP sockets")
	b.BoolVarP(&o.listening, "listening", "l", false, "listening and unconnected sockets only")
	b.BoolVarP(&o.all, "all", "a", false, "those and all others")
	b.BoolVarP(&o.numeric, "numeric", "n", false, "ports as numbers, not as services")
	b.BoolVarP(&o.processes, "processes", "p", false, "processes")
	b.BoolVarP(&o.info, "info", "i", false, "state of TCP")
	b.BoolVarP(&o.timers, "options", "o", false, "timers")
	b.BoolVarP(&o.memory, "memory", "m", false, "buffers")
	b.BoolVarP(&o.extended, "extended", "e", false, "user and path, with its reason")
	b.BoolVarP(&o.noHeader, "no-header", "H", false, "no header")
	b.BoolVarP(&o.ip4, "ipv4", "4", false, "IPv4 sockets only")
	b.BoolVarP(&o.ip6, "ipv6", "6", false, "IPv6 sockets only")
	b.BoolVar(&o.json, "json", false, "print JSON (docs/schema), with all details")
	complete(c)
	return c
}

// socketList asks the processes that o names, or all.
func socketList(o *ssOptions, f *filter) (SocketList, error) {
	if o.pid != 0 {
		p, err := ask.Of(o.pid)
		if err != nil {
			return SocketList{Sockets: []ProcessSocket{}}, err
		}
		defer p.Close()
		return socketsOf([]*ask.Process{p}, o, f)
	}
	ps, err := ask.Find()
	defer closeAll(ps)
	l, errs := socketsOf(ps, o, f)
	return l, errors.Join(err, errs)
}

// socketsOf asks the processes for the sockets that o and f want.
func socketsOf(ps []*ask.Process, o *ssOptions, f *filter) (SocketList, error) {
	l := SocketList{Sockets: []ProcessSocket{}}
	f.defaults(o)
	var errs []error
	args := report.SocketsArgs{Info: o.info || o.json, Memory: o.memory || o.json}
	if o.tcp || !o.udp {
		args.TCP, args.Waiting, args.Listen = f.any(connected...), f.states["TIME-WAIT"], f.states["LISTEN"]
	}
	if o.udp || !o.tcp {
		args.UDP = f.any("UNCONN", "ESTAB")
	}
	for _, p := range ps {
		program := programOf(p.PID)
		add := func(x *report.Socket) {
			if o.wants(x) && f.matches(x) {
				l.Sockets = append(l.Sockets, ProcessSocket{p.PID, p.UID, program, *x})
			}
		}
		var stacks []report.Socket
		errs = append(errs, ask.Each(p, report.KindSockets, &args, func(some *report.SomeSockets) error {
			for i := range some.Sockets {
				x := &some.Sockets[i]
				if x.State == "LISTEN" || x.State == "UNCONN" {
					stacks = append(stacks, *x)
				}
				add(x)
			}
			return nil
		}))
		kernel, err := kernelSocketsWhy(p, stacks)
		errs = append(errs, err)
		for i := range kernel {
			add(&kernel[i])
		}
	}
	return l, errors.Join(errs...)
}

// wants reports whether the protocol and the family are asked for.
func (o *ssOptions) wants(x *report.Socket) bool {
	if o.tcp != o.udp && (x.Proto == "tcp") != o.tcp {
		return false
	}
	six := strings.Contains(x.Local.Address, ":")
	return o.ip4 == o.ip6 || x.Local.Address == "*" || six == o.ip6
}

// printSockets prints a table whose further lines, of -i and its like, are outside of its
// columns.
func printSockets(out io.Writer, o *ssOptions, l []ProcessSocket) error {
	slices.SortStableFunc(l, func(a, b ProcessSocket) int {
		return cmp.Or(cmp.Compare(a.Proto, b.Proto), cmp.Compare(a.State, b.State))
	})
	header := []string{"Netid", "State", "Recv-Q", "Send-Q", "Local Address:Port", "Peer Address:Port", "Path"}
	rows := make([][]string, 0, len(l))
	wide := make([]int, len(header))
	measure := func(r []string) {
		for i, c := range r {
			wide[i] = max(wide[i], len(c))
		}
	}
	if !o.noHeader {
		measure(header)
	}
	for i := range l {
		x := &l[i]
		path := x.Interface
		if x.Carrier == "kernel" {
			path = "kernel"
		} else if x.Reason != "" {
			path += "!" // through the kernel all the same
		}
		r := []string{x.Proto, x.State, fmt.Sprint(x.RecvQ), fmt.Sprint(x.SendQ), endText(x.Proto, x.Local, o.numeric), endText(x.Proto, x.Peer, o.numeric), plain(orDash(path))}
		measure(r)
		rows = append(rows, r)
	}
	var b strings.Builder
	line := func(r []string, rest string) {
		for i, c := range r {
			b.WriteString(c)
			if i < len(r)-1 || rest != "" {
				b.WriteString(strings.Repeat(" ", wide[i]-len(c)+1))
			}
		}
		b.WriteString(rest)
		b.WriteByte('\n')
	}
	if !o.noHeader {
		rest := ""
		if o.processes {
			rest = "Process"
		}
		line(header, rest)
	}
	for i, r := range rows {
		line(r, beside(&l[i], o))
		if below := below(&l[i], o); below != "" {
			b.WriteString("\t " + below + "\n")
		}
	}
	_, err := io.WriteString(out, b.String())
	return err
}

// beside is what stands in the line of a socket, behind the columns.
func beside(x *ProcessSocket, o *ssOptions) string {
	var l []string
	if o.processes {
		l = append(l, fmt.Sprintf("users:((%q,pid=%d))", plain(x.Program), x.PID))
	}
	if t := x.Timer; o.timers && t != nil {
		l = append(l, fmt.Sprintf("timer:(%s,%s,%d)", t.Name, timeText(t.Left), t.Tries))
	}
	if o.extended {
		l = append(l, fmt.Sprintf("uid:%d", x.UID))
		if x.Stack > 0 {
			l = append(l, fmt.Sprintf("stack:%d", x.Stack))
		}
		if x.Half > 0 {
			l = append(l, fmt.Sprintf("half_open:%d", x.Half))
		}
		if x.Orphan {
			l = append(l, "orphan")
		}
		if x.Reason != "" {
			l = append(l, "reason:("+plain(x.Reason)+")")
		}
	}
	return strings.Join(l, " ")
}

// below is what stands in the line below a socket's.
func below(x *ProcessSocket, o *ssOptions) string {
	var l []string
	if m := x.Memory; o.memory && m != nil {
		l = append(l, fmt.Sprintf("skmem:(r%d,rb%d,t%d,tb%d,d%d)", m.Unread, m.Receive, m.Unsent, m.Send, m.Drops))
	}
	if o.info && x.Info != nil {
		l = append(l, infoText(x.Info))
	}
	return strings.Join(l, " ")
}

// timeText is a duration as ss prints it (print_ms_timer of iproute2's misc/ss.c): from
// ten seconds on without milliseconds, from ten minutes on without seconds.
func timeText(d time.Duration) string {
	ms := d.Milliseconds()
	minutes, seconds, ms := ms/60000, ms/1000%60, ms%1000
	text := ""
	if minutes > 0 {
		if ms, text = 0, fmt.Sprintf("%dmin", minutes); minutes > 9 {
			seconds = 0
		}
	}
	if seconds > 9 {
		ms = 0
	}
	if seconds > 0 {
		text += fmt.Sprint(seconds)
		if ms == 0 {
			return text + "sec"
		}
		text += "."
	}
	if ms > 0 || text == "" {
		text += fmt.Sprintf("%03dms", ms)
	}
	return text
}

// infoText is the state of TCP in ss's words (tcp_stats_print of iproute2's misc/ss.c).
// Windows are segments there, and here too.
func infoText(i *report.TCPInfo) string {
	var l []string
	put := func(format string, v ...any) { l = append(l, fmt.Sprintf(format, v...)) }
	ms := func(d time.Duration) string { return trimmed(float64(d) / 1e6) }
	put("%s", i.Congestion)
	if i.Timestamps {
		put("ts")
	}
	if i.SACK {
		put("sack")
	}
	if i.ECN {
		put("ecn")
	}
	if i.FastOpened {
		put("fastopen")
	}
	if i.SendScale >= 0 {
		put("wscale:%d,%d", i.SendScale, i.RecvScale)
	}
	put("rto:%s", ms(i.RTO))
	if i.Backoff > 0 {
		put("backoff:%d", i.Backoff)
	}
	if i.RTT > 0 {
		put("rtt:%s/%s", ms(i.RTT), ms(i.RTTVar))
	}
	put("mss:%d pmtu:%d rcvmss:%d", i.SendMSS, i.PathMTU, i.RecvMSS)
	mss := max(i.SendMSS, 1)
	put("cwnd:%d", max(i.Cwnd/mss, 1))
	if i.Ssthresh < 1<<31 {
		put("ssthresh:%d", i.Ssthresh/mss)
	}
	if i.BytesSent > 0 {
		put("bytes_sent:%d", i.BytesSent)
	}
	if i.BytesRetrans > 0 {
		put("bytes_retrans:%d", i.BytesRetrans)
	}
	if i.BytesAcked > 0 {
		put("bytes_acked:%d", i.BytesAcked)
	}
	if i.BytesReceived > 0 {
		put("bytes_received:%d", i.BytesReceived)
	}
	put("segs_out:%d segs_in:%d", i.SegsOut, i.SegsIn)
	if i.RTT > 0 {
		put("send %sbps", rateText(float64(i.Cwnd)*8/i.RTT.Seconds()))
	}
	put("lastrcv:%d", i.SinceReceived.Milliseconds())
	if i.PacingRate > 0 {
		put("pacing_rate %sbps", rateText(float64(i.PacingRate)*8))
	}
	if i.MaxPacingRate > 0 {
		put("max_pacing_rate %sbps", rateText(float64(i.MaxPacingRate)*8))
	}
	if i.DeliveryRate > 0 {
		put("delivery_rate %sbps", rateText(i.DeliveryRate*8))
	}
	if i.RateAppLimited {
		put("app_limited")
	}
	for _, t := range []struct {
		name string
		d    time.Duration
	}{{"busy", i.BusyTime}, {"rwnd_limited", i.ReceiverLimited}, {"sndbuf_limited", i.SendBufferLimited}, {"cwnd_limited", i.CwndLimited}, {"pacing_limited", i.PacingLimited}} {
		if t.d > 0 {
			put("%s:%dms", t.name, t.d.Milliseconds())
		}
	}
	for _, n := range []struct {
		name string
		n    int
	}{{"unacked", i.InFlight}, {"retrans", i.TotalRetrans}, {"lost", i.Lost}, {"sacked", i.SACKed}, {"dsack_dups", i.DSACKs}, {"rcv_ooopack", i.OutOfSeq}, {"notsent", i.Unsent}} {
		switch {
		case n.n == 0:
		case n.name == "retrans":
			put("retrans:%d/%d", i.Retransmits, n.n)
		case n.name == "unacked" || n.name == "lost" || n.name == "sacked":
			put("%s:%d", n.name, (n.n+mss-1)/mss)
		default:
			put("%s:%d", n.name, n.n)
		}
	}
	if i.Reordering > 3 {
		put("reordering:%d", i.Reordering)
	}
	put("rcv_space:%d snd_wnd:%d", i.RecvWindow, i.SendWindow)
	if i.MinRTT > 0 {
		put("minrtt:%s", ms(i.MinRTT))
	}
	put("limit:%s", strings.ReplaceAll(i.Limit, " ", "_"))
	if i.SoftError != "" {
		put("error:(%s)", i.SoftError)
	}
	return plain(strings.Join(l, " "))
}

// trimmed has at most three digits behind the point.
func trimmed(f float64) string {
	s := strings.TrimRight(fmt.Sprintf("%.3f", f), "0")
	return strings.TrimSuffix(s, ".")
}

// rateText is a rate as ss prints it, without the unit.
func rateText(bits float64) string {
	switch {
	case bits >= 1e9:
		return trimmed(bits/1e9) + "G"
	case bits >= 1e6:
		return trimmed(bits/1e6) + "M"
	case bits >= 1e3:
		return trimmed(bits/1e3) + "K"
	}
	return trimmed(bits)
}
