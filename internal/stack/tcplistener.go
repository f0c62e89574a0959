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
	"github.com/onload-go/onload/tcp"
)

// TCPListener is a listening TCP socket of a Stack.
type TCPListener struct {
	s     *Stack
	tl    tcp.Listener
	cfg   tcp.Config
	ip    IPOptions
	addr  netip.AddrPort
	keys  []portKey
	port  *port
	timer ring.Timer

	departed  bool // under the stack lock
	finishing bool // likewise, see Finish

	forward *TCPListener // listener whose Accept gets the connections; usually itself

	closed atomic.Bool
	amu    sync.Mutex // one goroutine waits in Accept
	w      waiter

	qmu    sync.Mutex
	queue  []accepted
	queued atomic.Int32

	injected atomic.Uint64 // values that Inject was given
}

// accepted is an element of the queue for Accept: a connection of a stack, or a
// value that Inject was given.
type accepted struct {
	c        *TCPConn
	from     *TCPListener
	injected any
}

// defaultBacklog is net's: the kernel's somaxconn.
const defaultBacklog = 4096

// ListenTCP listens on local. 0.0.0.0 and :: mean all addresses of a family, the
// zero Addr those of both. For port 0 the kernel chooses.
func (s *Stack) ListenTCP(local netip.AddrPort, o *TCPOptions) (*TCPListener, error) {
	if o == nil {
		o = &TCPOptions{}
	}
	l := &TCPListener{s: s, cfg: s.cfg.TCP, ip: o.IP, forward: o.Forward}
	if o.TCP != nil {
		l.cfg = *o.TCP
	}
	if l.forward == nil {
		l.forward = l
	}
	if !o.PortHeld {
		s.Vacate(ip.ProtoTCP, local)
	}
	p, err := s.ports.take(ip.ProtoTCP, local, o.PortHeld, o.Twin, control.Sharing{Port: o.Shared})
	if err != nil {
		return nil, s.refusal(err)
	}
	l.port = p
	l.addr = netip.AddrPortFrom(local.Addr(), p.number)
	l.keys = portKeys(l.addr)
	l.timer.Kind = ofTCPListener
	if err := l.enter(o); err != nil {
		s.ports.release(p)
		return nil, err
	}
	if o.TwinServes {
		s.demux.twinsServe().Store(true) // before a segment comes
	}
	if o.Unsteered {
		return l, nil
	}
	if err := l.Steer(); err != nil {
		_ = l.Close()
		return nil, err
	}
	return l, nil
}

// enter puts l into the demultiplexer.
func (l *TCPListener) enter(o *TCPOptions) error {
	s := l.s
	s.begin()
	defer s.end()
	switch {
	case s.life.ending.Load():
		return errClosed
	case !s.demux.listeners.add(l.keys, l, o.Shared):
		return syscall.EADDRINUSE
	}
	backlog := o.Backlog
	if backlog <= 0 {
		backlog = defaultBacklog
	}
	l.tl.Init(s.host, l, &l.cfg, backlog)
	return nil
}

// Steer has the packets of the port come to the stack, unless they do already.
func (l *TCPListener) Steer() error { return l.s.refusal(l.s.ports.addPort(l.port)) }

// dst returns the destination of an answer and of the connection, counted; nil: there
// is no route. That of IPv6 does not depend on the listener's traffic class (Linux's
// inet6_csk_route_req).
func (l *TCPListener) dst(local, remote netip.AddrPort) *dst {
	k := l.ip.key(local, remote, ip.ProtoTCP)
	if !k.Remote.Is4() {
		k.routeTOS = 0
	}
	return l.s.dests.get(k, nil, l.s.now)
}

// Reply implements tcp.ListenOwner.
func (l *TCPListener) Reply(local, remote netip.AddrPort, pkt []ring.Desc, ecn uint8) bool {
	s := l.s
	d := l.dst(local, remote)
	if d == nil {
		return false
	}
	ok := s.send(d, s.rx.queue, pkt, ecn)
	s.dests.unref(d)
	return ok
}

// MTU implements tcp.ListenOwner: it is the route's.
func (l *TCPListener) MTU(local, remote netip.AddrPort) int {
	d := l.dst(local, remote)
	if d == nil {
		return 0
	}
	n := l.s.dests.mtuOf(d, l.s.now)
	l.s.dests.unref(d)
	return n
}

// Metrics implements tcp.MetricsOwner.
func (l *TCPListener) Metrics(local, remote netip.AddrPort) *tcp.Metrics {
	d := l.dst(local, remote)
	if d == nil {
		return nil
	}
	m := d.metrics()
	l.s.dests.unref(d)
	return m
}

// NewConn implements tcp.ListenOwner: the handshake is complete.
func (l *TCPListener) NewConn(local, remote netip.AddrPort) (*tcp.Conn, tcp.Owner) {
	s := l.s
	d := l.dst(local, remote)
	if d == nil {
		return nil, nil
	}
	if !s.demux.mates.claim(ip.ProtoTCP, local, remote) {
		s.dests.unref(d)
		return nil, nil
	}
	c := s.newTCPConn(d, local.Port(), remote.Port())
	c.qi = uint8(s.rx.queue)
	c.port = s.ports.share(l.port)
	s.demux.addConn(c)
	s.touch(c)
	s.counters.tcpAccepts.Add(1)
	return &c.tc, c
}

// Accepted implements tcp.ListenOwner.
func (l *TCPListener) Accepted(tc *tcp.Conn) {
	c := tc.Owner().(*TCPConn)
	tc.SetTSO(c.dst.on.tso)
	f := l.forward
	f.qmu.Lock()
	if f.closed.Load() {
		// Nobody will take it. We hold the lock, and end closes it.
		f.qmu.Unlock()
		l.tl.Taken(tc)
		c.tc.SetLinger(0)
		c.state.Or(stClosed)
		c.todo.Or(todoClose)
		l.s.lock.Post(&c.work)
		return
	}
	f.queue = append(f.queue, accepted{c: c, from: l})
	f.queued.Store(int32(len(f.queue)))
	f.qmu.Unlock()
	if f.s == l.s {
		l.s.notify(&f.w)
	} else {
		f.s.wake(&f.w)
	}
}

// Inject has Accept return v: a connection that came another way, by the
// kernel's listener on the same port. false: the listener is closed.
func (l *TCPListener) Inject(v any) bool {
	l.qmu.Lock()
	if l.closed.Load() {
		l.qmu.Unlock()
		return false
	}
	l.queue = append(l.queue, accepted{injected: v})
	l.queued.Store(int32(len(l.queue)))
	l.injected.Add(1)
	l.qmu.Unlock()
	l.s.wake(&l.w)
	return true
}

// Waiting is how many connections and injected values Accept could return at once.
func (l *TCPListener) Waiting() int { return int(l.queued.Load()) }

// Injected is how many values Inject was given.
func (l *TCPListener) Injected() uint64 { return l.injected.Load() }

// Counts returns how many connections may wait for Accept, how many are half open, and
// what the listener has counted: connections, and SYNs and ACKs that were dropped
// because as many were waiting.
func (l *TCPListener) Counts() (backlog, halfOpen int, accepted, overflows uint64) {
	l.s.begin()
	defer l.s.end()
	accepted, overflows = l.tl.Counts()
	return l.tl.Backlog(), l.tl.Embryonic(), accepted, overflows
}

// ready implements socket.
func (l *TCPListener) ready(direction) bool {
	return l.queued.Load() > 0 || l.closed.Load() || l.s.life.closing.Load()
}

func (l *TCPListener) pop() (a accepted, ok bool) {
	l.qmu.Lock()
	defer l.qmu.Unlock()
	if len(l.queue) == 0 {
		return accepted{}, false
	}
	a = l.queue[0]
	l.queue[0] = accepted{}
	if l.queue = l.queue[1:]; len(l.queue) == 0 {
		l.queue = nil
	}
	l.queued.Store(int32(len(l.queue)))
	return a, true
}

// Accept waits for the next connection. It is one of the stack's, in c, or a value
// that Inject was given.
func (l *TCPListener) Accept() (c *TCPConn, injected any, err error) {
	l.amu.Lock()
	defer l.amu.Unlock()
	for {
		if l.closed.Load() || l.s.life.closing.Load() {
			return nil, nil, errClosed
		}
		if l.w.timedOut() {
			return nil, nil, os.ErrDeadlineExceeded
		}
		if a, ok := l.pop(); ok {
			if a.c != nil {
				a.from.tl.Taken(&a.c.tc)
			}
			return a.c, a.injected, nil
		}
		if err := l.s.wait(l, dirRead, &l.w); err != nil {
			return nil, nil, err
		}
	}
}

// Finish leaves new clients to the kernel, whose listener has the port too. Handshakes
// that have begun go on: their last segments still come here.
func (l *TCPListener) Finish() {
	l.s.begin()
	l.finishing = true
	l.s.end()
}

// Opening reports whether handshakes have begun that may still complete.
func (l *TCPListener) Opening() bool {
	l.s.begin()
	defer l.s.end()
	return !l.departed && !l.s.life.closing.Load() && l.tl.Opens(l.s.now)
}

// Depart leaves clients to the kernel, but for those whose connections exist: its
// listener, or another process that shares the port, serves them. Close follows, when
// all listeners that forward to the same one have departed.
func (l *TCPListener) Depart() {
	l.s.begin()
	defer l.s.end()
	if !l.s.life.closing.Load() {
		l.depart()
	}
}

// depart is Depart for the holder of the lock. A second call does nothing.
func (l *TCPListener) depart() {
	if l.departed {
		return
	}
	l.departed = true
	s := l.s
	s.ports.depart(l.port, s.now)
	l.tl.Close(s.now)
	s.wheel.Stop(&l.timer)
	s.demux.listeners.remove(l.keys, l)
}

// Close stops listening, and resets the connections that nobody accepted.
func (l *TCPListener) Close() error {
	if !l.closed.CompareAndSwap(false, true) {
		return errClosed
	}
	s := l.s
	l.s.wake(&l.w)
	var p *port
	s.begin()
	if !s.life.closing.Load() {
		l.depart()
		p = l.port
	}
	s.end()
	s.ports.release(p)
	for {
		a, ok := l.pop()
		if !ok {
			break
		}
		if a.c != nil {
			_ = a.c.SetLinger(0)
			_ = a.c.Close()
		} else if k, ok := a.injected.(interface{ Close() error }); ok {
			_ = k.Close()
		}
	}
	l.w.stop()
	return nil
}

// HoldPort is called when the caller, which held the port of a closed listener
// (PortHeld), no longer does. While accepted connections live, the kernel must not
// give the port to others, whose clients would come to us.
func (l *TCPListener) HoldPort() { l.s.ports.rehold(l.port) }

// SetDeadline sets when Accept gives up; the zero Time is never.
func (l *TCPListener) SetDeadline(t time.Time) error {
	if l.closed.Load() {
		return errClosed
	}
	l.s.setDeadline(&l.w, t)
	return nil
}

// Addr is the address that the listener is bound to.
func (l *TCPListener) Addr() netip.AddrPort { return l.addr }
