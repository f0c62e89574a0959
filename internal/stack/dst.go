package stack

import (
	"net/netip"
	"slices"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/onload-go/onload/internal/control"
	"github.com/onload-go/onload/ip"
	"github.com/onload-go/onload/ring"
	"github.com/onload-go/onload/tcp"
)

// dstKey names a destination: the lower headers of all packets from local to
// remote are the same, if their sockets' options are.
type dstKey struct {
	tcp.Pair
	proto, tos, ttl uint8
}

// IPOptions are what a socket has in the IP headers of its packets. TCP has
// the ECN bits of TOS and TrafficClass for itself (RFC 3168, 5).
type IPOptions struct {
	TOS, TTL               uint8 // IPv4: IP_TOS, IP_TTL
	TrafficClass, HopLimit uint8 // IPv6: IPV6_TCLASS, IPV6_UNICAST_HOPS
	// A TTL or HopLimit of 0 is the default.
}

// key names the destination of packets with these options.
func (o IPOptions) key(local, remote netip.Addr, proto uint8) dstKey {
	k := dstKey{tcp.Pair{Local: local, Remote: remote}, proto, o.TOS, o.TTL}
	if !remote.Is4() {
		k.tos, k.ttl = o.TrafficClass, o.HopLimit
	}
	if k.ttl == 0 {
		k.ttl = defaultTTL
	}
	if proto == ip.ProtoTCP {
		k.tos &^= 3
	}
	return k
}

// dst is a destination: its route, its neighbour's address, and the headers
// built from them. Sockets share it, and count it.
type dst struct {
	key   dstKey
	route control.Route
	hdr   ip.Header
	sum   uint16        // of the pseudo-header without the length
	ready bool          // hdr is complete
	stale bool          // and the kernel does not know the neighbour any more
	gone  bool          // no route at present
	why   syscall.Errno // what the kernel says to who sends then
	refs  int
	held  []heldPacket // packets that wait for the neighbour
	since int64        // when the first of them began to, ns

	// What onChange has yet to tell those that use it.
	lost syscall.Errno // why it cannot be reached; 0: it can
	cut  bool          // its MTU changed

	pathMTU   int   // of UDP's path, as a router says; 0: none did
	pathUntil int64 // when that is forgotten, ns
	asked     int64 // when the kernel was last asked to resolve, ns
	confirmed int64
}

// heldPacket waits for its neighbour's address. The stack holds its frames
// as if they were in a ring.
type heldPacket struct {
	pkt []ring.Desc
	qi  int
	ecn uint8
}

const (
	// As many packets wait for a neighbour as Linux keeps of small ones
	// (unres_qlen_bytes): the SYNs of a burst of connections.
	holdPackets = 256
	resolveWait = int64(time.Second)
	// The kernel gives a neighbour up after 3 s. Where it does not say so, since
	// too many are asked for, what waits is given up too.
	resolveMost = int64(5 * time.Second)
	defaultTTL  = 64
)

// dst returns the destination named k, counted; nil where there is no route.
// The lock is held.
func (s *Stack) dst(k dstKey) *dst { return s.dstBy(k, nil) }

// dstBy is dst for a caller that has just looked the route up.
func (s *Stack) dstBy(k dstKey, route *Route) *dst {
	d := s.dsts[k]
	if d == nil {
		d = &dst{key: k, sum: ip.PseudoSum(k.Local, k.Remote, k.proto, 0)}
		if !s.resolveRoute(d, route) {
			return nil
		}
		s.dsts[k] = d
	} else if d.gone {
		if !s.resolveRoute(d, route) {
			return nil
		}
		s.news = true // the notice is under way
	}
	d.refs++
	return d
}

func (s *Stack) unref(d *dst) {
	if d == nil {
		return
	}
	d.refs--
	s.forget(d)
}

// forget drops a destination that nobody uses and no packet waits for.
func (s *Stack) forget(d *dst) {
	if d.refs == 0 && len(d.held) == 0 {
		delete(s.dsts, d.key)
	}
}

// resolveRoute looks d's neighbour up in the kernel's mirror, and its route
// unless the caller has found it already. It reports whether there is one.
func (s *Stack) resolveRoute(d *dst, route *Route) bool {
	var r control.Route
	var err error
	if route != nil && route.Gen == s.cfg.Net.Gen() {
		r = route.Route
	} else {
		r, err = s.cfg.Net.Route(d.key.Remote, d.key.Local)
	}
	link, known := s.cfg.Net.Link(r.Link)
	if err != nil || r.Local || !known || !s.carries(link) {
		d.gone, d.ready, d.why = true, false, syscall.ENETUNREACH
		if errno, ok := err.(syscall.Errno); ok && errno != syscall.EADDRNOTAVAIL {
			d.why = errno // of a route that is unreachable, prohibited or a black hole
		}
		return false
	}
	if r.Link != d.route.Link || r.NextHop != d.route.NextHop {
		// What the old neighbour gets would go where the route no longer leads.
		d.ready, d.asked = false, 0
	}
	d.route, d.gone = r, false
	s.resolveNeighbour(d, link)
	return true
}

// carries tells whether packets for l leave through this stack's interface:
// it is the interface, or a VLAN on it.
func (s *Stack) carries(l control.Link) bool {
	return l.Index == s.cfg.Link || l.VLAN != 0 && l.Parent == s.cfg.Link
}

// resolveNeighbour completes d's headers, or asks the kernel for what is
// missing.
func (s *Stack) resolveNeighbour(d *dst, link control.Link) {
	mac, ok := s.cfg.Net.Neighbor(d.route.Link, d.route.NextHop)
	if !ok {
		// An address that once was right is used until another is known.
		s.ask(d)
		return
	}
	vlan := link.VLAN
	if link.Index == s.cfg.Link {
		vlan = 0 // the interface itself is the VLAN's, and tags
	}
	d.hdr.Init(link.MAC, mac, vlan, d.key.Local, d.key.Remote, d.key.proto, d.key.tos, d.key.ttl)
	d.ready, d.stale = true, false
	d.confirmed = s.now
	s.releaseHeld(d)
}

// ask has the kernel resolve d's neighbour, once a second at most (RFC 1122,
// 2.3.2.1).
func (s *Stack) ask(d *dst) {
	if s.now-d.asked > resolveWait || d.asked == 0 {
		d.asked = s.now
		s.cfg.Net.Resolve(d.route.Link, d.route.NextHop)
	}
}

// ecn is the ECN codepoint of what a socket without TCP sends: the user's own.
func (d *dst) ecn() uint8 { return d.key.tos & 3 }

// mtu is the largest IP packet that the route takes.
func (s *Stack) mtu(d *dst) int {
	m := s.queues[0].Caps().MTU
	if d.route.MTU > 0 && d.route.MTU < m {
		m = d.route.MTU
	}
	if d.pathMTU > 0 && d.pathMTU < m && s.now < d.pathUntil {
		m = d.pathMTU
	}
	return m
}

// hold keeps a packet until its neighbour is known. As in the kernel, only
// the newest few are kept, and all that wait for neighbours leave most of the
// memory to others.
func (s *Stack) hold(d *dst, qi int, pkt []ring.Desc, ecn uint8) {
	if d.gone {
		s.counters.txNoRoute.Add(1)
		return
	}
	limit := s.host.Reserve - len(pkt)
	for len(d.held) > 0 && (len(d.held) == holdPackets || s.holding > limit) {
		s.releasePacket(&d.held[0])
		d.held = append(d.held[:0], d.held[1:]...)
	}
	if s.holding > limit {
		s.counters.txNoRoute.Add(1)
		return
	}
	if len(d.held) == 0 {
		d.since = s.now
	}
	s.setTimer(&s.holdTimer, s.now+resolveMost)
	s.holding += len(pkt)
	h := heldPacket{pkt: slices.Clone(pkt), qi: qi, ecn: ecn}
	for _, p := range pkt {
		s.arena.Posted(p.Frame)
	}
	d.held = append(d.held, h)
	if link, ok := s.cfg.Net.Link(d.route.Link); ok {
		s.resolveNeighbour(d, link)
	}
}

// fireHold gives up the packets that have waited for too long.
func (s *Stack) fireHold() {
	for _, d := range s.dsts {
		if len(d.held) > 0 && s.now-d.since >= resolveMost {
			s.unreachable(d, syscall.EHOSTUNREACH)
		}
	}
	s.tell()
	if s.holding > 0 {
		s.setTimer(&s.holdTimer, s.now+resolveMost)
	}
}

func (s *Stack) releasePacket(h *heldPacket) {
	s.holding -= len(h.pkt)
	for _, p := range h.pkt {
		s.arena.Completed(p.Frame)
	}
}

func (s *Stack) releaseHeld(d *dst) {
	held := d.held
	d.held = nil
	for i := range held {
		h := &held[i]
		s.sendAny(d, h.qi, h.pkt, h.ecn)
		s.releasePacket(h)
	}
	s.forget(d)
}

func (s *Stack) dropHeld(d *dst) {
	for i := range d.held {
		s.releasePacket(&d.held[i])
	}
	d.held = nil
	s.forget(d)
}

// onChange hears of the kernel's changes from the mirror's goroutine.
func (s *Stack) onChange(c control.Change) {
	if s.closing.Load() {
		return
	}
	s.begin()
	if !s.closing.Load() {
		s.locals.changed(c)
		s.rx.repeat.Forget()
		for _, d := range s.dsts {
			s.applyChange(d, c)
		}
		if c.Kind == control.RouteChanged {
			// The route may prefer another source now.
			for _, l := range s.demux.udps {
				for _, x := range l {
					s.unref(x.socket.dst)
					x.socket.dst = nil
				}
			}
		}
		s.tell()
		if c.Kind == control.LinkGone && c.Link == s.cfg.Link {
			s.linkGone()
		}
	}
	s.end()
}

// linkGone ends all connections: the queues went with the interface, and one
// of the same name would be another.
func (s *Stack) linkGone() {
	s.gone.Store(true)
	s.fail(syscall.ENETDOWN)
}

// fail ends every connection, of TCP and UDP, with errno: nothing will come
// or go any more.
func (s *Stack) fail(errno syscall.Errno) {
	if !s.down.CompareAndSwap(0, uint32(errno)) {
		return
	}
	for c := range s.demux.flows.all() {
		c.tc.Fail(errno)
	}
	for _, u := range s.demux.udpFlows {
		s.notify(&u.r)
		s.notify(&u.w)
	}
}

// checkQueues notices a device that failed for good: its rings are corrupt,
// or it is gone (attack 26). The lock is held.
func (s *Stack) checkQueues() {
	for _, q := range s.queues {
		if err := q.Err(); err != nil && s.down.Load() == 0 {
			s.log.Error("stack: the device failed", zap.String("interface", s.cfg.Name), zap.Error(err))
			s.fail(syscall.EIO)
		}
	}
}

// applyChange brings one destination up to date. What its sockets have to know
// waits for tell.
func (s *Stack) applyChange(d *dst, c control.Change) {
	switch c.Kind {
	case control.NeighborUp:
		if c.Link == d.route.Link && c.Addr == d.route.NextHop {
			if link, ok := s.cfg.Net.Link(d.route.Link); ok {
				s.resolveNeighbour(d, link)
			}
		}
	case control.NeighborFailed:
		switch {
		case c.Link != d.route.Link || c.Addr != d.route.NextHop:
		case d.ready:
			// Perhaps only forgotten by a kernel that saw no traffic. The
			// address is used until another is known, and who sends asks: nobody
			// is asked for again and again on behalf of idle connections.
			d.stale = true
		default:
			s.unreachable(d, syscall.EHOSTUNREACH)
		}
	case control.RouteChanged: // behind changes of links and addresses too
		mtu, gone := s.mtu(d), d.gone
		if !s.resolveRoute(d, nil) {
			s.unreachable(d, syscall.ENETUNREACH)
			return
		}
		if s.mtu(d) != mtu {
			d.cut, s.news = true, true
		}
		s.news = s.news || gone
	}
}

// unreachable notes that d cannot be reached at present, and gives up what
// waits for it.
func (s *Stack) unreachable(d *dst, errno syscall.Errno) {
	d.lost, s.news = errno, true
	s.dropHeld(d)
}

// tell has the sockets learn what became of their destinations: in one pass,
// since a link that goes down takes all of them with it. That one cannot be
// reached is fatal for connections that are being made, a hint for others. A
// UDP socket hears of it when it writes (WriteFrom), as on Linux.
func (s *Stack) tell() {
	if !s.news {
		return
	}
	s.news = false
	for c := range s.demux.flows.all() {
		d := c.dst
		if d.lost != 0 {
			c.tc.Unreachable(d.lost, s.now)
			s.touch(c)
		} else if d.cut {
			c.tc.SetPathMTU(s.mtu(d), s.now)
			s.touch(c)
		}
	}
	for _, u := range s.demux.udpFlows {
		var lost syscall.Errno
		if u.dst.gone {
			lost = u.dst.why
		}
		if u.lost.Swap(uint32(lost)) == 0 && lost != 0 {
			s.notify(&u.w)
		}
	}
	for _, d := range s.dsts {
		d.lost, d.cut = 0, false
	}
}

// confirmEvery is how often the kernel is told that a neighbour answers.
const confirmEvery = int64(10 * time.Second)

// confirm tells the kernel that d's neighbour answers: it sees none of our
// traffic, and would let the entry go.
func (s *Stack) confirm(d *dst) {
	if d != nil && s.now-d.confirmed > confirmEvery {
		d.confirmed = s.now
		s.cfg.Net.Confirm(d.route.Link, d.route.NextHop)
	}
}
