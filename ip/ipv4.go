package ip

import (
	"encoding/binary"
	"net/netip"
)

// The IPv4 header (RFC 791, 3.1).
const (
	ipv4Len = 20

	flagDF     = 0x4000
	flagMF     = 0x2000
	fragOffset = 0x1fff // in units of 8 bytes

	optEnd  = 0
	optNop  = 1
	optLSRR = 131
	optSSRR = 137

	optRecordRoute = 7
	optTimestamp   = 68
	optRouterAlert = 148
)

// parse4 reads an IPv4 header. total is the length of the packet, of which b
// is the beginning.
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
	if hl > ipv4Len && !options4(b[ipv4Len:hl]) {
		return ErrHeader
	}
	p.V6 = false
	p.TOS, p.TTL, p.Proto = b[1], b[8], b[9]
	p.Src = netip.AddrFrom4([4]byte(b[12:16]))
	p.Dst = netip.AddrFrom4([4]byte(b[16:20]))
	p.L4Off, p.L4Len = p.NetOff+hl, n-hl
	frag := binary.BigEndian.Uint16(b[6:])
	p.MoreFrags = frag&flagMF != 0
	p.FragOff = int(frag&fragOffset) * 8
	p.Fragment = p.MoreFrags || p.FragOff != 0
	p.FragID = uint32(binary.BigEndian.Uint16(b[4:]))
	return nil
}

// options4 reports whether a packet with these options may be received: they
// are well-formed, as far as Linux looks (ip_options_compile), and no source route
// (RFC 7126, 4.3, 4.4; Linux's default).
func options4(b []byte) bool {
	for len(b) > 0 {
		switch b[0] {
		case optEnd:
			return true
		case optNop:
			b = b[1:]
			continue
		case optLSRR, optSSRR:
			return false
		}
		// The length counts the type and itself: less than 2 would go on forever.
		if len(b) < 2 || b[1] < 2 || int(b[1]) > len(b) || !option4(b[:b[1]]) {
			return false
		}
		b = b[b[1]:]
	}
	return true
}

// option4 looks at one option, which is all of b.
func option4(b []byte) bool {
	n := len(b)
	switch b[0] {
	case optRecordRoute: // RFC 791, 3.1: the pointer counts from 1; an address has room
		return n >= 3 && b[2] >= 4 && (int(b[2]) > n || int(b[2])+3 <= n)
	case optTimestamp:
		if n < 4 || b[2] < 5 {
			return false
		}
		if int(b[2]) > n {
			return b[3]>>4 < 15 // so many hosts had no room
		}
		room := 7 // an address and a time
		if b[3]&15 == 0 {
			room = 3 // a time
		}
		return int(b[2])+room <= n
	case optRouterAlert:
		return n >= 4
	}
	return true
}
