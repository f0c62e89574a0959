package control

import (
	"net/netip"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// StaticRoute is a route of a Static network.
type StaticRoute struct {
	Dst     netip.Prefix
	Link    int
	Gateway netip.Addr // zero: dst is on the link itself
	Src     netip.Addr // zero: chosen by the rules
	MTU     int        // 0: the link's
}

// Static is a Network by configuration, for links that the kernel does not
// know and for tests. Its methods may be used at any time. A method that makes
// a change returns after the subscribers have seen it.
type Static struct {
	mirror

	// OnResolve, if set before first use, is called by Resolve. It may answer
	// with SetNeighbor or FailNeighbor, but from another goroutine. Without
	// it an unknown neighbour is reported as failed.
	OnResolve func(link int, addr netip.Addr)
	// OnConfirm and OnDoubt, if set before first use, are called by Confirm and Doubt.
	OnConfirm, OnDoubt func(link int, addr netip.Addr)

	mu     sync.Mutex
	links  map[int]Link
	old    map[netip.Addr]bool // deprecated addresses
	routes []StaticRoute
	wg     sync.WaitGroup
}

var _ Network = (*Static)(nil)

// NewStatic returns a network of the given links, each with routes to the
// subnets of its Addrs.
func NewStatic(links ...Link) *Static {
	s := &Static{links: map[int]Link{}, old: map[netip.Addr]bool{}}
	s.init()
	for _, l := range links {
		s.links[l.Index] = l
	}
	s.rebuild()
	return s
}

// Route implements Network.
func (s *Static) Route(f Flow) (Route, error) {
	v := s.view.Load()
	if f.Link == 0 && f.Dst.IsLinkLocalMulticast() && f.Dst.Zone() == "" && f.Src.IsValid() {
		f.Link, _ = v.local(f.Src.WithZone("")) // there is no IPV6_MULTICAST_IF that could name the link
	}
	f, oif, err := v.bind(f)
	if err != nil {
		return Route{}, err
	}
	r, err := v.route(f, oif)
	r.linkMTU = false // nobody asks
	return r, err
}

// SetLink adds a link, or replaces the one with the same index.
func (s *Static) SetLink(l Link) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.links[l.Index] = l
	s.rebuild()
}

// DelLink removes a link with all its addresses and routes.
func (s *Static) DelLink(index int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.links, index)
	s.routes = slices.DeleteFunc(s.routes, func(r StaticRoute) bool { return r.Link == index })
	s.rebuild()
}

// Deprecate has an address not be chosen for new flows if there is another one, or be
// chosen again (RFC 4862, 5.5.4).
func (s *Static) Deprecate(a netip.Addr, old bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.old[a] == old {
		return
	}
	if s.old[a] = old; !old {
		delete(s.old, a)
	}
	s.rebuild()
}

// AddRoute adds a route.
func (s *Static) AddRoute(r StaticRoute) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r.Dst = r.Dst.Masked()
	s.routes = append(s.routes, r)
	s.rebuild()
}

// SetRoutes gives a link these routes instead of those that it has.
func (s *Static) SetRoutes(link int, routes []StaticRoute) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.routes = slices.DeleteFunc(s.routes, func(r StaticRoute) bool { return r.Link == link })
	for _, r := range routes {
		r.Link, r.Dst = link, r.Dst.Masked()
		s.routes = append(s.routes, r)
	}
	s.rebuild()
}

// DelRoute removes the routes to dst.
func (s *Static) DelRoute(dst netip.Prefix) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.routes = slices.DeleteFunc(s.routes, func(r StaticRoute) bool { return r.Dst == dst.Masked() })
	s.rebuild()
}

// rebuild publishes the configuration, with s.mu held.
func (s *Static) rebuild() {
	v := newView()
	for _, l := range s.links {
		addrs := l.Addrs
		l.Addrs = nil
		v.addLink(l)
		for _, p := range addrs {
			a := address{Prefix: p, deprecated: s.old[p.Addr()]}
			if p.Addr().IsLinkLocalUnicast() {
				a.scope = unix.RT_SCOPE_LINK
			}
			v.addAddr(l.Index, a)
			self := netip.PrefixFrom(p.Addr(), p.Addr().BitLen())
			on := hop{link: l.Index}
			v.fib[family(p.Addr())][tableLocal].add(self, fibRoute{kind: unix.RTN_LOCAL, hop: on})
			if last, ok := lastOf(p); ok {
				v.fib[inet4][tableLocal].add(last, fibRoute{kind: unix.RTN_BROADCAST, src: p.Addr(), hop: on})
			}
			subnet := fibRoute{kind: unix.RTN_UNICAST, hop: on}
			if p.Addr().Is4() {
				subnet.src = p.Addr()
			}
			v.fib[family(p.Addr())][tableMain].add(p.Masked(), subnet)
		}
	}
	for _, r := range s.routes {
		v.fib[family(r.Dst.Addr())][tableMain].add(r.Dst, fibRoute{
			kind: unix.RTN_UNICAST, src: r.Src, mtu: r.MTU,
			hop: hop{link: r.Link, via: r.Gateway},
		})
	}
	s.publish(v)
}

// lastOf returns the broadcast address of an IPv4 subnet that has one.
func lastOf(p netip.Prefix) (netip.Prefix, bool) {
	if !p.Addr().Is4() || p.Bits() > 30 || p.Addr().IsLoopback() {
		return netip.Prefix{}, false
	}
	b := p.Addr().As4()
	for i := p.Bits(); i < 32; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	return netip.PrefixFrom(netip.AddrFrom4(b), 32), true
}

// SetNeighbor makes a neighbour known.
func (s *Static) SetNeighbor(link int, addr netip.Addr, mac [6]byte) {
	s.learn(neighborEvent{neighborKey: neighborKey{link, addr.WithZone("")}, mac: mac, usable: true})
}

// Known reports a neighbour again that has not changed, to those who asked for it.
func (s *Static) Known(link int, addr netip.Addr) {
	s.notify([]Change{{NeighborUp, link, addr.WithZone("")}})
}

// FailNeighbor makes a neighbour unknown, and reports that it does not answer.
func (s *Static) FailNeighbor(link int, addr netip.Addr) {
	s.learn(neighborEvent{neighborKey: neighborKey{link, addr.WithZone("")}, final: true})
}

func (s *Static) learn(e neighborEvent) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.applyNeighbors([]neighborEvent{e}, false)
}

// Resolve implements Network.
func (s *Static) Resolve(link int, addr netip.Addr) {
	if s.OnResolve != nil {
		s.OnResolve(link, addr)
		return
	}
	addr = addr.WithZone("")
	s.wg.Go(func() {
		if _, ok := s.Neighbor(link, addr); ok {
			s.notify([]Change{{NeighborUp, link, addr}})
		} else {
			s.FailNeighbor(link, addr)
		}
	})
}

// Confirm implements Network. Entries of a Static network do not age by themselves.
func (s *Static) Confirm(link int, addr netip.Addr) {
	if s.OnConfirm != nil {
		s.OnConfirm(link, addr)
	}
}

// Doubt implements Network.
func (s *Static) Doubt(link int, addr netip.Addr) {
	if s.OnDoubt != nil {
		s.OnDoubt(link, addr)
	}
}

// Close implements Network.
func (s *Static) Close() error {
	s.wg.Wait()
	return nil
}
