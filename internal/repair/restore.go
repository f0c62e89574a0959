package repair

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/reinject"
	"github.com/onload-go/onload/tcp"
)

// Sizes of the pieces in which the queues are filled, in bytes. The kernel refuses one
// for which it finds no memory in one stretch (ENOMEM); half of it may do.
const (
	largestPiece = 64 << 10
	leastPiece   = 1 << 10
)

// isSix reports whether the connection's packets are of IPv6.
func isSix(c *tcp.Snapshot) bool { return !c.Local.Addr().Unmap().Is4() }

// Restore makes a socket of the kernel's that goes on with the connection c: in its
// state, with what is unread, unacknowledged and unsent, and with its options. The
// caller owns the descriptor, which is non-blocking and close-on-exec.
//
// The port may be held: by a listener, by a socket that was bound to keep it, by other
// connections. It is not held by the same connection: a socket of the kernel's for it
// is EADDRNOTAVAIL.
//
// When all is done that may fail, ready is called with the descriptor, unless it is nil:
// it may make something of the socket, and set options as net does, which those of c
// replace. If it fails, so does Restore. Then the socket goes on, and what was never
// sent leaves.
//
// After an error there is no socket, and no packet has left: the connection may go on
// where it was.
func Restore(c *tcp.Snapshot, ready func(fd int) error) (fd int, err error) {
	if err := check(c); err != nil {
		return -1, err
	}
	r, err := newRestoring(c, ready)
	if err != nil {
		return -1, err
	}
	defer r.done()
	if err := r.run(); err != nil {
		closeSilently(int(r.s))
		return -1, err
	}
	return int(r.s), nil
}

// check refuses what no connection can be.
func check(c *tcp.Snapshot) error {
	switch c.State {
	case tcp.Established, tcp.FinWait1, tcp.FinWait2, tcp.CloseWait, tcp.Closing, tcp.LastAck:
	default:
		return fmt.Errorf("%v: %w", c.State, tcp.ErrState)
	}
	l, r := c.Local.Addr().Unmap(), c.Remote.Addr().Unmap()
	if !l.IsValid() || l.Is4() != r.Is4() {
		return fmt.Errorf("%v and %v: %w", c.Local, c.Remote, unix.EAFNOSUPPORT)
	}
	return nil
}

// restoring is a socket on its way from a Snapshot.
type restoring struct {
	c      *tcp.Snapshot
	s      socket
	way    *reinject.Socket // nil: there is nothing to be heard
	ready  func(fd int) error
	rcvNxt uint32 // of the socket, until it hears the peer's FIN
}

// newRestoring opens what may be refused, before anything is done.
func newRestoring(c *tcp.Snapshot, ready func(fd int) error) (*restoring, error) {
	r := &restoring{c: c, rcvNxt: c.RcvNxt, ready: ready}
	if c.RecvFIN {
		r.rcvNxt--
	}
	if c.RecvFIN || c.State == tcp.FinWait2 {
		way, err := reinject.Open(isSix(c))
		if err != nil {
			return nil, err
		}
		r.way = way
	}
	family := unix.AF_INET
	if isSix(c) {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_TCP)
	if err != nil {
		r.done()
		return nil, os.NewSyscallError("socket", err)
	}
	r.s = socket(fd)
	return r, nil
}

func (r *restoring) done() {
	if r.way != nil {
		_ = r.way.Close()
	}
}

// run makes the socket the connection's. The order is the kernel's: options of the
// handshake after connect, FINs in the order in which they came, and the peer's window
// last, since nothing can leave before.
func (r *restoring) run() error {
	steps := []func() error{
		r.s.repair,
		func() error { return setRouted(int(r.s), r.c) },
		r.connect,
		r.handshake,
		r.received,
		r.sent,
		r.unsent,
		r.heard,
		r.call,
		func() error { return setOptions(int(r.s), r.c) },
		r.live,
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// connect gives the socket its ends and its sequence numbers. No packet is sent. In
// repair the kernel lets it have a port that others hold (SK_FORCE_REUSE).
func (r *restoring) connect() error {
	c, s := r.c, r.s
	local, err := sockaddr(c.Local)
	if err != nil {
		return err
	}
	remote, err := sockaddr(c.Remote)
	if err != nil {
		return err
	}
	if err := unix.Bind(int(s), local); err != nil {
		return os.NewSyscallError("bind", err)
	}
	first := c.SndUna
	if c.State == tcp.FinWait2 {
		first-- // our FIN, which is to be acknowledged again
	}
	if err := s.setSeq(sendQueue, first); err != nil {
		return err
	}
	if err := s.setSeq(recvQueue, r.rcvNxt-uint32(len(c.Recv))); err != nil {
		return err
	}
	// Only before connect the peer's MSS decides the size of the first segments too.
	if mss := peerMSS(c); mss != 0 {
		if err := s.set(unix.TCP_MAXSEG, int(mss)); err != nil {
			return err
		}
	}
	return os.NewSyscallError("connect", unix.Connect(int(s), remote))
}

// peerMSS is what TCP_MAXSEG takes (net/ipv4/tcp.c: 88 to 32,767), 0 where nothing is
// known.
func peerMSS(c *tcp.Snapshot) uint16 {
	if c.PeerMSS == 0 {
		return 0
	}
	return min(max(c.PeerMSS, 88), 32767)
}

// handshake sets what the SYNs agreed on.
func (r *restoring) handshake() error {
	c, s := r.c, r.s
	var o []unix.TCPRepairOpt
	if c.SACK {
		o = append(o, unix.TCPRepairOpt{Code: unix.TCPOPT_SACK_PERMITTED})
	}
	if c.SndScale >= 0 {
		o = append(o, unix.TCPRepairOpt{Code: unix.TCPOPT_WINDOW, Val: uint32(c.SndScale) | uint32(max(c.RcvScale, 0))<<16})
	}
	if c.Timestamps {
		o = append(o, unix.TCPRepairOpt{Code: unix.TCPOPT_TIMESTAMP})
	}
	if mss := peerMSS(c); mss != 0 {
		o = append(o, unix.TCPRepairOpt{Code: unix.TCPOPT_MAXSEG, Val: uint32(mss)})
	}
	if len(o) > 0 {
		if err := unix.SetsockoptTCPRepairOpt(int(s), unix.IPPROTO_TCP, unix.TCP_REPAIR_OPTIONS, o); err != nil {
			return os.NewSyscallError("setsockopt TCP_REPAIR_OPTIONS", err)
		}
	}
	if !c.Timestamps {
		return nil
	}
	// The lowest bit would choose microseconds (Linux 6.7). The clock must not go back.
	return s.set(unix.TCP_TIMESTAMP, int(int32((c.TSVal+1)&^1)))
}

// received fills the receive queue.
func (r *restoring) received() error { return r.fill(recvQueue, r.c.Recv) }

// sent fills the send queue with what is not acknowledged. Our FIN is part of it, if it
// was sent before the peer's came.
func (r *restoring) sent() error {
	c := r.c
	if err := r.fill(sendQueue, c.Send[:c.InFlight()]); err != nil {
		return err
	}
	if (c.FINSent() || c.State == tcp.FinWait2) && c.State != tcp.LastAck {
		return r.sentFIN()
	}
	return nil
}

// sentFIN puts our FIN behind the send queue, as one that was sent: in repair nothing
// leaves, and all that is queued counts as sent.
func (r *restoring) sentFIN() error {
	if err := r.s.queue(sendQueue); err != nil {
		return err
	}
	return os.NewSyscallError("shutdown", unix.Shutdown(int(r.s), unix.SHUT_WR))
}

// unsent fills the send queue with what was never sent: out of repair, with a window of
// the peer's that is shut.
func (r *restoring) unsent() error {
	c := r.c
	if err := r.s.resume(); err != nil {
		return err
	}
	if err := r.write(c.Send[c.InFlight():]); err != nil {
		return err
	}
	if c.SendFIN && !c.FINSent() && c.State != tcp.LastAck {
		if err := unix.Shutdown(int(r.s), unix.SHUT_WR); err != nil {
			return os.NewSyscallError("shutdown", err)
		}
	}
	return r.s.repair()
}

// heard has the socket hear the peer's FIN, and the acknowledgement of ours.
func (r *restoring) heard() error {
	c := r.c
	if r.way != nil {
		if err := r.s.setWindow(c, r.rcvNxt, true); err != nil {
			return err
		}
		if err := r.s.resume(); err != nil {
			return err
		}
		flags, want := tcp.Flags(0), c.State
		if c.RecvFIN {
			flags = tcp.FlagFIN
		}
		if c.State == tcp.LastAck {
			want = tcp.CloseWait // our FIN came after it
		}
		if err := r.s.hear(r.way, c, r.rcvNxt, c.SndUna, flags, want); err != nil {
			return err
		}
		r.rcvNxt = c.RcvNxt
		if err := r.s.repair(); err != nil {
			return err
		}
	}
	if c.State != tcp.LastAck {
		return nil
	}
	if c.FINSent() {
		return r.sentFIN()
	}
	if err := r.s.resume(); err != nil { // it is queued, and the window is shut
		return err
	}
	if err := unix.Shutdown(int(r.s), unix.SHUT_WR); err != nil {
		return os.NewSyscallError("shutdown", err)
	}
	return r.s.repair()
}

// call calls ready. No queue is chosen: options that have the kernel send would have it
// count what waits as sent.
func (r *restoring) call() error {
	if err := r.s.queue(noQueue); err != nil || r.ready == nil {
		return err
	}
	return r.ready(int(r.s))
}

// live opens the peer's window and ends repair. What was never sent leaves now.
func (r *restoring) live() error {
	c, s := r.c, r.s
	if err := s.setWindow(c, r.rcvNxt, false); err != nil {
		return err
	}
	if c.ReadClosed {
		if err := unix.Shutdown(int(s), unix.SHUT_RD); err != nil {
			return os.NewSyscallError("shutdown", err)
		}
	}
	if err := s.resume(); err != nil {
		return err
	}
	// TCP_NODELAY has the kernel send what waits (net/ipv4/tcp.c,
	// __tcp_sock_set_nodelay). Neither call fails on such a socket, and packets may
	// have left.
	_ = s.set(unix.TCP_NODELAY, 1)
	if !c.Options.NoDelay {
		_ = s.set(unix.TCP_NODELAY, 0)
	}
	return nil
}

// fill puts p into queue q of a socket in repair.
func (r *restoring) fill(q int, p []byte) error {
	if len(p) == 0 {
		return nil
	}
	if err := r.s.queue(q); err != nil {
		return err
	}
	return r.write(p)
}

// write sends p, in smaller pieces where the kernel has no memory for large ones.
func (r *restoring) write(p []byte) error {
	for piece := largestPiece; len(p) > 0; {
		n, err := unix.SendmsgN(int(r.s), p[:min(piece, len(p))], nil, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.ENOMEM) && piece > leastPiece:
			piece /= 2
		case err != nil:
			return os.NewSyscallError("sendmsg", err)
		default:
			p = p[n:]
		}
	}
	return nil
}
