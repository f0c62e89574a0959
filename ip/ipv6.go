package ip

import (
	"encoding/binary"
	"net/netip"
)

// The IPv6 header and its extensions (RFC 8200, 3 and 4).
const (
	ipv6Len = 40
	fragLen = 8 // fragment header

	extHopByHop = 0
	extRouting  = 43
	extFragment = 44
	extDest     = 60

	// A packet with more headers than this only costs time (attack 23; RFC 8504,
	// 5.3).
	maxExts = 8
)

// parse6 reads an IPv6 header, and extension headers up to the transport's.
// total is the length of the packet, of which b is the beginning.
func parse6(b []byte, total int, p *Packet) error {
	if len(b) < ipv6Len {
		return ErrShort
	}
	if b[0]>>4 != 6 {
		return ErrHeader
	}
	n := ipv6Len + int(binary.BigEndian.Uint16(b[4:]))
	if n == ipv6Len && total > 0xffff {
		n = total // BIG TCP, as in parse4
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
	x := extChain{b: b[:min(n, len(b))], next: b[6], off: ipv6Len}
	if err := x.walk(p); err != nil {
		return err
	}
	p.Proto, p.L4Off, p.L4Len = x.next, p.NetOff+x.off, n-x.off
	return nil
}

// extChain is a walk along extension headers.
type extChain struct {
	b    []byte
	next uint8 // header at off
	off  int
	frag bool // a fragment header was there: a second one is refused
}

// walk moves to the header that ends the chain: the transport's, or what
// follows the fragment header of a fragment. That header's content goes to p.
func (x *extChain) walk(p *Packet) error {
	start := x.off
	for range maxExts {
		n := 8
		switch x.next {
		case extHopByHop, extRouting, extDest, extFragment:
			if len(x.b) < x.off+8 {
				return ErrShort
			}
		default:
			if x.off > len(x.b) {
				return ErrShort
			}
			return nil
		}
		h := x.b[x.off:]
		switch x.next {
		case extHopByHop:
			if x.off != start { // RFC 8200, 4.1
				return ErrHeader
			}
			if n = 8 + int(h[1])*8; n > len(h) {
				return ErrShort
			}
			if !options6(h[2:n]) {
				return ErrHeader
			}
		case extDest:
			if n = 8 + int(h[1])*8; n > len(h) {
				return ErrShort
			}
			if !options6(h[2:n]) {
				return ErrHeader
			}
		case extRouting:
			if h[3] != 0 {
				return ErrHeader // segments left: for a router (RFC 8200, 4.4; RFC 5095)
			}
			n = 8 + int(h[1])*8
		case extFragment:
			if x.frag {
				return ErrHeader
			}
			x.frag = true
			f := binary.BigEndian.Uint16(h[2:])
			p.FragOff, p.MoreFrags = int(f&^7), f&1 != 0
			p.FragID = binary.BigEndian.Uint32(h[4:])
			// An atomic fragment is a whole packet (RFC 6946, 4).
			p.Fragment = p.FragOff != 0 || p.MoreFrags
		}
		x.next, x.off = h[0], x.off+n
		if p.Fragment {
			if x.off > len(x.b) {
				return ErrShort
			}
			return nil
		}
	}
	return ErrHeader
}

// Options of the hop-by-hop and the destination header.
const (
	opt6Pad1  = 0
	opt6Jumbo = 0xc2 // RFC 2675, 2: kernels put it into BIG TCP's packets
)

// options6 reports whether a packet with these options may be received. They must
// be well-formed, and the type of each unknown one must say to skip it, not to
// discard the packet (RFC 8200, 4.2). None that we know concerns a transport.
func options6(b []byte) bool {
	for len(b) > 0 {
		if b[0] == opt6Pad1 {
			b = b[1:]
			continue
		}
		if b[0]>>6 != 0 && b[0] != opt6Jumbo || len(b) < 2 || len(b) < 2+int(b[1]) {
			return false
		}
		b = b[2+int(b[1]):]
	}
	return true
}
