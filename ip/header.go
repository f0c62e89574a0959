package ip

import (
	"encoding/binary"
	"net/netip"

	"github.com/onload-go/onload/ring"
)

// MaxHeader is the longest that Header writes: Ethernet, a VLAN tag, IPv6 and
// a fragment header.
const MaxHeader = etherLen + vlanLen + ipv6Len + fragLen

// Header is a template of the link and network headers of all packets from one
// address to another.
type Header struct {
	b   [MaxHeader - fragLen]byte
	n   uint8  // bytes used
	net uint8  // offset of the IP header
	sum uint16 // IPv4: sum of the header without what Put writes
}

// Init builds the template. vlan 0 is untagged. src and dst are of one
// family. IPv4 packets carry DF: their MTU is discovered (RFC 1191), and
// their ID means nothing (RFC 6864).
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
	tos &^= 3 // Put adds the ECN codepoint (RFC 3168, 5)
	if src.Is4() {
		binary.BigEndian.PutUint16(b[off:], typeIPv4)
		off += 2
		h.net, h.n = uint8(off), uint8(off+ipv4Len)
		n := b[off : off+ipv4Len]
		clear(n)
		n[0], n[1] = 0x45, tos
		binary.BigEndian.PutUint16(n[6:], flagDF)
		n[8], n[9] = ttl, proto
		s, d := src.As4(), dst.As4()
		copy(n[12:], s[:])
		copy(n[16:], d[:])
		h.sum = Sum(n)
		return
	}
	binary.BigEndian.PutUint16(b[off:], typeIPv6)
	off += 2
	h.net, h.n = uint8(off), uint8(off+ipv6Len)
	n := b[off : off+ipv6Len]
	clear(n)
	n[0], n[1] = 0x60|tos>>4, tos<<4
	n[6], n[7] = proto, ttl
	s, d := src.As16(), dst.As16()
	copy(n[8:], s[:])
	copy(n[24:], d[:])
}

// Fragmentable takes DF out of a template of Init's, if it is of IPv4: routers may
// cut the packets. Each then needs an ID of its own (RFC 6864, section 4.2).
func (h *Header) Fragmentable() {
	if h.NetLen() == ipv6Len {
		return
	}
	n := h.b[h.net:h.n]
	binary.BigEndian.PutUint16(n[6:], 0)
	h.sum = Sum(n)
}

// InitReply builds the template of answers to p.
func (h *Header) InitReply(p *Packet, proto, tos, ttl uint8) {
	h.Init(p.DstMAC, p.SrcMAC, p.VLAN, p.Dst, p.Src, proto, tos, ttl)
}

// Len is the length of the headers in bytes.
func (h *Header) Len() int { return int(h.n) }

// NetLen is the length of the IP header in bytes.
func (h *Header) NetLen() int { return int(h.n - h.net) }

// Describe tells a device about the headers of h, with which the packet of d
// begins. It sets NetOff and FlagV6. d is the packet's first Desc.
func (h *Header) Describe(d *ring.Desc) {
	d.NetOff = uint16(h.net)
	if h.NetLen() == ipv6Len {
		d.Flags |= ring.FlagV6
	}
}

// Put writes the headers of a packet with l4len bytes of transport header and
// payload to b, which has at least Len bytes. ecn is the ECN codepoint, id the IPv4
// identification.
func (h *Header) Put(b []byte, l4len int, ecn uint8, id uint16) {
	switch h.n { // a copy of known length is a few instructions
	case etherLen + ipv4Len:
		copy(b[:etherLen+ipv4Len], h.b[:etherLen+ipv4Len])
	case etherLen + ipv6Len:
		copy(b[:etherLen+ipv6Len], h.b[:etherLen+ipv6Len])
	default:
		copy(b[:h.n], h.b[:h.n])
	}
	n := b[h.net:h.n]
	if len(n) == ipv6Len {
		binary.BigEndian.PutUint16(n[4:], uint16(l4len))
		n[1] |= ecn << 4
		return
	}
	total := uint16(ipv4Len + l4len)
	n[1] |= ecn
	binary.BigEndian.PutUint32(n[2:], uint32(total)<<16|uint32(id))
	sum := uint32(h.sum) + uint32(total) + uint32(id) + uint32(ecn)
	sum = sum>>16 + sum&0xffff
	binary.BigEndian.PutUint16(n[10:], ^uint16(sum>>16+sum))
}

// FragLen is the length in bytes of the headers that PutFragment writes.
func (h *Header) FragLen() int {
	if h.NetLen() == ipv6Len {
		return int(h.n) + fragLen
	}
	return int(h.n)
}

// PutFragment writes the headers of a fragment of n bytes, which begins at byte off
// of the datagram. more says that it is not the last. b has at least FragLen bytes.
// id is the same for all fragments of a datagram, and random for each datagram (RFC
// 7739, 5.3); IPv4 has room for its lower half.
func (h *Header) PutFragment(b []byte, n int, ecn uint8, id uint32, off int, more bool) {
	if h.NetLen() == ipv6Len {
		h.Put(b, n+fragLen, ecn, 0)
		f := b[h.n:h.FragLen()]
		f[0], f[1] = b[h.net+6], 0
		b[h.net+6] = extFragment
		field := uint16(off)
		if more {
			field |= 1
		}
		binary.BigEndian.PutUint16(f[2:], field)
		binary.BigEndian.PutUint32(f[4:], id)
		return
	}
	h.Put(b, n, ecn, uint16(id))
	field := uint16(off / 8)
	if more {
		field |= flagMF
	}
	// The field was DF, or 0 (RFC 1624, 3: m' - m is m' + ^m).
	hb := b[h.net:]
	sum := Add(Add(^binary.BigEndian.Uint16(hb[10:]), field), ^binary.BigEndian.Uint16(hb[6:]))
	binary.BigEndian.PutUint16(hb[6:], field)
	binary.BigEndian.PutUint16(hb[10:], ^sum)
}

// Fragments is the plan for cutting a datagram that is larger than the MTU.
type Fragments struct {
	off, size, step int
}

// Fragments plans the fragments of size bytes of transport header and payload for
// packets of at most mtu bytes. ok is false if the MTU is too small to carry
// anything.
func (h *Header) Fragments(size, mtu int) (f Fragments, ok bool) {
	// All but the last carry a multiple of 8 bytes (RFC 791, 3.2; RFC 8200, 4.5).
	step := (mtu - (h.FragLen() - int(h.net))) &^ 7
	return Fragments{size: size, step: step}, step > 0
}

// Step is the number of bytes in each fragment but the last.
func (f *Fragments) Step() int { return f.step }

// Next returns the next fragment: n bytes from off on; more says that it is not the
// last. ok is false when there are no more.
func (f *Fragments) Next() (off, n int, more, ok bool) {
	if f.off >= f.size {
		return 0, 0, false, false
	}
	off, n = f.off, min(f.step, f.size-f.off)
	f.off += n
	return off, n, f.off < f.size, true
}
