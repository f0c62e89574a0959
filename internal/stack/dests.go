package stack

import (
	"net/netip"
	"syscall"
	"time"

	"github.com/onload-go/onload/internal/control"
	"github.com/onload-go/onload/ip"
	"github.com/onload-go/onload/ring"
)

// dests are the destinations of our packets, as the kernel's tables have them.
// They belong to the holder of the stack lock.
type dests struct {
	net    control.Network
	arena  *ring.Arena
	wiring *wiring
	detour detour

	all map[dstKey]*dst
	// idle is the last destination that was given up, or nil. It is kept: a client's
	// connections, one after the other, would else look it up three times each.
	idle *dst
	// byPorts says for IPv4 and IPv6 whether the keys have ports.
	byPorts [2]bool
	news    bool          // Stack.tell has something to do
	why     syscall.Errno // of the last get that found no route
	parked  int           // frames that wait for neighbours
	// unresolved counts packets that were dropped while they waited.
	unresolved uint64
	timer      ring.Timer
}

// resolveWait is the time between two requests for a neighbour, ns (RFC 1122,
// 2.3.2.1).
const resolveWait = int64(time.Second)

func (t *dests) init(net control.Network, w *wiring, arena *ring.Arena, out Output, tso int) {
	t.net, t.wiring, t.arena = net, w, arena
	t.all = make(map[dstKey]*dst)
	t.portsChanged()
	t.timer.Kind = ofParked
	t.detour.init(out, tso)
}

// trim leaves out of k the parts that no route depends on.
func (t *dests) trim(k dstKey) dstKey {
	if !t.net.PortsMatter(k.Remote) {
		k.lport, k.rport = 0, 0
	}
	return k
}

// get returns the destination named k, counted, or nil if there is no route: why says
// what is wrong then. route is from a caller that has just looked it up, else nil.
func (t *dests) get(k dstKey, route *Route, now int64) *dst {
	k = t.trim(k)
	if route != nil && k.lport != 0 && route.Port != k.lport && (k.Remote.Is4() || k.proto != ip.ProtoTCP) {
		// The caller did not know the port yet. TCP of IPv6 does not look again when
		// it does (Linux's tcp_v6_connect).
		route = nil
	}
	d := t.all[k]
	if d == nil {
		d = &dst{key: k, sum: ip.PseudoSum(k.Local, k.Remote, k.proto, 0)}
		if !t.resolveRoute(d, route, now) {
			t.why = d.why
			return nil
		}
		t.all[k] = d
	} else if d.gone {
		if !t.resolveRoute(d, route, now) {
			t.why = d.why
			return nil
		}
		t.news = true // the notice is under way
	}
	d.refs++
	return d
}

// portsChanged reports whether routes of a family have begun or ceased to depend
// on ports.
func (t *dests) portsChanged() bool {
	now := [2]bool{t.net.PortsMatter(netip.IPv4Unspecified()), t.net.PortsMatter(netip.IPv6Unspecified())}
	changed := now != t.byPorts
	t.byPorts = now
	return changed
}

// rekey returns the destination of a flow of d with these ports, counted instead
// of d. Its route is that of d until it is looked up.
func (t *dests) rekey(d *dst, local, remote uint16) *dst {
	k := d.key
	k.lport, k.rport = local, remote
	return t.another(d, t.trim(k))
}

// another returns the destination k, counted instead of d. A new one has the route
// of d until it is looked up.
func (t *dests) another(d *dst, k dstKey) *dst {
	if k == d.key {
		return d
	}
	n := t.all[k]
	if n == nil {
		n = new(dst)
		*n = *d
		n.key, n.refs, n.parked = k, 0, nil
		t.all[k] = n
	}
	n.refs++
	t.unref(d)
	return n
}

// unref gives up a use of d.
func (t *dests) unref(d *dst) {
	if d == nil {
		return
	}
	d.refs--
	t.forget(d)
}

// forget drops a destination that nobody uses and no packet waits for, unless it
// becomes the idle one.
func (t *dests) forget(d *dst) {
	if d.used() {
		return
	}
	if d != t.idle {
		t.dropIdle()
	}
	if t.idle = nil; d.ready && !d.gone {
		t.idle = d
		return
	}
	delete(t.all, d.key)
}

// dropIdle drops the idle destination.
func (t *dests) dropIdle() {
	if d := t.idle; d != nil && !d.used() {
		delete(t.all, d.key)
	}
	t.idle = nil
}

// used reports whether a socket needs d, or a packet waits for it.
func (d *dst) used() bool { return d.refs > 0 || len(d.parked) > 0 }

// resolveRoute looks d's neighbour up in the kernel's mirror, and its route
// unless the caller has found it already. It reports whether there is one. The
// sockets of d learn of packets of another size by Stack.tell.
func (t *dests) resolveRoute(d *dst, route *Route, now int64) bool {
	was := t.size(d, now)
	if !t.findRoute(d, route, now) {
		return false
	}
	if is := t.size(d, now); is != was && was != (size{}) {
		d.cut, t.news = true, true
	}
	return true
}

// findRoute is resolveRoute without the news.
func (t *dests) findRoute(d *dst, route *Route, now int64) bool {
	var r control.Route
	var err error
	if route != nil && route.Gen == t.net.Gen() {
		r = route.Route
	} else {
		r, err = t.net.Route(d.key.flow())
	}
	on := t.by(r.Link)
	if err != nil || r.Local || on == nil {
		d.gone, d.ready, d.why = true, false, syscall.ENETUNREACH
		if errno, ok := err.(syscall.Errno); ok && errno != syscall.EADDRNOTAVAIL {
			d.why = errno // of a route that is unreachable, prohibited or a black hole
		}
		return false
	}
	if r.Link != d.route.Link || r.NextHop != d.route.NextHop || on != d.on {
		// Packets to the old neighbour would go where the route no longer leads.
		d.ready, d.asked = false, 0
	}
	d.route, d.on, d.gone = r, on, false
	d.looped = on.alone && d.key.Remote.IsMulticast()
	if d.detour = on == &t.detour.on; d.detour {
		d.initHeader([6]byte{}, [6]byte{}, 0)
		return true
	}
	t.resolveNeighbour(d, now)
	return true
}

// by returns which of our links carries the packets of a route by that link of
// the kernel's: of others the detour, if there is a kernel; nil: none does.
func (t *dests) by(index int) *link {
	l, ok := t.net.Link(index)
	if !ok {
		return nil
	}
	for _, k := range t.wiring.links() {
		if k.carries(l) && k.down == 0 {
			return k
		}
	}
	if t.detour.out != nil && !l.Static {
		return &t.detour.on
	}
	return nil
}

// resolveNeighbour completes d's headers, or asks the kernel for what is missing.
// If d is ready afterwards, parked packets can leave.
func (t *dests) resolveNeighbour(d *dst, now int64) {
	link, ok := t.net.Link(d.route.Link)
	if !ok || d.detour {
		return // the detour's neighbours are the kernel's business
	}
	mac, ok := t.neighbour(d)
	if !ok {
		// An address that once was right is used until another is known.
		t.ask(d, now)
		return
	}
	vlan := link.VLAN
	if link.Index == d.on.index {
		vlan = 0 // the interface itself is the VLAN's, and tags
	}
	d.initHeader(link.MAC, mac, vlan)
	d.ready, d.stale = true, false
	d.confirmed = now
}

// neighbour returns the Ethernet address of d's next hop. That of a group is made
// of its address (RFC 1112, section 6.4).
func (t *dests) neighbour(d *dst) (mac [6]byte, ok bool) {
	if d.route.Multicast {
		return ip.MulticastMAC(d.key.Remote)
	}
	return t.net.Neighbor(d.route.Link, d.route.NextHop)
}

// ask has the kernel resolve d's neighbour, once in resolveWait at most.
func (t *dests) ask(d *dst, now int64) {
	if now-d.asked > resolveWait || d.asked == 0 {
		d.asked = now
		t.net.Resolve(d.route.Link, d.route.NextHop)
	}
}

// confirm tells the kernel that d's neighbour answers: it sees none of our
// traffic, and would let the entry go.
func (t *dests) confirm(d *dst, now int64) {
	if d != nil && now-d.confirmed > int64(control.ConfirmEvery) && !d.route.Multicast {
		d.confirmed = now
		t.net.Confirm(d.route.Link, d.route.NextHop)
	}
}

// size is how large packets to a destination may be, in bytes.
type size struct{ mtu, tso int }

// size is that of d's packets; zero: d has no link yet.
func (t *dests) size(d *dst, now int64) size {
	if d.on == nil {
		return size{}
	}
	return size{t.mtuOf(d, now), d.on.tso}
}

// resized has the sockets whose packets leave by k learn that their size changed.
func (t *dests) resized(k *link) {
	for _, d := range t.all {
		if d.on == k {
			d.cut, t.news = true, true
		}
	}
}

// mtuOf returns the largest IP packet that d's route takes, in bytes.
func (t *dests) mtuOf(d *dst, now int64) int {
	m := d.on.mtu
	if d.route.MTU > 0 && d.route.MTU < m {
		m = d.route.MTU
	}
	if d.pathMTU > 0 && d.pathMTU < m && now < d.pathUntil {
		m = d.pathMTU
	}
	return m
}
