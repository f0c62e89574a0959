package ip

import (
	"encoding/binary"
	"errors"
	"net/netip"
)

// Errors of Parse. They say why a packet is no business of ours.
var (
	ErrNotIP    = errors.New("ip: not an IP packet")
	ErrShort    = errors.New("ip: packet is shorter than its headers say")
	ErrHeader   = errors.New("ip: bad header")
	ErrChecksum = errors.New("ip: bad header checksum")
)

// Link layer.
const (
	etherLen   = 14
	vlanLen    = 4
	typeIPv4   = 0x0800
	typeIPv6   = 0x86dd
	typeVLAN   = 0x8100
	typeQinQ   = 0x88a8
	maxVLANs   = 2
	ipv4Len    = 20
	ipv6Len    = 40
	fragHdrLen = 8
)

// Packet is what the link and network layers of a received packet say.
type Packet struct {
	DstMAC, SrcMAC [6]byte
	VLAN           uint16 // VID of the outer tag, 0: untagged
	V6             bool
	Src, Dst       netip.Addr
	Proto          uint8 // transport protocol, extension headers skipped
	TTL, TOS       uint8
	NetOff         int // of the IP header from the start of the data
	L4Off          int // of the transport header
	L4Len          int // transport header and payload, padding not counted

	Fragment  bool
	MoreFrags bool
	FragID    uint32
	FragOff   int // bytes
}

// Parse reads the headers of a packet of total bytes, of which first is the
// beginning, with all headers up to the transport's. It allocates nothing.
func Parse(first []byte, total int, p *Packet) error {
	if len(first) < etherLen || total < len(first) {
		return ErrShort
	}
	copy(p.DstMAC[:], first[0:6])
	copy(p.SrcMAC[:], first[6:12])
	p.VLAN = 0
	off := etherLen
	typ := binary.BigEndian.Uint16(first[12:])
	for n := 0; (typ == typeVLAN || typ == typeQinQ) && n < maxVLANs; n++ {
		if len(first) < off+vlanLen {
			return ErrShort
		}
		if n == 0 {
			p.VLAN = binary.BigEndian.Uint16(first[off:]) & 0xfff
		}
		typ = binary.BigEndian.Uint16(first[off+2:])
		off += vlanLen
	}
	p.NetOff = off
	switch typ {
	case typeIPv4:
		return parse4(first[off:], total-off, p)
	case typeIPv6:
		return parse6(first[off:], total-off, p)
	}
	return ErrNotIP
}

// parse4 reads an IPv4 header (RFC 791, 3.1).
func parse4(b []byte, total int, p *Packet) error {
	if len(b) < ipv4Len {
		return ErrShort
	}
	hl := int(b[0]&15) * 4
	if b[0]>>4 != 4 || hl < ipv4Len {
		return ErrHeader
	}
	if len(b) < hl {
		return ErrShort
	}
	n := int(binary.BigEndian.Uint16(b[2:]))
	if n == 0 && total > 0xffff {
		n = total // BIG TCP: a packet that never was on a wire
	}
	if n < hl || n > total {
		return ErrShort
	}
	if Sum(b[:hl]) != 0xffff {
		return ErrChecksum
	}
	p.V6 = false
	p.TOS, p.TTL, p.Proto = b[1], b[8], b[9]
	p.Src = netip.AddrFrom4([4]byte(b[12:16]))
	p.Dst = netip.AddrFrom4([4]byte(b[16:20]))
	p.L4Off, p.L4Len = p.NetOff+hl, n-hl
	frag := binary.BigEndian.Uint16(b[6:])
	p.MoreFrags = frag&0x2000 != 0
	p.FragOff = int(frag&0x1fff) * 8
	p.Fragment = p.MoreFrags || p.FragOff != 0
	p.FragID = uint32(binary.BigEndian.Uint16(b[4:]))
	return nil
}

// IPv6 extension headers (RFC 8200, 4).
const (
	extHopByHop = 0
	extRouting  = 43
	extFragment = 44
	extDest     = 60
	maxExts     = 8 // longer chains only cost time (attack 23)
)

// parse6 reads an IPv6 header and what follows, up to the transport's.
func parse6(b []byte, total int, p *Packet) error {
	if len(b) < ipv6Len {
		return ErrShort
	}
	if b[0]>>4 != 6 {
		return ErrHeader
	}
	n := ipv6Len + int(binary.BigEndian.Uint16(b[4:]))
	if n == ipv6Len && total > 0xffff {
		n = total
	}
	if n > total {
		return ErrShort
	}
	p.V6 = true
	p.TOS = b[0]<<4 | b[1]>>4
	p.TTL = b[7]
	p.Src = netip.AddrFrom16([16]byte(b[8:24]))
	p.Dst = netip.AddrFrom16([16]byte(b[24:40]))
	p.Fragment, p.MoreFrags, p.FragOff, p.FragID = false, false, 0, 0
	next, off := b[6], ipv6Len
	for range maxExts {
		switch next {
		case extHopByHop, extRouting, extDest:
			if len(b) < off+8 {
				return ErrShort
			}
			next, off = b[off], off+8+int(b[off+1])*8
		case extFragment:
			if len(b) < off+fragHdrLen {
				return ErrShort
			}
			f := binary.BigEndian.Uint16(b[off+2:])
			p.FragOff, p.MoreFrags = int(f&^7), f&1 != 0
			p.FragID = binary.BigEndian.Uint32(b[off+4:])
			// An atomic fragment is a whole packet (RFC 6946).
			p.Fragment = p.FragOff != 0 || p.MoreFrags
			next, off = b[off], off+fragHdrLen
			if p.FragOff != 0 {
				// What follows is not a header.
				p.Proto, p.L4Off, p.L4Len = next, p.NetOff+off, n-off
				if off > n {
					return ErrShort
				}
				return nil
			}
		default:
			if off > n {
				return ErrShort
			}
			p.Proto, p.L4Off, p.L4Len = next, p.NetOff+off, n-off
			return nil
		}
	}
	return ErrHeader
}
