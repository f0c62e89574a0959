package engine

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/onload-go/onload/internal/inspect"
	"github.com/onload-go/onload/internal/inspect/report"
	"github.com/onload-go/onload/internal/stack"
	"github.com/onload-go/onload/ip"
	"github.com/onload-go/onload/tcp"
)

func init() {
	inspect.Handle(report.KindSockets, func(r *inspect.Request) error {
		var args report.SocketsArgs
		if err := r.Decode(&args); err != nil {
			return err
		}
		l := lister{args: args, to: r}
		for _, e := range shownEngines() {
			l.engine(e)
		}
		return l.flush()
	})
	inspect.Handle(report.KindWhy, func(r *inspect.Request) error {
		var args report.WhyArgs
		if err := r.Decode(&args); err != nil {
			return err
		}
		why := report.Why{Reasons: []string{}}
		for _, f := range args.Flows {
			reason, err := whyKernel(&f)
			if err != nil {
				return err
			}
			why.Reasons = append(why.Reasons, reason)
		}
		return r.Send(&why)
	})
}

// listerBatch is how many sockets an answer has.
const listerBatch = 64

// lister sends the sockets of engines to a peer.
type lister struct {
	args report.SocketsArgs
	to   *inspect.Request
	some []report.Socket
	err  error // the peer is gone
}

func (l *lister) flush() error {
	if l.err == nil && len(l.some) > 0 {
		l.err = l.to.Send(&report.SomeSockets{Sockets: l.some})
	}
	l.some = l.some[:0]
	return l.err
}

func (l *lister) add(s report.Socket) {
	if l.err != nil {
		return
	}
	if l.some = append(l.some, s); len(l.some) >= listerBatch {
		_ = l.flush() // the last one has the error
	}
}

func (l *lister) engine(e *Engine) {
	for _, s := range e.stacks() {
		w := waysOf(s)
		if l.args.TCP {
			s.EachTCP(func(g *stack.TCPGlance) { l.add(socketOfTCP(g, &w, &l.args)) })
		}
		if l.args.Waiting {
			s.EachTimeWait(func(g *stack.TimeWaitGlance) {
				x := w.socket("tcp", "TIME-WAIT", g.Local, g.Remote, g.Link)
				x.Timer = &report.Timer{Name: tcp.TimerTimeWait.String(), Left: g.Left}
				l.add(x)
			})
		}
	}
	l.shards(e)
}

// shards lists bound sockets. One that several stacks serve is one for each interface
// that it has stacks of.
func (l *lister) shards(e *Engine) {
	var bound []report.Socket
	for _, i := range e.interfaces() {
		var own []report.Socket
		put := func(x report.Socket) {
			n := slices.IndexFunc(own, func(o report.Socket) bool {
				return o.Proto == x.Proto && o.Local == x.Local && o.Peer == x.Peer
			})
			if n < 0 || x.Peer != (report.End{}) && x.State == "ESTAB" {
				own = append(own, x)
				return
			}
			o := &own[n]
			o.Half += x.Half
			if x.Memory != nil {
				o.Memory.Drops += x.Memory.Drops
				o.Memory.Unread += x.Memory.Unread
			}
			o.RecvQ += x.RecvQ
		}
		for _, s := range i.Stacks {
			w := waysOf(s)
			if l.args.Listen {
				s.EachListener(func(g *stack.ListenerGlance) {
					x := w.socket("tcp", "LISTEN", g.Local, netip.AddrPort{}, i.Index)
					x.RecvQ, x.SendQ, x.Half = g.Pending, g.Backlog, g.Embryonic
					put(x)
				})
			}
			if l.args.UDP {
				s.EachUDP(func(g *stack.UDPGlance) {
					if x := socketOfUDP(g, &w, i.Index); g.Link == 0 || g.Link == i.Index || w[g.Link].name == "" {
						put(x)
					}
				})
			}
		}
		bound = append(bound, own...)
	}
	for _, x := range joined(bound) {
		l.add(x)
	}
}

// joined has sockets that are on several interfaces once, with the names of all.
func joined(l []report.Socket) (all []report.Socket) {
	for _, x := range l {
		n := slices.IndexFunc(all, func(o report.Socket) bool {
			return o.Proto == x.Proto && o.State == x.State && o.Local == x.Local && o.Peer == x.Peer
		})
		if n < 0 {
			all = append(all, x)
		} else if all[n].Interface != x.Interface && x.Interface != "" {
			all[n].Interface += "," + x.Interface
		}
	}
	return all
}

// wayOf is how packets leave by a link: its name, and why that is the kernel's.
type wayOf struct{ name, reason string }

type ways map[int]wayOf

func waysOf(s *stack.Stack) ways {
	w := ways{}
	for _, n := range s.Links() {
		p := PathBy(s, n)
		name, _, _ := s.LinkCaps(n)
		w[n] = wayOf{name, p.Reason}
	}
	return w
}

func (w ways) socket(proto, state string, local, remote netip.AddrPort, link int) report.Socket {
	x := report.Socket{Proto: proto, State: state, Local: endOf(local), Carrier: "stack"}
	if remote.IsValid() {
		x.Peer = endOf(remote)
	}
	if way, ok := w[link]; ok {
		x.Interface, x.Reason = way.name, way.reason
	} else if link != 0 {
		x.Interface, x.Reason = fmt.Sprint(link), "packets leave by an interface that is not accelerated, through the kernel"
	}
	return x
}

func endOf(a netip.AddrPort) report.End {
	if !a.Addr().IsValid() {
		return report.End{Address: "*", Port: a.Port()}
	}
	return report.End{Address: a.Addr().String(), Port: a.Port()}
}

// stateNames are ss's words.
var stateNames = map[tcp.State]string{
	tcp.Closed: "UNCONN", tcp.SynSent: "SYN-SENT", tcp.SynReceived: "SYN-RECV", tcp.Established: "ESTAB",
	tcp.FinWait1: "FIN-WAIT-1", tcp.FinWait2: "FIN-WAIT-2", tcp.CloseWait: "CLOSE-WAIT", tcp.Closing: "CLOSING",
	tcp.LastAck: "LAST-ACK", tcp.TimeWaiting: "TIME-WAIT",
}

func socketOfTCP(g *stack.TCPGlance, w *ways, args *report.SocketsArgs) report.Socket {
	i := &g.Info
	x := w.socket("tcp", stateNames[i.State], g.Local, g.Remote, g.Link)
	x.RecvQ, x.SendQ, x.Orphan = i.Unread, i.Unsent+i.InFlight, g.Orphan
	if args.Memory {
		x.Memory = &report.Buffers{Unread: i.Unread, Receive: g.RcvBuf, Unsent: i.Unsent, Send: g.SndBuf}
	}
	if t := g.Timer; t.Kind != tcp.TimerOff {
		x.Timer = &report.Timer{Name: t.Kind.String(), Left: t.Left, Tries: t.Tries}
	}
	if args.Info {
		x.Info = infoOf(i)
	}
	return x
}

func socketOfUDP(g *stack.UDPGlance, w *ways, link int) report.Socket {
	state := "UNCONN"
	if g.Remote.IsValid() {
		state, link = "ESTAB", g.Link
	}
	x := w.socket("udp", state, g.Local, g.Remote, link)
	x.RecvQ, x.SendQ = g.Unread, g.Unsent
	x.Memory = &report.Buffers{Unread: g.Unread, Receive: g.RcvBuf, Unsent: g.Unsent, Send: g.SndBuf, Drops: g.Drops.Buffer + g.Drops.Memory}
	return x
}

func infoOf(i *tcp.Info) *report.TCPInfo {
	r := &report.TCPInfo{
		Congestion: i.Congestion, SendMSS: i.SendMSS, RecvMSS: i.RecvMSS, PathMTU: i.PathMTU,
		SACK: i.SACK, Timestamps: i.Timestamps, ECN: i.ECN, FastOpened: i.FastOpened, SendScale: i.SendScale, RecvScale: i.RecvScale,
		RTO: i.RTO, RTT: i.RTT, RTTVar: i.RTTVar, MinRTT: i.MinRTT,
		Cwnd: i.Cwnd, Ssthresh: i.Ssthresh, SendWindow: i.SendWindow, RecvWindow: i.RecvWindow,
		Unsent: i.Unsent, InFlight: i.InFlight, SACKed: i.SACKed, Lost: i.Lost, Resent: i.Resent, OutOfSeq: i.OutOfSeq,
		Recovery: i.Recovery, Reordered: i.Reordered, Reordering: i.Reordering,
		Retransmits: i.Retransmits, Backoff: i.Backoff, TotalRetrans: i.TotalRetrans, DSACKs: i.DSACKs,
		BytesSent: i.BytesSent, BytesRetrans: i.BytesRetrans, BytesAcked: i.BytesAcked, BytesReceived: i.BytesReceived,
		SegsIn: i.SegsIn, SegsOut: i.SegsOut, SinceReceived: i.SinceReceived,
		PacingRate: i.PacingRate, MaxPacingRate: i.MaxPacingRate, DeliveryRate: i.DeliveryRate, RateAppLimited: i.RateAppLimited,
		Limit: i.Limit.String(), BusyTime: i.BusyTime, ReceiverLimited: i.ReceiverLimited, SendBufferLimited: i.SendBufferLimited,
		CwndLimited: i.CwndLimited, PacingLimited: i.PacingLimited,
	}
	if i.SoftError != nil {
		r.SoftError = i.SoftError.Error()
	}
	return r
}

// whyKernel is why the kernel carries a flow, as the engines would decide now.
func whyKernel(f *report.Flow) (string, error) {
	local, err := addrPortOf(f.Local)
	if err != nil {
		return "", err
	}
	peer, err := addrPortOf(f.Peer)
	if err != nil {
		return "", err
	}
	proto := uint8(ip.ProtoTCP)
	if f.Proto == "udp" {
		proto = ip.ProtoUDP
	}
	var reasons []string
	for _, e := range shownEngines() {
		why := ""
		switch {
		case !e.Accelerates():
			why = e.none
		case peer.Addr().IsValid():
			w, err := e.Way(AnyFamily, Traffic{Proto: proto}, netip.AddrPortFrom(local.Addr(), 0), peer)
			if why = w.Why; err != nil {
				why = err.Error()
			}
		default:
			why = e.Shards(AnyFamily, local.Addr()).Why
		}
		if why != "" && !slices.Contains(reasons, why) {
			reasons = append(reasons, why)
		}
	}
	if len(reasons) == 0 {
		return notNow, nil
	}
	return strings.Join(reasons, "; "), nil
}

// notNow is the reason of a socket that would be accelerated.
const notNow = "a new socket would be accelerated: this one is older than the interface, came by the kernel, or has an option that only the kernel has"

func addrPortOf(e report.End) (netip.AddrPort, error) {
	if e.Address == "" || e.Address == "*" {
		return netip.AddrPortFrom(netip.Addr{}, e.Port), nil
	}
	a, err := netip.ParseAddr(e.Address)
	return netip.AddrPortFrom(a.Unmap(), e.Port), err
}
