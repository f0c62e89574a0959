package stack

import (
	"context"
	"errors"
	"net/netip"
	"syscall"

	"github.com/onload-go/onload/internal/control"
	"github.com/onload-go/onload/ip"
	"github.com/onload-go/onload/tcp"
)

// TCPOptions qualify DialTCP and ListenTCP. The zero value is the stack's
// defaults.
type TCPOptions struct {
	TCP      *tcp.Config     // nil: the stack's
	PortHeld bool            // the caller holds the kernel's port
	Twin     syscall.RawConn // the socket that does, of ListenTCP, unless nil
	Shared   bool            // others may have the port too (SO_REUSEPORT)
	// Unsteered leaves the packets of ListenTCP's port to the kernel until Steer: a
	// caller who listens on several stacks does so on all of them first.
	Unsteered bool
	// TwinServes says that the socket that holds ListenTCP's port may have connections,
	// or clients in the middle of a handshake: their segments are the kernel's.
	TwinServes bool
	// ReuseAddr has others with SO_REUSEADDR have the port of DialTCP too.
	ReuseAddr bool
	Backlog   int // of a listener; 0: 4096, as net's somaxconn here
	// Forward is the listener whose Accept gets this one's connections: the
	// shards of a listener on several stacks.
	Forward *TCPListener
	IP      IPOptions // of the packets
	// Route is the route to the peer of DialTCP, if the caller has just looked it
	// up; nil: it is looked up here.
	Route *Route
}

// sharing returns who else may have the port of DialTCP.
func (o *TCPOptions) sharing() control.Sharing {
	return control.Sharing{Addr: o.ReuseAddr, Port: o.Shared}
}

// Route is a route as a caller has found it in Config.Net.
type Route struct {
	control.Route
	Gen uint64 // Net.Gen before it was looked up: it counts only as long as that is so
	// Port is the local port that it was looked up for; 0: none was known.
	Port uint16
}

// DialTCP connects. If local has the zero Addr or port, the stack chooses. Errors
// are those of connect(2): ECONNREFUSED, EHOSTUNREACH, ENETUNREACH, ETIMEDOUT,
// EADDRINUSE, EADDRNOTAVAIL, else ctx's.
func (s *Stack) DialTCP(ctx context.Context, local, remote netip.AddrPort, o *TCPOptions) (*TCPConn, error) {
	if o == nil {
		o = &TCPOptions{}
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	route, err := s.route(o.Route, o.IP.key(local, remote, ip.ProtoTCP))
	if err != nil {
		return nil, err
	}
	if !local.Addr().IsValid() || local.Addr().IsUnspecified() {
		if !o.PortHeld {
			if err := s.bindable(ip.ProtoTCP, local, remote, o.sharing()); err != nil {
				return nil, s.refusal(err)
			}
		}
		local = netip.AddrPortFrom(route.Src, local.Port())
	}
	if _, ok := s.cfg.Net.Local(local.Addr()); !ok {
		return nil, syscall.EADDRNOTAVAIL
	}
	var c *TCPConn
	var deferred bool
	for range reserveTries {
		if c, deferred, err = s.open(local, remote, route, o); err != errFlowTaken || local.Port() != 0 {
			break
		}
	}
	if err == errFlowTaken || err == syscall.EADDRINUSE && local.Port() == 0 {
		err = syscall.EADDRNOTAVAIL // as connect(2) says if no port is left
	}
	if err != nil {
		return nil, err
	}
	if deferred {
		return c, nil
	}
	if err := s.awaitConnect(ctx, c); err != nil {
		_ = c.Close()
		return nil, err
	}
	return c, nil
}

// route returns known; if that is nil, it looks the route up.
func (s *Stack) route(known *Route, k dstKey) (*Route, error) {
	if known != nil {
		return known, nil
	}
	gen := s.cfg.Net.Gen()
	r, err := control.Connected(s.cfg.Net, k.flow())
	if err != nil {
		return nil, err
	}
	return &Route{r, gen, k.lport}, nil
}

// errFlowTaken: another goroutine has connected from the same port to the same
// peer in the meantime.
var errFlowTaken = errors.New("stack: the connection exists")

// open reserves a port and sends the SYN. deferred: that waits for the first
// data, with which it goes (RFC 7413).
func (s *Stack) open(local, remote netip.AddrPort, route *Route, o *TCPOptions) (c *TCPConn, deferred bool, err error) {
	cfg := o.TCP
	if cfg == nil {
		cfg = &s.cfg.TCP
	}
	var p *port
	if !o.PortHeld {
		s.Vacate(ip.ProtoTCP, local)
		// Holds the kernel's port and steers it to us, before the SYN leaves.
		p, err = s.bindDial(local, remote, route, o.sharing())
		if err != nil {
			return nil, false, s.refusal(err)
		}
		local = netip.AddrPortFrom(local.Addr(), p.number)
	}
	s.begin()
	defer s.end()
	if s.life.ending.Load() {
		s.ports.releaseLater(p)
		return nil, false, errClosed
	}
	if e := s.life.down.Load(); e != 0 {
		s.ports.releaseLater(p)
		return nil, false, syscall.Errno(e)
	}
	if s.demux.conn(local, remote) != nil || !s.reuseTimeWait(local, remote) {
		s.ports.releaseLater(p)
		return nil, false, errFlowTaken
	}
	d := s.dests.get(o.IP.key(local, remote, ip.ProtoTCP), route, s.now)
	if d == nil {
		s.ports.releaseLater(p)
		return nil, false, s.dests.why
	}
	if !s.demux.mates.claim(ip.ProtoTCP, local, remote) {
		s.dests.unref(d)
		s.ports.releaseLater(p)
		return nil, false, errFlowTaken
	}
	c = s.newTCPConn(d, local.Port(), remote.Port())
	c.port = p
	mine := *cfg
	mine.MTU = s.dests.mtuOf(d, s.now)
	with := &mine
	if m := d.metrics(); m != nil {
		with = mine.With(m, local.Addr())
	}
	c.tc.Init(s.host, c, with, local, remote)
	c.tc.SetTSO(d.on.tso)
	s.demux.addConn(c)
	c.tc.Connect(s.now)
	s.touch(c)
	s.counters.tcpDials.Add(1)
	return c, c.tc.Deferred(), nil
}

// flowTaken reports whether the connection exists, the kernel may have it, or it ended
// less than age nanoseconds ago. It takes the lock.
func (s *Stack) flowTaken(local, remote netip.AddrPort, age int64) bool {
	s.begin()
	tw := s.demux.timeWaitOf(local, remote)
	_, other := s.demux.mates.owner(ip.ProtoTCP, local, remote)
	taken := other || s.ports.leaving.hasMoved(local, remote, s.now) || s.demux.conn(local, remote) != nil || tw != nil && !tw.reusable(s.now, age)
	s.end()
	return taken || s.ports.excepted(local, remote)
}

// awaitConnect waits for the handshake, ctx, or the protocol's own timeout.
func (s *Stack) awaitConnect(ctx context.Context, c *TCPConn) error {
	if d, ok := ctx.Deadline(); ok {
		s.setDeadline(&c.w, d)
	}
	stop := func() bool { return true }
	if ctx.Done() != nil {
		stop = context.AfterFunc(ctx, func() { s.setDeadline(&c.w, past) })
		defer stop()
	}
	err := s.wait(connecting{c}, dirWrite, &c.w)
	switch {
	case err != nil && ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return context.DeadlineExceeded
	}
	if err := c.userError(); err != nil {
		return err
	}
	if err := c.failure(); err != nil {
		return err
	}
	// A stopped AfterFunc can no longer set a deadline, which would be that of the
	// first Write.
	if !stop() {
		return ctx.Err()
	}
	c.w.forget() // 144 bytes, and a writer seldom waits
	return nil
}
