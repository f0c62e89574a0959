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
	// ask says that only the kernel can answer for a family: there are other
	// policy rules, too many routes, or routes that ask for a TOS.
	ask [2]bool
	// partial says that a family has routes that only the kernel can answer for.
	partial [2]bool
	// ports says that a family's answers may depend on ports.
	ports [2]bool
	// byFlow says that a family has policy rules by port or TOS, or routes by TOS.
	byFlow [2]bool
	// localLate says that a family has a rule before that of the local table, so that
	// packets to our own addresses may not be ours.
	localLate [2]bool
	// settled is dumper.settled: what is read of settings later may differ.
	settled int
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
	hop    hop
	// unsure says that only the kernel knows which next hop it takes: there are
	// several, or nexthop objects, or the link is without carrier.
	unsure bool
	// assumed is Route.Assumed, of the kernel's answer.
	assumed bool
	expires int32 // after so many ticks the kernel's answer may change; 0: unknown
	Metrics
}

type hop struct {
	link int
	via  netip.Addr
	dead bool
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
	r, err := v.fib[family(addr)][tableLocal].lookup(v, addr, 0)
	if err != nil || r == nil || r.kind != unix.RTN_LOCAL {
		return 0, false
	}
	return r.hop.link, true
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

// bind prepares a look-up: it checks the source, and returns the flow without
// zones and the link that it is bound to, 0 if none.
func (v *view) bind(f Flow) (Flow, int, error) {
	oif := f.Link
	if oif == 0 || f.Dst.Zone() != "" {
		on, err := v.output(f.Dst)
		if err != nil {
			return f, 0, err
		}
		if oif == 0 {
			oif = on
		}
	}
	f.Dst = f.Dst.WithZone("")
	if f.Src = f.Src.WithZone(""); f.Src.IsUnspecified() {
		f.Src = netip.Addr{}
	}
	if f.Src.IsValid() {
		on, ok := v.local(f.Src)
		if !ok {
			return f, 0, syscall.EADDRNOTAVAIL
		}
		if oif == 0 && (f.Dst.IsMulticast() || f.Dst == ip.Broadcast) {
			oif = on // the source address chooses the link
		}
	}
	return f, oif, nil
}

// route looks a flow up as the kernel does for a packet of our own, or returns
// errAsk.
func (v *view) route(f Flow, oif int) (Route, error) {
	if f.Dst.IsUnspecified() {
		// connect(2) takes the unspecified address for the host itself.
		return v.toSelf(f.Src, f.Dst)
	}
	return v.forward(f.Dst, f.Src, oif)
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

// forward searches the tables in the order of the standard rules.
func (v *view) forward(dst, src netip.Addr, oif int) (Route, error) {
	if v.ask[family(dst)] {
		return Route{}, errAsk
	}
	for i := range v.fib[family(dst)] {
		r, err := v.fib[family(dst)][i].lookup(v, dst, oif)
		if err == errThrow {
			continue
		}
		if err != nil {
			return Route{}, err
		}
		if r == nil {
			continue
		}
		if v.mayFail(r, dst, i) {
			return Route{}, errAsk
		}
		return v.answer(r, dst, src), nil
	}
	if l := v.links[oif]; l != nil && l.Up && (dst.IsMulticast() || dst == ip.Broadcast || dst.IsLinkLocalUnicast()) {
		// A link that the caller named needs no route.
		return v.answer(&fibRoute{kind: unix.RTN_UNICAST, hop: hop{link: oif}}, dst, src), nil
	}
	return Route{}, syscall.ENETUNREACH
}

const (
	// errThrow ends the search in one table (a route of type throw).
	errThrow = syscall.EAGAIN
	// errAsk says that only the kernel knows the answer.
	errAsk = syscall.EINPROGRESS
)

// lookup finds the route with the longest prefix whose link is alive. It
// returns nil if there is none.
func (t *table) lookup(v *view, dst netip.Addr, oif int) (*fibRoute, error) {
	for _, n := range t.lengths {
		p, err := dst.Prefix(n)
		if err != nil {
			continue
		}
		rs := t.routes[p]
		for i := range rs {
			r := &rs[i]
			if r.unsure { // also of a kind that fails, beside another (markEqual)
				return nil, errAsk
			}
			switch r.kind {
			case unix.RTN_UNREACHABLE:
				return nil, syscall.EHOSTUNREACH
			case unix.RTN_PROHIBIT:
				return nil, syscall.EACCES
			case unix.RTN_BLACKHOLE:
				return nil, syscall.EINVAL
			case unix.RTN_THROW:
				return nil, errThrow
			}
			if r.alive(v, oif) {
				return r, nil
			}
		}
	}
	return nil, nil
}

// mayFail reports whether the kernel may have given up r, of table i, for another
// route to dst. For IPv6 it passes over gateways that do not answer if there is
// another way (RFC 4861, section 6.3.6).
func (v *view) mayFail(r *fibRoute, dst netip.Addr, i int) bool {
	if dst.Is4() || !r.hop.via.IsValid() || r.kind != unix.RTN_UNICAST {
		return false
	}
	n := 0
	for i := i; i < len(v.fib[inet6]); i++ {
		t := &v.fib[inet6][i]
		for _, bits := range t.lengths {
			p, _ := dst.Prefix(bits)
			n += len(t.routes[p])
		}
	}
	return n > 1
}

// alive reports whether r can be used now. Routes to our own addresses can be
// used even while their link is down.
func (r *fibRoute) alive(v *view, oif int) bool {
	l := v.links[r.hop.link]
	return l != nil && (r.kind == unix.RTN_LOCAL || !r.hop.dead && l.Up) && (oif == 0 || oif == r.hop.link)
}

// answer converts the result of lookup to a Route.
func (v *view) answer(r *fibRoute, dst, src netip.Addr) Route {
	h := r.hop
	l := v.links[h.link]
	out := Route{Link: h.link, Src: src, NextHop: dst, MTU: l.MTU, linkMTU: r.mtu == 0, Assumed: r.assumed, Metrics: r.Metrics}
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
		out.Src = v.source(r, dst)
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
	if len(changes) > 0 || v.settled != old.settled || v.ask != old.ask || !reflect.DeepEqual(v.fib, old.fib) || !reflect.DeepEqual(v.links, old.links) {
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
