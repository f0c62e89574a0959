package ip

import (
	"encoding/binary"
	"net/netip"
)

// MaxHeader is the longest Header: Ethernet, a VLAN tag, IPv6.
const MaxHeader = etherLen + vlanLen + ipv6Len

// Header is a template of the link and network headers of all packets from
// one address to another.
type Header struct {
	b   [MaxHeader]byte
	n   uint8  // bytes used
	net uint8  // offset of the IP header
	sum uint16 // IPv4: sum of the header without what Put writes
	tos uint8
}

// Init builds the template. vlan 0 is untagged. src and dst are of one
// family. IPv4 packets carry DF (RFC 8900; path MTU discovery).
func (h *Header) Init(srcMAC, dstMAC [6]byte, vlan uint16, src, dst netip.Addr, proto, tos, ttl uint8) {
	b := h.b[:]
	copy(b[0:], dstMAC[:])
	copy(b[6:], srcMAC[:])
	off := 12
	if vlan != 0 {
		binary.BigEndian.PutUint16(b[off:], typeVLAN)
		binary.BigEndian.PutUint16(b[off+2:], vlan)
		off += vlanLen
	}
	h.tos = tos &^ 3
	if src.Is4() {
		binary.BigEndian.PutUint16(b[off:], typeIPv4)
		off += 2
		h.net = uint8(off)
		n := b[off : off+ipv4Len]
		clear(n)
		n[0] = 0x45
		n[1] = h.tos
		n[6] = 0x40 // DF
		n[8], n[9] = ttl, proto
		s, d := src.As4(), dst.As4()
		copy(n[12:], s[:])
		copy(n[16:], d[:])
		h.sum = Sum(n)
		h.n = uint8(off + ipv4Len)
		return
	}
	binary.BigEndian.PutUint16(b[off:], typeIPv6)
	off += 2
	h.net = uint8(off)
	n := b[off : off+ipv6Len]
	clear(n)
	n[0] = 0x60 | h.tos>>4
	n[1] = h.tos << 4
	n[6], n[7] = proto, ttl
	s, d := src.As16(), dst.As16()
	copy(n[8:], s[:])
	copy(n[24:], d[:])
	h.n = uint8(off + ipv6Len)
}

// Len is the length of the headers in bytes.
func (h *Header) Len() int { return int(h.n) }

// NetLen is the length of the IP header in bytes.
func (h *Header) NetLen() int { return int(h.n - h.net) }

// Put writes the headers of a packet with l4len bytes of transport header and
// payload to b, which has Len bytes at least. ecn is the ECN codepoint, id
// the IPv4 identification.
func (h *Header) Put(b []byte, l4len int, ecn uint8, id uint16) {
	copy(b[:h.n], h.b[:h.n])
	n := b[h.net:h.n]
	if len(n) == ipv6Len {
		binary.BigEndian.PutUint16(n[4:], uint16(l4len))
		n[1] |= ecn << 4
		return
	}
	total := uint16(ipv4Len + l4len)
	n[1] |= ecn
	binary.BigEndian.PutUint16(n[2:], total)
	binary.BigEndian.PutUint16(n[4:], id)
	sum := Add(Add(Add(h.sum, total), id), uint16(ecn))
	binary.BigEndian.PutUint16(n[10:], ^sum)
}
