// Package control mirrors what the kernel knows about the network: links,
// addresses, routes and neighbours, and lends the kernel's ports.
//
// Kernel keeps the mirror of a network namespace current by netlink; Static
// answers from a configuration, for links that no kernel knows. Both answer
// from snapshots that are read without locks.
package control

import (
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Network answers the stack's questions about links, routes and neighbours.
type Network interface {
	// Route returns the route of a flow's packets. The errors are the kernel's:
	// ENETUNREACH without a route; EHOSTUNREACH, EACCES and EINVAL for routes and
	// rules of type unreachable, prohibit and blackhole; EADDRNOTAVAIL if f.Src is
	// not one of our addresses; EINVAL for a link-local f.Dst without a zone.
	Route(f Flow) (Route, error)

	// PortsMatter reports whether routes to addresses of dst's family may
	// depend on the ports of a Flow. RouteChanged tells of a change.
	PortsMatter(dst netip.Addr) bool

	// Neighbor returns the link-layer address of a neighbour that may be sent
	// to. The zone of addr does not matter.
	Neighbor(link int, addr netip.Addr) (mac [6]byte, ok bool)

	// Resolve asks for a neighbour. The answer comes as a Change, NeighborUp
	// or NeighborFailed, never from within the call.
	Resolve(link int, addr netip.Addr)

	// Confirm reports to the kernel that a neighbour is in use. Repeated calls
	// are cheap.
	Confirm(link int, addr netip.Addr)

	// Doubt reports that a neighbour may not be there any more: nothing is heard of what
	// was sent to it. Repeated calls are cheap.
	Doubt(link int, addr netip.Addr)

	// Gen is a number that grows with every change that may alter an answer. A
	// caller that reads it before asking may keep the answer until it changes.
	Gen() uint64

	// Subscribe has fn called for every Change, one call at a time, after the
	// snapshots and Gen show it. fn must not block, nor cancel.
	Subscribe(fn func(Change)) (cancel func())

	// Local reports whether addr is one of our own, and on which link.
	Local(addr netip.Addr) (link int, ok bool)

	// Accepts returns what the kernel would do with packets of a flow, f.Src to
	// f.Dst, one of our own addresses, that come by a link: it refuses some
	// (rp_filter, accept_local). The ports are as in the packet, 0 of fragments.
	// Settings that change without a notice count within a second.
	Accepts(link int, f Flow) Verdict

	// Forwards reports whether the host forwards what comes by a link, so that
	// packets to its own addresses may be others': it masquerades. A change counts
	// within a second.
	Forwards(link int) bool

	// Link returns a link by its index.
	Link(index int) (Link, bool)

	// Links returns all links in the order of their indices.
	Links() []Link

	Close() error
}

// Flow is what the kernel knows of packets when it looks for their route
// (RTM_GETROUTE). Rules and multipath routes may ask for each of the fields. Dst is
// required; the zero value of the others means unknown.
type Flow struct {
	// Dst with a zone is looked up on that link only.
	Dst, Src         netip.Addr
	DstPort, SrcPort uint16
	Proto            uint8 // ip.ProtoTCP or ip.ProtoUDP
	TOS              uint8 // or the traffic class; the ECN bits do not count
	Link             int   // that the packets are bound to (IP_PKTINFO)
}

// Route is the way to a destination.
type Route struct {
	// Link is the output link; for a Local route the one that owns the
	// address, or loopback.
	Link int
	// Src is the source address to use. It may be the zero Addr when the link
	// has no address.
	Src netip.Addr
	// NextHop is the neighbour to send to: a gateway (for IPv4 possibly one
	// with an IPv6 address) or the destination itself.
	NextHop netip.Addr
	// MTU is the largest IP packet.
	MTU int
	// Local says that the destination is this host, which is the kernel's
	// business. Broadcast and Multicast need no neighbour.
	Local, Broadcast, Multicast bool
	// SrcMatters says that a Flow from Src may take another way than one whose
	// source is not known yet.
	SrcMatters bool
	// Assumed says that no route leads to the destination: the kernel takes a link
	// that an IPv4 flow names to lead to it (ip_route_output_key_hash_rcu).
	Assumed bool
	// linkMTU says that MTU is the link's, for want of a metric.
	linkMTU bool

	Metrics
}

// Connected returns the route of a connected socket: as connect(2) of IPv4, it asks
// once more when it knows the source (Linux's ip_route_connect). That of IPv6 does not
// (ip6_dst_lookup_tail).
func Connected(n Network, f Flow) (Route, error) {
	r, err := n.Route(f)
	if err != nil || !r.SrcMatters || f.Src.IsValid() || !r.Src.IsValid() || f.Dst.Is6() {
		return r, err
	}
	f.Src = r.Src
	return n.Route(f)
}

// Metrics are what the administrator said of a route, for TCP and the headers
// (ip-route(8)), and the hop limit that the host or the link has where the route has
// none. A zero value means the default.
type Metrics struct {
	MTULocked  bool   // the path's MTU is Route.MTU, whatever routers say
	AdvMSS     int    // the MSS that is announced, bytes
	InitCwnd   int    // segments
	InitRwnd   int    // segments
	Window     int    // bound of the window that is advertised, bytes
	HopLimit   int    // TTL; 0: 64
	Congestion string // the kernel's name of the congestion control
	ECN        bool   // asked for and granted, whatever tcp_ecn says
	QuickAck   bool   // no ACK is delayed
	RTOMin     time.Duration
}

// Link is a network interface.
type Link struct {
	Index int
	Name  string
	// AltNames are its other names (ip link property add altname).
	AltNames []string
	MAC      [6]byte
	MTU      int
	// Up is the administrative state; Carrier says that the link can carry
	// packets.
	Up, Carrier bool
	// Kind is the type of a virtual link ("veth", "vlan", "bridge"...),
	// "device" for hardware and loopback.
	Kind string
	// Driver is as ethtool -i says; empty if unknown.
	Driver string
	// Master is the bridge or bond above, 0 if none. Parent is the link below
	// a VLAN or macvlan, and VLAN the 802.1Q tag that frames carry on it.
	Master, Parent int
	VLAN           uint16
	// Addrs are the usable addresses, in the kernel's order.
	Addrs    []netip.Prefix
	Loopback bool
	// Static says that no kernel stands behind the link: it is of a Static network.
	Static bool
}

// ChangeKind says what a Change is about.
type ChangeKind uint8

const (
	// NeighborUp: Addr on Link can be sent to, possibly under a new MAC.
	NeighborUp ChangeKind = iota + 1
	// NeighborFailed: Addr on Link did not answer, or the kernel forgot it.
	NeighborFailed
	// LinkChanged: the link is new, or its state, MTU, MAC or master changed.
	LinkChanged
	// LinkGone: the link does not exist any more.
	LinkGone
	// AddrAdded and AddrRemoved: Addr on Link.
	AddrAdded
	AddrRemoved
	// RouteChanged: any Route may have another answer now. It follows every
	// change of links and addresses.
	RouteChanged
)

var kindNames = [...]string{"none", "neighbour up", "neighbour failed", "link changed", "link gone", "address added", "address removed", "route changed"}

// String names the kind.
func (k ChangeKind) String() string { return kindNames[k] }

// Change is one event for a subscriber.
type Change struct {
	Kind ChangeKind
	Link int        // 0 for RouteChanged
	Addr netip.Addr // of neighbour and address changes, without zone
}

// neighborKey names a neighbour; addr has no zone.
type neighborKey struct {
	link int
	addr netip.Addr
}

// neighbor is an entry that may be sent to.
type neighbor struct {
	mac [6]byte
	// fixed entries (permanent, no ARP) need no confirmation.
	fixed bool
	// confirmed is when the neighbour was last reported in use, in
	// nanoseconds. Copies of the map share it.
	confirmed *atomic.Int64
}

// mirror is the part of Network that Kernel and Static have in common:
// snapshots, their readers and their subscribers.
type mirror struct {
	view      atomic.Pointer[view]
	neighbors atomic.Pointer[map[neighborKey]neighbor]
	gen       atomic.Uint64

	// deliver keeps the calls of subscribers apart.
	deliver sync.Mutex
	subMu   sync.Mutex
	subs    []*subscriber
}

type subscriber struct{ fn func(Change) }

func (m *mirror) init() {
	m.view.Store(newView())
	m.neighbors.Store(&map[neighborKey]neighbor{})
}

// Gen implements Network.
func (m *mirror) Gen() uint64 { return m.gen.Load() }

// Neighbor implements Network.
func (m *mirror) Neighbor(link int, addr netip.Addr) (mac [6]byte, ok bool) {
	n, ok := (*m.neighbors.Load())[neighborKey{link, addr.WithZone("")}]
	return n.mac, ok
}

// Local implements Network.
func (m *mirror) Local(addr netip.Addr) (link int, ok bool) { return m.view.Load().local(addr) }

// PortsMatter implements Network.
func (m *mirror) PortsMatter(dst netip.Addr) bool { return m.view.Load().ports[family(dst)] }

// Link implements Network.
func (m *mirror) Link(index int) (Link, bool) {
	l, ok := m.view.Load().links[index]
	if !ok {
		return Link{}, false
	}
	return l.Link, true
}

// Links implements Network.
func (m *mirror) Links() []Link {
	v := m.view.Load()
	all := make([]Link, 0, len(v.links))
	for _, l := range v.links {
		all = append(all, l.Link)
	}
	slices.SortFunc(all, func(a, b Link) int { return a.Index - b.Index })
	return all
}

// Subscribe implements Network.
func (m *mirror) Subscribe(fn func(Change)) (cancel func()) {
	s := &subscriber{fn}
	m.subMu.Lock()
	m.subs = append(slices.Clone(m.subs), s)
	m.subMu.Unlock()
	return func() {
		m.subMu.Lock()
		m.subs = slices.DeleteFunc(slices.Clone(m.subs), func(o *subscriber) bool { return o == s })
		m.subMu.Unlock()
		// A delivery under way ends first, so that fn is not called after cancel.
		m.deliver.Lock()
		defer m.deliver.Unlock()
	}
}

// notify hands changes to the subscribers.
func (m *mirror) notify(changes []Change) {
	if len(changes) == 0 {
		return
	}
	m.deliver.Lock()
	defer m.deliver.Unlock()
	m.subMu.Lock()
	subs := m.subs
	m.subMu.Unlock()
	for _, c := range changes {
		for _, s := range subs {
			s.fn(c)
		}
	}
}

// publish makes v the current view and notifies subscribers of the difference. A
// view that does not know all routes always counts as different.
func (m *mirror) publish(v *view) {
	changes := v.diff(m.view.Load())
	if len(changes) == 0 {
		if v.ask == [2]bool{} && v.partial == [2]bool{} {
			return
		}
		changes = []Change{{Kind: RouteChanged}}
	}
	m.view.Store(v)
	m.gen.Add(1)
	m.notify(changes)
}

// neighborEvent is news of one neighbour.
type neighborEvent struct {
	neighborKey
	mac    [6]byte
	usable bool
	fixed  bool
	// final says that resolution has ended; without it an entry that is not
	// usable is merely being asked for.
	final bool
}

// applyNeighbors takes a batch of news into the snapshot. With reset, entries
// that the batch does not name are gone.
func (m *mirror) applyNeighbors(events []neighborEvent, reset bool) {
	old := *m.neighbors.Load()
	next := make(map[neighborKey]neighbor, len(old)+len(events))
	if !reset {
		for k, n := range old {
			next[k] = n
		}
	}
	// silent says that there is something to store which alters no answer.
	changed, silent := false, false
	var changes []Change
	for _, e := range events {
		had, ok := next[e.neighborKey]
		if reset && !ok {
			had, ok = old[e.neighborKey]
		}
		switch {
		case e.usable:
			if !ok || had.mac != e.mac {
				had = neighbor{mac: e.mac, confirmed: new(atomic.Int64)}
				changed = true
				changes = append(changes, Change{NeighborUp, e.link, e.addr})
			}
			if had.fixed != e.fixed {
				had.fixed = e.fixed
				silent = true
			}
			next[e.neighborKey] = had
		default:
			if ok {
				delete(next, e.neighborKey)
				changed = true
			}
			if e.final {
				changes = append(changes, Change{NeighborFailed, e.link, e.addr})
			}
		}
	}
	if reset {
		for k := range old {
			if _, ok := next[k]; !ok {
				changed = true
				changes = append(changes, Change{NeighborFailed, k.link, k.addr})
			}
		}
	}
	if changed || silent {
		m.neighbors.Store(&next)
	}
	if changed {
		m.gen.Add(1)
	}
	m.notify(changes)
}
