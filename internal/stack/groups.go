package stack

import (
	"net/netip"
	"slices"
	"syscall"

	"github.com/onload-go/onload/ip"
	"github.com/onload-go/onload/ring"
	"github.com/onload-go/onload/udp"
)

// Membership is a group that a socket has joined on a link, with its source filter
// (RFC 3376 and RFC 3810, section 3).
type Membership struct {
	Group   netip.Addr
	Link    int  // index of the interface
	Include bool // from Sources only; otherwise from all but them
	Sources []netip.Addr
}

// allows reports whether the filter lets a datagram from src through.
func (m *Membership) allows(src netip.Addr) bool { return slices.Contains(m.Sources, src) == m.Include }

// Hearing says which datagrams of multicast groups a bound socket hears. The zero
// Hearing is a new socket's: every group that somebody on this host has joined.
type Hearing struct {
	Joined []Membership
	// Strict4 and Strict6 leave out the groups that the socket has not joined
	// itself (IP_MULTICAST_ALL and IPV6_MULTICAST_ALL are 0).
	Strict4, Strict6 bool
}

// hears reports whether a socket gets a datagram from src to group that came by
// link. As in the kernel (ip_mc_sf_allow, inet6_mc_check), a membership of IPv6
// counts whatever the link.
func (h *Hearing) hears(group, src netip.Addr, link int) bool {
	for i := range h.Joined {
		if m := &h.Joined[i]; m.Group == group && (m.Link == link || !group.Is4()) {
			return m.allows(src)
		}
	}
	if group.Is4() {
		return !h.Strict4
	}
	return !h.Strict6
}

// groups finds the sockets that hear a datagram to a multicast group. It belongs
// to the holder of the stack lock.
type groups struct {
	ports  map[uint16][]*UDPConn // bound to no address, by port
	joined []*UDPConn            // those that have joined groups, bound to an address or not

	// The last answer: a sender's datagrams come one after another.
	to       []*UDPConn
	link     int
	src, dst netip.AddrPort // of that answer; zero: there is none

	copy []ring.Desc
}

func (g *groups) init() { g.ports = make(map[uint16][]*UDPConn) }

// has reports whether a packet to dst may be for a group that a socket hears.
func (g *groups) has(dst netip.Addr, proto uint8) bool {
	return proto == ip.ProtoUDP && len(g.ports) > 0 && dst.IsMulticast()
}

// add enters a socket that is bound to no address of its own.
func (g *groups) add(u *UDPConn) {
	if a := u.local.Addr(); a.IsValid() && !a.IsUnspecified() {
		return
	}
	g.ports[u.local.Port()] = append(g.ports[u.local.Port()], u)
	g.changed()
}

func (g *groups) remove(u *UDPConn) {
	n := u.local.Port()
	if l := slices.DeleteFunc(g.ports[n], func(x *UDPConn) bool { return x == u }); len(l) > 0 {
		g.ports[n] = l
	} else {
		delete(g.ports, n)
	}
	g.changed()
}

// changed forgets the last answer.
func (g *groups) changed() {
	clear(g.to)
	g.to, g.src, g.dst = g.to[:0], netip.AddrPort{}, netip.AddrPort{}
}

// left forgets the groups that a socket has joined.
func (g *groups) left(u *UDPConn) {
	g.joined = slices.DeleteFunc(g.joined, func(x *UDPConn) bool { return x == u })
	g.changed()
}

// allHosts are the groups that every host is a member of (RFC 1112, 4; RFC 4291, 2.8).
var allHosts = [2]netip.Addr{netip.AddrFrom4([4]byte{224, 0, 0, 1}), netip.AddrFrom16([16]byte{0: 0xff, 1: 0x02, 15: 1})}

// member reports whether this host takes what src sends to a group, by a link that no
// kernel stands behind: a socket must have joined the group there. It need not be one
// that hears the datagram (Linux's ip_check_mc_rcu, ipv6_chk_mcast_addr).
func (g *groups) member(group, src netip.Addr, link int) bool {
	if slices.Contains(allHosts[:], group) {
		return true
	}
	for _, u := range g.joined {
		for i := range u.hearing.Joined {
			if m := &u.hearing.Joined[i]; m.Group == group && m.Link == link && m.allows(src) {
				return true
			}
		}
	}
	return false
}

// find makes to the sockets that hear a datagram. alone says that no kernel stands behind
// the link.
//
//go:noinline
func (g *groups) find(src, dst netip.AddrPort, link int, alone bool) {
	if src == g.src && dst == g.dst && link == g.link {
		return
	}
	g.changed()
	g.src, g.dst, g.link = src, dst, link
	if alone && !g.member(dst.Addr(), src.Addr(), link) {
		return
	}
	for _, u := range g.ports[dst.Port()] {
		if a := u.local.Addr(); a.IsValid() && a.Is4() != dst.Addr().Is4() {
			continue
		}
		if u.hearing.hears(dst.Addr(), src.Addr(), link) {
			g.to = append(g.to, u)
		}
	}
}

// groupInput gives the datagram in ds to all sockets that hear its group, which
// groups.find has found. If there is none, nobody is told (RFC 1122, section
// 3.2.2).
func (s *Stack) groupInput(ds []ring.Desc) {
	to := s.groups.to
	if len(to) == 0 {
		s.drop(ds, &s.counters.rxNoSocket)
		return
	}
	info := s.udpInfo(&ds[0])
	s.toPayload(ds)
	n, left := 0, ds // the frames that no socket has
	for i, u := range to {
		own := left
		switch {
		case u.add(ds, info):
			n++
			continue
		case i < len(to)-1:
			own = s.duplicate(ds)
		default:
			left = nil
		}
		switch {
		case own == nil:
			u.forward.scarce.Add(1)
			s.counters.udpScarce.Add(1)
		case u.push(own, info):
			n++
		default:
			s.cache.FreeDescs(own)
		}
	}
	if left != nil {
		s.cache.FreeDescs(left)
	}
	s.counters.udpIn.Add(uint64(n))
	s.counters.udpErr.Add(uint64(len(to) - n))
	s.waits.work += int64(s.rx.pkt.L4Len)
}

// add copies a small datagram behind another that waits for the reader of u: a
// hundred sockets that are behind would take a hundred frames for each datagram.
func (u *UDPConn) add(ds []ring.Desc, info *udp.Info) bool {
	f := u.forward
	if f.s != u.s || len(ds) > 1 || info.Seg != 0 {
		return false
	}
	f.rqmu.Lock()
	ok := !f.closed.Load() && f.rq.Add(u.s.arena.Data(ds[0]), info)
	f.rqmu.Unlock()
	if ok {
		u.s.notify(&f.r)
	}
	return ok
}

// duplicate copies a payload into frames of its own; nil: there are none.
func (s *Stack) duplicate(ds []ring.Desc) []ring.Desc {
	g := &s.groups
	g.copy = append(g.copy[:0], ds...)
	for i := range ds {
		f, ok := s.cache.Alloc()
		if !ok {
			s.cache.FreeDescs(g.copy[:i])
			return nil
		}
		g.copy[i].Frame = f
		copy(s.arena.Data(g.copy[i]), s.arena.Data(ds[i]))
	}
	return g.copy
}

// Hear sets which datagrams of multicast groups a bound socket hears. The caller
// does not change h afterwards.
func (u *UDPConn) Hear(h Hearing) {
	s := u.s
	s.begin()
	u.hearing = h
	if s.groups.left(u); len(h.Joined) > 0 && !u.closed.Load() {
		s.groups.joined = append(s.groups.joined, u)
	}
	s.end()
}

// SteerGroup has the datagrams of a group at a port taken off the link with that
// index, or left to the kernel again. Calls are counted.
func (s *Stack) SteerGroup(link int, group netip.AddrPort, ours bool) error {
	k := s.linkOf(link)
	switch {
	case k == nil:
		return syscall.ENODEV
	case ours:
		return k.steering.AddPort(ip.ProtoUDP, group)
	}
	return k.steering.RemovePort(ip.ProtoUDP, group)
}
