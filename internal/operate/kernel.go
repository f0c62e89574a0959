package operate

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/inspect/ask"
	"github.com/onload-go/onload/internal/inspect/report"
)

// kernelStates are ss's words for the kernel's states (include/net/tcp_states.h).
var kernelStates = [...]string{
	1: "ESTAB", 2: "SYN-SENT", 3: "SYN-RECV", 4: "FIN-WAIT-1", 5: "FIN-WAIT-2", 6: "TIME-WAIT",
	7: "UNCONN", 8: "CLOSE-WAIT", 9: "LAST-ACK", 10: "LISTEN", 11: "CLOSING", 12: "SYN-RECV",
}

// inNetNS calls f in the network namespace of a process.
func inNetNS(pid int, f func() error) error {
	theirs, err := os.Readlink(procFile(pid, "ns/net"))
	if err != nil {
		return err
	}
	if own, err := os.Readlink("/proc/thread-self/ns/net"); err == nil && own == theirs {
		return f()
	}
	return inNetNSAt(procFile(pid, "ns/net"), f)
}

// inNetNSAt calls f in the network namespace of a file.
func inNetNSAt(path string, f func() error) error {
	ns, err := os.Open(path)
	if err != nil {
		return err
	}
	defer ns.Close()
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // the thread ends with the goroutine
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- &os.PathError{Op: "setns", Path: path, Err: err}
			return
		}
		done <- f()
	}()
	return <-done
}

// kernelSockets are the TCP and UDP sockets that a process has of the kernel.
func kernelSockets(pid int) (l []report.Socket, err error) {
	inodes, err := socketInodes(pid)
	if err != nil {
		return nil, err
	}
	if len(inodes) == 0 {
		return nil, nil
	}
	err = inNetNS(pid, func() (err error) {
		l, err = kernelSocketsHere(inodes)
		return err
	})
	return l, err
}

// kernelSocketsHere are those of this thread's network namespace that have these inodes.
func kernelSocketsHere(inodes map[uint32]bool) (l []report.Socket, err error) {
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		tcps, err := netlink.SocketDiagTCPInfo(family)
		if err != nil {
			return nil, err
		}
		for _, t := range tcps {
			if s := t.InetDiagMsg; s != nil && inodes[s.INode] {
				l = append(l, kernelTCP(s, t.TCPInfo))
			}
		}
		udps, err := netlink.SocketDiagUDPInfo(family)
		if err != nil {
			return nil, err
		}
		for _, u := range udps {
			if s := u.InetDiagMsg; s != nil && inodes[s.INode] {
				l = append(l, kernelSocket("udp", s))
			}
		}
	}
	return l, nil
}

func kernelSocket(proto string, s *netlink.Socket) report.Socket {
	x := report.Socket{Proto: proto, State: "UNKNOWN", Carrier: "kernel", RecvQ: int(s.RQueue), SendQ: int(s.WQueue),
		Local: kernelEnd(s.ID.Source, s.ID.SourcePort)}
	if int(s.State) < len(kernelStates) && kernelStates[s.State] != "" {
		x.State = kernelStates[s.State]
	}
	if s.ID.DestinationPort != 0 {
		x.Peer = kernelEnd(s.ID.Destination, s.ID.DestinationPort)
	}
	if names := [...]string{"", "on", "keepalive", "timewait", "persist"}; s.Timer > 0 && int(s.Timer) < len(names) {
		x.Timer = &report.Timer{Name: names[s.Timer], Left: time.Duration(s.Expires) * time.Millisecond, Tries: int(s.Retrans)}
	}
	return x
}

func kernelEnd(ip net.IP, port uint16) report.End {
	a, ok := netip.AddrFromSlice(ip)
	if !ok {
		return report.End{Address: "*", Port: port}
	}
	return report.End{Address: a.Unmap().String(), Port: port}
}

func kernelTCP(s *netlink.Socket, i *netlink.TCPInfo) report.Socket {
	x := kernelSocket("tcp", s)
	if i == nil || x.State == "LISTEN" {
		return x
	}
	us := func(n uint32) time.Duration { return time.Duration(n) * time.Microsecond }
	mss := int(i.Snd_mss)
	x.Info = &report.TCPInfo{
		SendMSS: mss, RecvMSS: int(i.Rcv_mss), PathMTU: int(i.Pmtu), SendScale: -1, RecvScale: -1,
		Timestamps: i.Options&1 != 0, SACK: i.Options&2 != 0, ECN: i.Options&8 != 0, FastOpened: i.Options&32 != 0,
		RTO: us(i.Rto), RTT: us(i.Rtt), RTTVar: us(i.Rttvar), MinRTT: us(i.Min_rtt),
		Cwnd: int(i.Snd_cwnd) * mss, Ssthresh: 1<<32 - 1, SendWindow: int(i.Snd_wnd), RecvWindow: int(i.Rcv_space),
		Unsent: int(i.Notsent_bytes), InFlight: int(i.Unacked) * mss, SACKed: int(i.Sacked) * mss, Lost: int(i.Lost) * mss,
		Reordering: int(i.Reordering), Retransmits: int(i.Retransmits), Backoff: int(i.Backoff), TotalRetrans: int(i.Total_retrans),
		BytesSent: i.Bytes_sent, BytesRetrans: i.Bytes_retrans, BytesAcked: i.Bytes_acked, BytesReceived: i.Bytes_received,
		SegsIn: i.Segs_in, SegsOut: i.Segs_out, SinceReceived: time.Duration(i.Last_data_recv) * time.Millisecond,
		DeliveryRate: float64(i.Delivery_rate), Limit: "unknown",
	}
	if i.Snd_ssthresh < 1<<31-1 {
		x.Info.Ssthresh = int(i.Snd_ssthresh) * mss
	}
	return x
}

// whyAtATime is how many flows one question has.
const whyAtATime = 200

// besideStack is the reason of a kernel's socket that stands beside one of a stack.
const besideStack = "it stands beside the stack's socket, and has what comes by the kernel"

// sinks are the addresses of an engine's own sockets, by which it takes packets from
// interfaces that are not accelerated (internal/inlet).
var sinks = []string{"192.0.0.8", "100::8"}

const ofInlet = "it is the engine's own: packets that come by other interfaces"

// kernelSocketsWhy are the kernel's sockets of a process, each with the reason why it is
// the kernel's. stacks are those of its stacks.
func kernelSocketsWhy(p *ask.Process, stacks []report.Socket) ([]report.Socket, error) {
	l, err := kernelSockets(p.PID)
	if err != nil {
		if errors.Is(err, os.ErrPermission) {
			err = fmt.Errorf("sockets that the kernel carries for process %d are not listed: %w", p.PID, err)
		}
		return nil, err
	}
	var asked []int
	var flows []report.Flow
	for i := range l {
		x := &l[i]
		if x.Peer == (report.End{}) && slices.ContainsFunc(stacks, func(s report.Socket) bool {
			return s.Proto == x.Proto && s.Local.Port == x.Local.Port
		}) {
			x.Reason = besideStack
			continue
		}
		if slices.Contains(sinks, x.Local.Address) {
			x.Reason = ofInlet
			continue
		}
		asked, flows = append(asked, i), append(flows, report.Flow{Proto: x.Proto, Local: x.Local, Peer: x.Peer})
	}
	for len(flows) > 0 {
		n := min(len(flows), whyAtATime)
		why, err := ask.One[report.Why](p, report.KindWhy, &report.WhyArgs{Flows: flows[:n]})
		if err != nil {
			return l, err
		}
		for i, reason := range why.Reasons[:min(n, len(why.Reasons))] {
			l[asked[i]].Reason = reason
		}
		flows, asked = flows[n:], asked[n:]
	}
	return l, nil
}
