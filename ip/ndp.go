package ip

import (
	"encoding/binary"
	"net/netip"
)

// Types of neighbour discovery messages (RFC 4861, 4).
const (
	RouterSolicitation    = 133
	RouterAdvertisement   = 134
	NeighborSolicitation  = 135
	NeighborAdvertisement = 136
)

// Options of neighbour discovery (RFC 4861, 4.6; RFC 4191, 2.3; RFC 8106, 5.1).
const (
	ndpSourceLink = 1
	ndpTargetLink = 2
	ndpPrefix     = 3
	ndpMTU        = 5
	ndpRoute      = 24
	ndpDNS        = 25
)

// How many prefixes, routes and name servers of one router advertisement are kept.
const (
	maxPrefixes = 8
	maxRoutes   = 8
	maxDNS      = 4
)

// NDP is a neighbour discovery message (RFC 4861).
type NDP struct {
	Type   uint8
	Target netip.Addr // of neighbour messages

	// The link-layer address option: the sender's in solicitations and router
	// advertisements, the target's in neighbour advertisements.
	MAC    [6]byte
	HasMAC bool

	Router, Solicited, Override bool // of a neighbour advertisement

	RA RouterInfo // of a router advertisement
}

// RouterInfo is what a router advertises.
type RouterInfo struct {
	HopLimit           uint8  // 0: unspecified
	Managed, Other     bool   // ask DHCPv6
	Lifetime           uint16 // s; 0: no default router
	Preference         int8   // among default routers: -1, 0 or 1 (RFC 4191, 2.2)
	Reachable, Retrans uint32 // ms; 0: unspecified
	MTU                int    // 0: unspecified
	Prefixes           [maxPrefixes]RouterPrefix
	NPrefixes          int
	Routes             [maxRoutes]RouterRoute
	NRoutes            int
	DNS                [maxDNS]RouterDNS
	NDNS               int
}

// RouterRoute is a prefix to which a router leads (RFC 4191, 2.3).
type RouterRoute struct {
	Prefix     netip.Prefix
	Preference int8   // -1, 0 or 1
	Lifetime   uint32 // s; 0: not any more; all ones: forever
}

// RouterDNS is a name server in a router advertisement (RFC 8106, 5.1).
type RouterDNS struct {
	Addr     netip.Addr
	Lifetime uint32 // s; 0: not any more; all ones: forever
}

// RouterPrefix is a prefix in a router advertisement.
type RouterPrefix struct {
	Prefix           netip.Prefix
	OnLink, Auto     bool
	Valid, Preferred uint32 // lifetimes, s; all ones: forever
}

// ParseNDP reads the message l4 that arrived in p, and applies the validity checks
// of RFC 4861; the checksum has been verified. ErrNotIP means that it is no
// neighbour discovery message.
func ParseNDP(p *Packet, l4 []byte, m *NDP) error {
	if !p.V6 || p.Proto != ProtoICMPv6 || len(l4) == 0 || l4[0] < RouterSolicitation || l4[0] > NeighborAdvertisement {
		return ErrNotIP
	}
	// A hop limit of 255 shows that no router forwarded it (RFC 4861, 6.1, 7.1),
	// and fragments hide what they are (RFC 6980, 5).
	if p.TTL != 255 || p.Fragment || len(l4) < 2 || l4[1] != 0 {
		return ErrHeader
	}
	*m = NDP{Type: l4[0]}
	n := 24
	switch m.Type {
	case RouterSolicitation:
		n = 8
	case RouterAdvertisement:
		n = 16
	}
	if len(l4) < n {
		return ErrShort
	}
	switch m.Type {
	case NeighborSolicitation, NeighborAdvertisement:
		m.Target = netip.AddrFrom16([16]byte(l4[8:24]))
		if m.Type == NeighborAdvertisement {
			m.Router, m.Solicited, m.Override = l4[4]&0x80 != 0, l4[4]&0x40 != 0, l4[4]&0x20 != 0
		}
	case RouterAdvertisement:
		m.RA.HopLimit = l4[4]
		m.RA.Managed, m.RA.Other = l4[5]&0x80 != 0, l4[5]&0x40 != 0
		m.RA.Lifetime = binary.BigEndian.Uint16(l4[6:])
		m.RA.Preference, _ = preference(l4[5])
		m.RA.Reachable = binary.BigEndian.Uint32(l4[8:])
		m.RA.Retrans = binary.BigEndian.Uint32(l4[12:])
	}
	if !m.options(l4[n:]) || !m.valid(p) {
		return ErrHeader
	}
	return nil
}

// options reads the options. One of length 0 makes the message void.
func (m *NDP) options(b []byte) bool {
	link := uint8(ndpSourceLink)
	if m.Type == NeighborAdvertisement {
		link = ndpTargetLink
	}
	for len(b) > 0 {
		if len(b) < 2 || b[1] == 0 || int(b[1])*8 > len(b) {
			return false
		}
		o := b[:int(b[1])*8]
		b = b[len(o):]
		switch {
		case o[0] == link:
			m.MAC, m.HasMAC = [6]byte(o[2:8]), true
		case o[0] == ndpMTU && m.Type == RouterAdvertisement:
			// RFC 8200, 5: no link has less.
			if mtu := binary.BigEndian.Uint32(o[4:]); mtu >= minMTU6 && mtu <= 0xffff {
				m.RA.MTU = int(mtu)
			}
		case o[0] == ndpPrefix && m.Type == RouterAdvertisement && len(o) == 32:
			m.RA.prefix(o)
		case o[0] == ndpRoute && m.Type == RouterAdvertisement:
			m.RA.route(o)
		case o[0] == ndpDNS && m.Type == RouterAdvertisement:
			m.RA.dns(o)
		}
	}
	return !m.HasMAC || unicastMAC(m.MAC)
}

func (r *RouterInfo) prefix(o []byte) {
	if r.NPrefixes == maxPrefixes || o[2] > 128 {
		return
	}
	r.Prefixes[r.NPrefixes] = RouterPrefix{
		Prefix:    netip.PrefixFrom(netip.AddrFrom16([16]byte(o[16:32])), int(o[2])).Masked(),
		OnLink:    o[3]&0x80 != 0,
		Auto:      o[3]&0x40 != 0,
		Valid:     binary.BigEndian.Uint32(o[4:]),
		Preferred: binary.BigEndian.Uint32(o[8:]),
	}
	r.NPrefixes++
}

// preference reads a router's preference. ok is false for the reserved value, which is
// the medium one of default routers and makes a route void (RFC 4191, 2.1, 2.2, 2.3).
func preference(flags uint8) (p int8, ok bool) {
	switch flags >> 3 & 3 {
	case 1:
		return 1, true
	case 3:
		return -1, true
	case 2:
		return 0, false
	}
	return 0, true
}

// route reads a route information option.
func (r *RouterInfo) route(o []byte) {
	p, ok := preference(o[3])
	bits := int(o[2])
	if !ok || r.NRoutes == maxRoutes || bits > 128 || len(o) > 24 || len(o)-8 < (bits+63)/64*8 {
		return
	}
	var a [16]byte
	copy(a[:], o[8:])
	r.Routes[r.NRoutes] = RouterRoute{Prefix: netip.PrefixFrom(netip.AddrFrom16(a), bits).Masked(), Preference: p, Lifetime: binary.BigEndian.Uint32(o[4:])}
	r.NRoutes++
}

// dns reads a recursive DNS server option.
func (r *RouterInfo) dns(o []byte) {
	life := binary.BigEndian.Uint32(o[4:])
	for b := o[8:]; len(b) >= 16 && r.NDNS < maxDNS; b = b[16:] {
		if a := netip.AddrFrom16([16]byte(b[:16])); Unicast(a) {
			r.DNS[r.NDNS] = RouterDNS{a, life}
			r.NDNS++
		}
	}
}

// valid applies the rules on addresses.
func (m *NDP) valid(p *Packet) bool {
	anonymous := p.Src.IsUnspecified()
	switch m.Type {
	case RouterSolicitation: // RFC 4861, 6.1.1
		return !anonymous || !m.HasMAC
	case RouterAdvertisement: // 6.1.2
		return p.Src.IsLinkLocalUnicast()
	case NeighborSolicitation: // 7.1.1
		return Unicast(m.Target) && (!anonymous || !m.HasMAC && p.Dst == SolicitedNode(m.Target))
	}
	return Unicast(m.Target) && !(p.Dst.IsMulticast() && m.Solicited) // 7.1.2
}

// Put writes a solicitation or a neighbour advertisement to b as the payload of a
// packet from src to dst, checksum included. It returns the length: 32 bytes at
// most. The packet's hop limit has to be 255.
func (m *NDP) Put(b []byte, src, dst netip.Addr) int {
	n := 8
	clear(b[:n])
	b[0] = m.Type
	if m.Type != RouterSolicitation {
		n = 24
		t := m.Target.As16()
		copy(b[8:n], t[:])
	}
	link := uint8(ndpSourceLink)
	if m.Type == NeighborAdvertisement {
		link = ndpTargetLink
		for i, set := range [...]bool{m.Router, m.Solicited, m.Override} {
			if set {
				b[4] |= 0x80 >> i
			}
		}
	}
	if m.HasMAC {
		b[n], b[n+1] = link, 1
		copy(b[n+2:n+8], m.MAC[:])
		n += 8
	}
	sum := Add(Sum(b[:n]), PseudoSum(src, dst, ProtoICMPv6, n))
	binary.BigEndian.PutUint16(b[2:], ^sum)
	return n
}
