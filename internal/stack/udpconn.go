package stack

import (
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/onload-go/onload/internal/control"
	"github.com/onload-go/onload/ip"
	"github.com/onload-go/onload/ring"
	"github.com/onload-go/onload/udp"
)

// UDPOptions qualify OpenUDP. The zero value is the defaults.
type UDPOptions struct {
	PortHeld       bool // the caller holds the kernel's port
	Shared         bool // others may have the port too (SO_REUSEPORT)
	RcvBuf, SndBuf int  // bytes; 0: defaultUDPBuf
	// Forward is the socket whose ReadFrom gets this one's datagrams: the
	// shards of a socket on several stacks.
	Forward *UDPConn
	IP      IPOptions // of the packets
	Segment int       // UDP_SEGMENT: writes are cut into datagrams of so many bytes; 0: they are not
	Joined  bool      // UDP_GRO
	// GroupsOnly leaves datagrams to this host alone to the kernel: the socket has
	// the port only for multicast groups, and for sending.
	GroupsOnly bool
	// Route is the route to the peer of a connected socket, if the caller has just
	// looked it up; nil: it is looked up here.
	Route *Route
}

// defaultUDPBuf is the kernel's rmem_default and wmem_default.
const defaultUDPBuf = 212992

// UDPConn is a UDP socket of a Stack, connected or not. All methods may be
// called at the same time from several goroutines. Errors are bare.
type UDPConn struct {
	s       *Stack
	local   netip.AddrPort
	remote  netip.AddrPort // zero: not connected
	forward *UDPConn
	rq      udp.Queue
	rqmu    sync.Mutex    // producers of other stacks, and Inject
	full    atomic.Uint64 // datagrams lost for want of room in rq
	scarce  atomic.Uint64 // and for want of frames

	// Under the stack lock.
	port                 *port
	keys                 []portKey
	hearing              Hearing // of what is bound
	flow                 flowKey
	dst                  *dst       // connected: of remote; else of the last destination
	named                bool       // dst is from an address that the caller named
	waiting              bool       // on Stack.udpWait
	sending, sendingLast ring.Frame // taken off sendq, not yet sent

	work   ring.Work
	sendq  ring.Mailbox // datagrams on their way, a chain of frames each
	queued atomic.Int64 // bytes of frames in sendq
	sndBuf atomic.Int64

	rmu    sync.Mutex
	wmu    sync.Mutex
	seg    int       // UDP_SEGMENT; under wmu
	ip     IPOptions // under wmu, and written under the stack lock too
	flood  flood
	r, w   waiter
	joined atomic.Bool // UDP_GRO
	closed atomic.Bool
	errno  atomic.Uint32 // pending ICMP error, reported once
	lost   atomic.Uint32 // connected: errno while there is no route, else 0
}

// OpenUDP opens a socket bound to local (as in ListenTCP), and connected to
// remote unless that is zero.
func (s *Stack) OpenUDP(local, remote netip.AddrPort, o *UDPOptions) (*UDPConn, error) {
	if o == nil {
		o = &UDPOptions{}
	}
	connected := remote.IsValid()
	route := o.Route
	if connected && (!local.Addr().IsValid() || local.Addr().IsUnspecified()) {
		var err error
		if route, err = s.route(route, o.IP.key(netip.AddrPortFrom(netip.Addr{}, local.Port()), remote, ip.ProtoUDP)); err != nil {
			return nil, err
		}
		if !route.Src.IsValid() {
			return nil, syscall.EADDRNOTAVAIL // the host has none of the family
		}
		if !o.PortHeld {
			if err := s.bindable(ip.ProtoUDP, local, remote, control.Sharing{Port: o.Shared}); err != nil {
				return nil, s.refusal(err)
			}
		}
		local = netip.AddrPortFrom(route.Src, local.Port())
	}
	u := &UDPConn{s: s, remote: remote, forward: o.Forward, ip: o.IP, sending: ring.NoFrame}
	if u.forward == nil {
		u.forward = u
	}
	u.work.Kind = ofUDPConn
	u.seg = o.Segment
	u.joined.Store(o.Joined)
	rcv, snd := o.RcvBuf, o.SndBuf
	if rcv <= 0 {
		rcv = defaultUDPBuf
	}
	if snd <= 0 {
		snd = defaultUDPBuf
	}
	u.rq.Init(s.arena, rcv)
	u.sndBuf.Store(int64(snd))
	var err error
	for range reserveTries {
		if err = s.openUDP(u, local, o, route); err != errFlowTaken || local.Port() != 0 {
			break
		}
	}
	switch err {
	case nil:
		return u, nil
	case errFlowTaken:
		err = syscall.EADDRINUSE
	}
	return nil, err
}

// openUDP reserves u's port and puts u into the demultiplexer. route may be nil.
func (s *Stack) openUDP(u *UDPConn, local netip.AddrPort, o *UDPOptions, route *Route) error {
	if o.GroupsOnly {
		u.local = local
		s.begin()
		defer s.end()
		if s.life.closing.Load() {
			return errClosed
		}
		s.groups.add(u)
		return nil
	}
	p, err := s.bindUDP(local, u.remote, o)
	if err != nil {
		return s.refusal(err)
	}
	u.port = p
	u.local = netip.AddrPortFrom(local.Addr(), p.number)
	s.begin()
	defer s.end()
	if err := s.insertUDP(u, u.remote.IsValid(), o.Shared, route); err != nil {
		s.ports.releaseLater(p)
		return err
	}
	return nil
}

// bindUDP reserves the port of a socket. If descriptors run short, a connected
// socket whose port is ours to choose gets a lone one.
func (s *Stack) bindUDP(local, remote netip.AddrPort, o *UDPOptions) (*port, error) {
	if !o.PortHeld {
		s.Vacate(ip.ProtoUDP, local)
	}
	if remote.IsValid() && local.Port() == 0 && !o.PortHeld && s.ports.full() {
		taken := func(local, remote netip.AddrPort, _ int64) bool {
			s.begin()
			defer s.end()
			_, other := s.demux.mates.owner(ip.ProtoUDP, local, remote)
			return other || s.demux.udpFlows[makeFlowKey(local, remote)] != nil
		}
		if p := s.ports.alone(localAddr{ip.ProtoUDP, local.Addr()}, remote, taken); p != nil {
			return p, nil
		}
	}
	return s.ports.bindLocal(ip.ProtoUDP, local, o.PortHeld, control.Sharing{Port: o.Shared})
}

// insertUDP puts u into the demultiplexer. route may be nil.
func (s *Stack) insertUDP(u *UDPConn, connected, shared bool, route *Route) error {
	if s.life.closing.Load() {
		return errClosed
	}
	s.demux.lastUDP = nil
	if connected {
		if u.dst = s.dests.get(u.ip.key(u.local, u.remote, ip.ProtoUDP), route, s.now); u.dst == nil {
			return syscall.ENETUNREACH
		}
		u.flow = makeFlowKey(u.local, u.remote)
		if s.demux.udpFlows[u.flow] != nil || !s.demux.mates.claim(ip.ProtoUDP, u.local, u.remote) {
			s.dests.unref(u.dst)
			return errFlowTaken
		}
		s.demux.addUDP(u)
		return nil
	}
	u.keys = portKeys(u.local)
	if !s.demux.udps.add(u.keys, u, shared) {
		return syscall.EADDRINUSE
	}
	s.groups.add(u)
	return nil
}

// LocalAddr is the address that the socket is bound to.
func (u *UDPConn) LocalAddr() netip.AddrPort { return u.local }

// RemoteAddr is the peer of a connected socket.
func (u *UDPConn) RemoteAddr() netip.AddrPort { return u.remote }

// Stack is the stack that carries the socket.
func (u *UDPConn) Stack() *Stack { return u.s }

// Link is the index of the interface that the packets of a connected socket leave
// by at present; for others, of the stack's first.
func (u *UDPConn) Link() int {
	u.s.begin()
	defer u.s.end()
	if u.dst == nil {
		return u.s.links[0].index
	}
	return u.dst.link()
}

// ready implements socket.
func (u *UDPConn) ready(d direction) bool {
	if u.closed.Load() || u.s.life.closing.Load() || u.errno.Load() != 0 || u.dead() != 0 {
		return true
	}
	if d == dirRead {
		return u.rq.Ready()
	}
	return u.queued.Load() < u.sndBuf.Load() || u.lost.Load() != 0
}

// fail has the next call return errno, as an ICMP error does on a connected
// socket.
func (u *UDPConn) fail(errno syscall.Errno) {
	u.errno.Store(uint32(errno))
	u.s.notify(&u.r)
	u.s.notify(&u.w)
}

// dead is the errno of a connected socket whose device failed, else 0. A socket
// that is only bound may have other ways than that device.
func (u *UDPConn) dead() syscall.Errno {
	if !u.remote.IsValid() {
		return 0
	}
	return syscall.Errno(u.s.life.down.Load())
}

// check returns the error that ends a call before it begins.
func (u *UDPConn) check(w *waiter) error {
	if u.Closed() {
		return errClosed
	}
	if w.over() {
		return os.ErrDeadlineExceeded
	}
	if e := u.dead(); e != 0 {
		return e
	}
	if u.errno.Load() != 0 {
		if e := u.errno.Swap(0); e != 0 {
			return syscall.Errno(e)
		}
	}
	return nil
}

// ReadFrom reads one datagram into p. n bytes were copied of the full that it
// has; dst is the address that it was sent to.
func (u *UDPConn) ReadFrom(p []byte) (n, full int, src, dst netip.AddrPort, err error) {
	var info udp.Info
	n, full, err = u.ReadInfo(p, &info)
	return n, full, info.Src, info.Dst, err
}

// ReadInfo is ReadFrom that also fills info.
func (u *UDPConn) ReadInfo(p []byte, info *udp.Info) (n, full int, err error) {
	u.rmu.Lock()
	for {
		var ok bool
		n, full, ok, err = u.readNow(p, info)
		if !ok && err == nil {
			u.paused()
			if err = u.s.wait(u, dirRead, &u.r); err == nil {
				continue
			}
		}
		u.rmu.Unlock()
		return n, full, err
	}
}

// TryRead is ReadInfo that does not wait. ok is false if nothing is there, or
// another goroutine reads, to which it belongs. If poll is true it looks at the
// queues first.
func (u *UDPConn) TryRead(p []byte, info *udp.Info, poll bool) (n, full int, ok bool, err error) {
	if !u.rmu.TryLock() {
		return 0, 0, false, nil
	}
	defer u.rmu.Unlock()
	if n, full, ok, err = u.readNow(p, info); ok || err != nil || !poll {
		return n, full, ok, err
	}
	u.s.pollOnce()
	return u.readNow(p, info)
}

// readNow is ReadInfo for a datagram that is there; ok reports whether one is.
// rmu is held.
func (u *UDPConn) readNow(p []byte, info *udp.Info) (n, full int, ok bool, err error) {
	if err = u.check(&u.r); err != nil {
		return
	}
	n, full, ok = u.rq.Read(p, info, u.joined.Load())
	if ok && u.s.life.closing.Load() {
		// A stack that was closed meanwhile has taken its frames away.
		*info = udp.Info{}
		return 0, 0, false, errClosed
	}
	return
}

// SetJoined sets whether datagrams that came as one are read as one
// (udp.Queue.Read, UDP_GRO).
func (u *UDPConn) SetJoined(on bool) { u.joined.Store(on) }

// Closed reports whether the socket, or its stack, is closed.
func (u *UDPConn) Closed() bool { return u.closed.Load() || u.s.life.closing.Load() }

// push queues a received datagram. It takes the frames of ds, or returns false.
func (u *UDPConn) push(ds []ring.Desc, info *udp.Info) bool {
	f := u.forward
	if f.s != u.s {
		return u.pass(f, ds, info)
	}
	ok := f.queue(ds, info)
	if ok {
		u.s.notify(&f.r)
	}
	return ok
}

// pass is push for the socket f of another stack. Frames of another arena are copied.
func (u *UDPConn) pass(f *UDPConn, ds []ring.Desc, info *udp.Info) bool {
	if f.s.arena == u.s.arena {
		ok := f.queue(ds, info)
		if ok {
			f.s.wake(&f.r)
		}
		return ok
	}
	ok := f.Inject(u.s.copyOut(ds), info)
	if ok {
		u.s.cache.FreeDescs(ds)
	}
	return ok
}

// minUDPBuf is what a socket may hold while memory is scarce: the kernel's
// udp_rmem_min.
const minUDPBuf = 4096

// queue is rq.Push for the producers of all stacks. Sockets that nobody reads must
// not take the frames that the others receive into. So data from peers leaves
// Reserve of them, as with TCP.
func (u *UDPConn) queue(ds []ring.Desc, info *udp.Info) bool {
	if free, r := u.s.arena.FreeFrames(), u.s.host.Reserve; free < r/8 || free < r && u.rq.Held() >= minUDPBuf {
		u.scarce.Add(1)
		u.s.counters.udpScarce.Add(1)
		return false
	}
	u.rqmu.Lock()
	ok := !u.closed.Load() && u.rq.Push(ds, info)
	u.rqmu.Unlock()
	if !ok {
		u.full.Add(1)
		u.s.counters.udpFull.Add(1)
	}
	return ok
}

// Drops returns how many received datagrams the socket has lost.
func (u *UDPConn) Drops() Drops {
	f := u.forward
	return Drops{Buffer: f.full.Load(), Memory: f.scarce.Load()}
}

// Inject has ReadFrom return a datagram that came another way, by the
// kernel's socket on the same port. false: it was dropped.
func (u *UDPConn) Inject(p []byte, info *udp.Info) bool {
	s := u.s
	if info.At == 0 {
		info.At = nanotime()
	}
	ds, ok := s.copyIn(p)
	if !ok {
		u.scarce.Add(1)
		s.counters.udpScarce.Add(1)
		return false
	}
	if !u.queue(ds, info) {
		for i := range ds {
			s.arena.Free(ds[i].Frame)
		}
		return false
	}
	u.s.wake(&u.r)
	return true
}

// Close closes the socket. Blocked calls return net.ErrClosed.
func (u *UDPConn) Close() error {
	if !u.closed.CompareAndSwap(false, true) {
		return errClosed
	}
	u.s.wake(&u.r)
	u.s.wake(&u.w)
	u.rmu.Lock()
	u.wmu.Lock()
	s := u.s
	s.begin()
	s.demux.lastUDP = nil
	var p *port
	if !s.life.closing.Load() {
		s.sendQueued(u)
		s.demux.udps.remove(u.keys, u)
		s.groups.remove(u)
		s.demux.removeUDP(u)
		s.dests.unref(u.dst)
		u.dst = nil
		p = u.port
		s.dropQueued(u)
	} else if s.shared() {
		s.takeQueued(u)
		s.dropQueued(u)
	}
	s.end()
	s.ports.release(p)
	u.rqmu.Lock()
	u.rq.Drain()
	u.rqmu.Unlock()
	u.r.stop()
	u.w.stop()
	u.wmu.Unlock()
	u.rmu.Unlock()
	return nil
}

func (u *UDPConn) deadline(t time.Time, ws ...*waiter) error {
	if u.closed.Load() {
		return errClosed
	}
	for _, w := range ws {
		u.s.setDeadline(w, t)
	}
	return nil
}

// SetDeadline sets both deadlines.
func (u *UDPConn) SetDeadline(t time.Time) error { return u.deadline(t, &u.r, &u.w) }

// SetReadDeadline sets when ReadFrom gives up; the zero Time is never.
func (u *UDPConn) SetReadDeadline(t time.Time) error { return u.deadline(t, &u.r) }

// SetWriteDeadline sets when WriteTo gives up; the zero Time is never.
func (u *UDPConn) SetWriteDeadline(t time.Time) error { return u.deadline(t, &u.w) }

// SetReadBuffer bounds the datagrams that wait for ReadFrom, in bytes of memory
// held.
func (u *UDPConn) SetReadBuffer(n int) error {
	if u.closed.Load() {
		return errClosed
	}
	u.rq.SetLimit(n)
	return nil
}

// SetWriteBuffer bounds the datagrams that wait for the device, in bytes of memory
// held. While nothing waits there is room for one datagram.
func (u *UDPConn) SetWriteBuffer(n int) error {
	if u.closed.Load() {
		return errClosed
	}
	u.sndBuf.Store(int64(max(n, 1)))
	u.s.wake(&u.w) // there may be room now, which sentDatagram does not see
	return nil
}
