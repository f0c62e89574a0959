package control

import (
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/ip"
)

// view is an immutable snapshot of links, addresses and routes.
type view struct {
	links  map[int]*viewLink
	byName map[string]int
	// owner maps each of our addresses to its link; an address of several
	// links (fe80::1) to the lowest.
	owner map[netip.Addr]int
	// fib holds the tables local, main and default in the order of the
	// standard policy rules, for IPv4 and IPv6.
	fib [2][3]table
	// ask says that the kernel has to be asked for routes, because there are
	// other policy rules or too many routes for this snapshot.
	ask [2]bool
}

type viewLink struct {
	Link
	addrs []address
}

// address is an address with the facts that the choice among several needs.
type address struct {
	netip.Prefix // the address itself with the length of its subnet
	scope        int
	secondary    bool
	deprecated   bool
	temporary    bool
}

// table is one routing table of one family.
type table struct {
	lengths []int // that occur, longest first
	routes  map[netip.Prefix][]fibRoute
}

// fibRoute is a route of one prefix. Several are ordered by metric.
type fibRoute struct {
	kind   int // RTN_*
	metric int
	src    netip.Addr
	mtu    int
	hops   []hop
}

type hop struct {
	link   int
	via    netip.Addr
	weight int
	dead   bool
}

const (
	inet4 = iota
	inet6
)

const (
	tableLocal = iota
	tableMain
	tableDefault
)

func newView() *view {
	return &view{links: map[int]*viewLink{}, byName: map[string]int{}, owner: map[netip.Addr]int{}}
}

func family(a netip.Addr) int {
	if a.Is4() {
		return inet4
	}
	return inet6
}

func (v *view) addLink(l Link) {
	v.links[l.Index] = &viewLink{Link: l}
	v.byName[l.Name] = l.Index
}

// addAddr adds a usable address to a link of the view.
func (v *view) addAddr(link int, a address) {
	l, ok := v.links[link]
	if !ok {
		return
	}
	l.addrs = append(l.addrs, a)
	l.Addrs = append(l.Addrs, a.Prefix)
	if first, ok := v.owner[a.Addr()]; !ok || link < first {
		v.owner[a.Addr()] = link
	}
}

func (t *table) add(dst netip.Prefix, r fibRoute) {
	if t.routes == nil {
		t.routes = map[netip.Prefix][]fibRoute{}
	}
	if !slices.Contains(t.lengths, dst.Bits()) {
		t.lengths = append(t.lengths, dst.Bits())
		slices.Sort(t.lengths)
		slices.Reverse(t.lengths)
	}
	rs := t.routes[dst]
	i := len(rs)
	for i > 0 && rs[i-1].metric > r.metric {
		i--
	}
	t.routes[dst] = slices.Insert(rs, i, r)
}

// has reports whether a is a usable address of the link.
func (l *viewLink) has(a netip.Addr) bool {
	return slices.ContainsFunc(l.Addrs, func(p netip.Prefix) bool { return p.Addr() == a })
}

// linkLocal reports whether the link has a usable link-local IPv6 address.
func (l *viewLink) linkLocal() bool {
	return slices.ContainsFunc(l.Addrs, func(p netip.Prefix) bool { return p.Addr().Is6() && p.Addr().IsLinkLocalUnicast() })
}

// local reports whether addr is ours.
func (v *view) local(addr netip.Addr) (link int, ok bool) {
	if addr.Zone() != "" {
		on, err := v.zone(addr)
		if err != nil {
			return 0, false
		}
		addr = addr.WithZone("")
		for _, p := range v.links[on].Addrs {
			if p.Addr() == addr {
				return on, true
			}
		}
		return 0, false
	}
	if link, ok := v.owner[addr]; ok {
		return link, true
	}
	// 127.0.0.0/8 and other prefixes that are local as a whole.
	r, h, err := v.fib[family(addr)][tableLocal].lookup(v, addr, addr, 0)
	if err != nil || r == nil || r.kind != unix.RTN_LOCAL {
		return 0, false
	}
	return h.link, true
}

// zone returns the link that the zone of a names.
func (v *view) zone(a netip.Addr) (int, error) {
	if i, ok := v.byName[a.Zone()]; ok {
		return i, nil
	}
	if i, err := strconv.Atoi(a.Zone()); err == nil {
		if _, ok := v.links[i]; ok {
			return i, nil
		}
	}
	return 0, syscall.ENODEV
}

// output returns the link that dst is bound to, 0 if none.
func (v *view) output(dst netip.Addr) (int, error) {
	if dst.Zone() != "" {
		return v.zone(dst)
	}
	if dst.Is6() && (dst.IsLinkLocalUnicast() || dst.IsLinkLocalMulticast()) {
		return 0, syscall.EINVAL
	}
	return 0, nil
}

// route looks dst up as the kernel does for a packet of our own.
func (v *view) route(dst, src netip.Addr) (Route, error) {
	oif, err := v.output(dst)
	if err != nil {
		return Route{}, err
	}
	dst = dst.WithZone("")
	if src = src.WithZone(""); src.IsUnspecified() {
		src = netip.Addr{}
	}
	if src.IsValid() {
		on, ok := v.local(src)
		if !ok {
			return Route{}, syscall.EADDRNOTAVAIL
		}
		if oif == 0 && (dst.IsMulticast() || dst == ip.Broadcast) {
			oif = on // the source address chooses the link
		}
	}
	if dst.IsUnspecified() {
		// connect(2) takes the unspecified address for the host itself.
		return v.toSelf(src, dst)
	}
	return v.forward(dst, src, oif)
}

func (v *view) toSelf(src, dst netip.Addr) (Route, error) {
	if !src.IsValid() {
		src = netip.AddrFrom4([4]byte{127, 0, 0, 1})
		if dst.Is6() {
			src = netip.IPv6Loopback()
		}
	}
	link, ok := v.local(src)
	if !ok {
		return Route{}, syscall.ENETUNREACH
	}
	return Route{Link: link, Src: src, NextHop: src, MTU: v.links[link].MTU, Local: true}, nil
}

// forward looks through the tables in the order of the standard rules.
func (v *view) forward(dst, src netip.Addr, oif int) (Route, error) {
	for i := range v.fib[family(dst)] {
		r, h, err := v.fib[family(dst)][i].lookup(v, dst, src, oif)
		if err == errThrow {
			continue
		}
		if err != nil {
			return Route{}, err
		}
		if r != nil {
			return v.answer(r, h, dst, src), nil
		}
	}
	if l := v.links[oif]; l != nil && l.Up && (dst.IsMulticast() || dst == ip.Broadcast || dst.IsLinkLocalUnicast()) {
		// A link that the caller named needs no route.
		return v.answer(&fibRoute{kind: unix.RTN_UNICAST}, hop{link: oif}, dst, src), nil
	}
	return Route{}, syscall.ENETUNREACH
}

// errThrow ends the search in one table (a route of type throw).
const errThrow = syscall.EAGAIN

// lookup finds the route with the longest prefix whose link is alive. It
// returns nil if there is none.
func (t *table) lookup(v *view, dst, src netip.Addr, oif int) (*fibRoute, hop, error) {
	for _, n := range t.lengths {
		p, err := dst.Prefix(n)
		if err != nil {
			continue
		}
		rs := t.routes[p]
		for i := range rs {
			r := &rs[i]
			switch r.kind {
			case unix.RTN_UNREACHABLE:
				return nil, hop{}, syscall.EHOSTUNREACH
			case unix.RTN_PROHIBIT:
				return nil, hop{}, syscall.EACCES
			case unix.RTN_BLACKHOLE:
				return nil, hop{}, syscall.EINVAL
			case unix.RTN_THROW:
				return nil, hop{}, errThrow
			}
			if h, ok := r.choose(v, dst, src, oif); ok {
				return r, h, nil
			}
		}
	}
	return nil, hop{}, nil
}

// choose picks one of the living next hops, always the same for a pair of
// addresses, in proportion to the weights.
func (r *fibRoute) choose(v *view, dst, src netip.Addr, oif int) (hop, bool) {
	total := 0
	for i := range r.hops {
		if r.alive(&r.hops[i], v, oif) {
			total += r.hops[i].weight
		}
	}
	if total == 0 {
		return hop{}, false
	}
	pick := 0
	if len(r.hops) > 1 {
		pick = int(hashPair(dst, src) % uint32(total))
	}
	for _, h := range r.hops {
		if !r.alive(&h, v, oif) {
			continue
		}
		if pick -= h.weight; pick < 0 {
			return h, true
		}
	}
	return hop{}, false
}

// alive reports whether h can be used now. Routes to our own addresses can be
// used even while their link is down.
func (r *fibRoute) alive(h *hop, v *view, oif int) bool {
	l := v.links[h.link]
	return l != nil && (r.kind == unix.RTN_LOCAL || !h.dead && l.Up) && (oif == 0 || oif == h.link)
}

// hashPair is FNV-1a over both addresses.
func hashPair(dst, src netip.Addr) uint32 {
	h := uint32(2166136261)
	for _, a := range [2]netip.Addr{dst, src} {
		b := a.As16()
		for _, c := range b {
			h = (h ^ uint32(c)) * 16777619
		}
	}
	return h ^ h>>16
}

// answer converts the result of lookup to a Route.
func (v *view) answer(r *fibRoute, h hop, dst, src netip.Addr) Route {
	l := v.links[h.link]
	out := Route{Link: h.link, Src: src, NextHop: dst, MTU: l.MTU}
	if r.mtu > 0 {
		out.MTU = min(r.mtu, l.MTU)
	}
	switch {
	case r.kind == unix.RTN_LOCAL || r.kind == unix.RTN_ANYCAST:
		out.Local = true
		if on, ok := v.owner[dst]; ok {
			out.Link = on
		}
		if !src.IsValid() {
			// A packet to ourselves has its destination as its source.
			out.Src = dst
			if r.kind == unix.RTN_ANYCAST {
				out.Src = v.source6(dst, h.link)
			} else if r.src.IsValid() {
				out.Src = r.src
			}
		}
		return out
	case dst.IsMulticast():
		out.Multicast = true
	case r.kind == unix.RTN_BROADCAST || dst == ip.Broadcast:
		out.Broadcast = true
	case h.via.IsValid():
		out.NextHop = h.via
	}
	if !src.IsValid() {
		out.Src = v.source(r, h, dst)
	}
	return out
}

// diff lists the changes from old. It is empty if there are none.
func (v *view) diff(old *view) (changes []Change) {
	for i, l := range v.links {
		was, ok := old.links[i]
		if !ok {
			was = &viewLink{}
		}
		a, b := l.Link, was.Link
		a.Addrs, b.Addrs = nil, nil
		if !ok || !reflect.DeepEqual(a, b) {
			changes = append(changes, Change{Kind: LinkChanged, Link: i})
		}
		changes = append(changes, diffAddrs(i, l.Addrs, was.Addrs)...)
	}
	for i, l := range old.links {
		if _, ok := v.links[i]; !ok {
			changes = append(changes, diffAddrs(i, nil, l.Addrs)...)
			changes = append(changes, Change{Kind: LinkGone, Link: i})
		}
	}
	// Address attributes (deprecated, order) alter routes' source addresses.
	if len(changes) > 0 || v.ask != old.ask || !reflect.DeepEqual(v.fib, old.fib) || !reflect.DeepEqual(v.links, old.links) {
		changes = append(changes, Change{Kind: RouteChanged})
	}
	return changes
}

func diffAddrs(link int, now, was []netip.Prefix) (changes []Change) {
	for _, p := range now {
		if !slices.Contains(was, p) {
			changes = append(changes, Change{AddrAdded, link, p.Addr()})
		}
	}
	for _, p := range was {
		if !slices.Contains(now, p) {
			changes = append(changes, Change{AddrRemoved, link, p.Addr()})
		}
	}
	return changes
}
