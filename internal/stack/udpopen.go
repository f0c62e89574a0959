package stack

import (
	"net/netip"
	"syscall"

	"github.com/onload-go/onload/internal/control"
	"github.com/onload-go/onload/ip"
	"github.com/onload-go/onload/ring"
)

// UDPOptions qualify OpenUDP. The zero value is the defaults.
type UDPOptions struct {
	PortHeld       bool            // the caller holds the kernel's port
	Twin           syscall.RawConn // the socket that does, unless nil
	Shared         bool            // others may have the port too (SO_REUSEPORT)
	Unsteered      bool            // the kernel gets the packets of the port until Steer
	RcvBuf, SndBuf int             // bytes; 0: defaultUDPBuf
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
		if o.Unsteered {
			return u, nil
		}
		if err = u.Steer(); err == nil {
			return u, nil
		}
		_ = u.Close()
	case errFlowTaken:
		err = syscall.EADDRINUSE
	}
	return nil, err
}

// Steer has the packets of the port come to the stack, unless they do already.
func (u *UDPConn) Steer() error {
	if u.port == nil { // UDPOptions.GroupsOnly
		return nil
	}
	return u.s.refusal(u.s.ports.addPort(u.port))
}

// openUDP reserves u's port and puts u into the demultiplexer. route may be nil.
func (s *Stack) openUDP(u *UDPConn, local netip.AddrPort, o *UDPOptions, route *Route) error {
	if o.GroupsOnly {
		u.local = local
		s.begin()
		defer s.end()
		if s.life.ending.Load() {
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
	return s.ports.take(ip.ProtoUDP, local, o.PortHeld, o.Twin, control.Sharing{Port: o.Shared})
}

// insertUDP puts u into the demultiplexer. route may be nil.
func (s *Stack) insertUDP(u *UDPConn, connected, shared bool, route *Route) error {
	if s.life.ending.Load() {
		return errClosed
	}
	s.demux.lastUDP = nil
	if connected {
		if u.dst = s.dests.get(u.ip.key(u.local, u.remote, ip.ProtoUDP), route, s.now); u.dst == nil {
			return s.dests.why
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
