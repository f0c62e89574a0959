package stack

import (
	"net/netip"

	"github.com/onload-go/onload/ring"
	"github.com/onload-go/onload/udp"
)

// loopGroup gives the datagram at f, which u has sent to d and port, to the sockets of
// this host that hear its group on d's link (RFC 1112, 6.1; RFC 3493, 5.2): no kernel
// stands behind the link, which would.
func (s *Stack) loopGroup(u *UDPConn, d *dst, f ring.Frame, port uint16) {
	g := &s.groups
	src := netip.AddrPortFrom(d.key.Local, u.local.Port())
	g.find(src, netip.AddrPortFrom(d.key.Remote, port), d.route.Link, true)
	if len(g.to) == 0 {
		return
	}
	var p []byte
	for ; f != ring.NoFrame; f = s.arena.Meta(f).Prev {
		m := s.arena.Meta(f)
		p = append(p, s.arena.Bytes(f)[m.Off:][:m.Len]...)
	}
	info := udp.Info{Src: g.src, Dst: g.dst, At: s.now, Link: uint32(d.route.Link), TTL: d.key.ttl, TOS: d.key.tos}
	for _, to := range g.to {
		ds, ok := s.copyIn(p)
		switch {
		case !ok:
			to.forward.scarce.Add(1)
			s.counters.udpScarce.Add(1)
		case to.push(ds, &info):
			s.counters.udpIn.Add(1)
		default:
			s.cache.FreeDescs(ds)
			s.counters.udpErr.Add(1)
		}
	}
}
