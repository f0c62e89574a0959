package sim

import (
	"encoding/binary"
	"net/netip"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/ring"
)

// headers is what the link must know of a packet to steer, segment and check
// it.
type headers struct {
	net, l4    int // offsets; l4 is 0 in a fragment that is not the first
	end        int // of the IP packet
	v6         bool
	proto      uint8
	src, dst   netip.Addr
	sport      uint16 // TCP and UDP
	dport      uint16
	fragment   bool
	firstFrag  bool
	fragID     uint32
	headerSize int // link, network and TCP header
}

const (
	protoICMP   = 1
	protoTCP    = 6
	protoUDP    = 17
	protoICMPv6 = 58
)

// netOffset is where the network header starts, and the ethertype.
func netOffset(b []byte) (off int, typ uint16) {
	if len(b) < 14 {
		return len(b), 0
	}
	off, typ = 14, binary.BigEndian.Uint16(b[12:])
	for (typ == 0x8100 || typ == 0x88a8) && len(b) >= off+4 {
		typ = binary.BigEndian.Uint16(b[off+2:])
		off += 4
	}
	return off, typ
}

// parse fills h from a frame; false when it is not a whole IP packet.
func (h *headers) parse(b []byte) bool {
	off, typ := netOffset(b)
	*h = headers{net: off, v6: typ == 0x86dd}
	if typ != 0x0800 && !h.v6 {
		return false
	}
	return h.parseIP(b[off:], off)
}

// parseIP parses an IP packet at offset base of a frame.
func (h *headers) parseIP(p []byte, base int) bool {
	var at int
	if h.v6 {
		if len(p) < 40 || p[0]>>4 != 6 {
			return false
		}
		h.src, h.dst = netip.AddrFrom16([16]byte(p[8:24])), netip.AddrFrom16([16]byte(p[24:40]))
		h.end = base + 40 + int(binary.BigEndian.Uint16(p[4:]))
		h.proto, at = p[6], 40
		var ok bool
		if at, ok = h.extensions(p, at); !ok {
			return false
		}
	} else {
		if len(p) < 20 || p[0]>>4 != 4 {
			return false
		}
		at = int(p[0]&15) * 4
		if at < 20 || len(p) < at {
			return false
		}
		h.src, h.dst = netip.AddrFrom4([4]byte(p[12:16])), netip.AddrFrom4([4]byte(p[16:20]))
		h.proto = p[9]
		h.end = base + int(binary.BigEndian.Uint16(p[2:]))
		if frag := binary.BigEndian.Uint16(p[6:]); frag&0x3fff != 0 {
			h.fragment, h.firstFrag = true, frag&0x1fff == 0
			h.fragID = uint32(binary.BigEndian.Uint16(p[4:]))
		}
	}
	if h.fragment && !h.firstFrag {
		return true
	}
	h.l4 = base + at
	if l4 := p[at:]; h.proto == protoTCP || h.proto == protoUDP {
		if len(l4) < 8 {
			return false
		}
		h.sport, h.dport = binary.BigEndian.Uint16(l4), binary.BigEndian.Uint16(l4[2:])
		if h.proto == protoTCP && len(l4) >= 20 {
			h.headerSize = h.l4 + int(l4[12]>>4)*4
		}
	}
	return true
}

// extensions walks the IPv6 extension headers to the transport header.
func (h *headers) extensions(p []byte, at int) (int, bool) {
	for range 8 {
		switch h.proto {
		case 0, 43, 60: // hop-by-hop, routing, destination options
			if len(p) < at+8 {
				return at, false
			}
			h.proto, at = p[at], at+8+int(p[at+1])*8
		case 44:
			if len(p) < at+8 {
				return at, false
			}
			h.fragment, h.firstFrag = true, binary.BigEndian.Uint16(p[at+2:])&^7 == 0
			h.fragID = binary.BigEndian.Uint32(p[at+4:])
			h.proto, at = p[at], at+8
			if !h.firstFrag {
				return at, true
			}
		default:
			return at, len(p) >= at
		}
		if at > len(p) {
			return at, false
		}
	}
	return at, false
}

// rss is the hash that the NIC computes.
func (h *headers) rss(t *driver.Toeplitz) uint32 {
	if !h.fragment && (h.proto == protoTCP || h.proto == protoUDP) {
		return t.Flow(netip.AddrPortFrom(h.src, h.sport), netip.AddrPortFrom(h.dst, h.dport))
	}
	return t.Addrs(h.src, h.dst)
}

// sum16 adds b as big-endian words to s, folded.
func sum16(s uint32, b []byte) uint32 {
	for ; len(b) >= 2; b = b[2:] {
		s += uint32(binary.BigEndian.Uint16(b))
		s = s&0xffff + s>>16
	}
	if len(b) == 1 {
		s += uint32(b[0]) << 8
	}
	for s>>16 != 0 {
		s = s&0xffff + s>>16
	}
	return s
}

// pseudo is the sum of the pseudo-header.
func (h *headers) pseudo(n int) uint32 {
	s := uint32(h.proto) + uint32(n>>16) + uint32(n&0xffff)
	src, dst := h.src.As16(), h.dst.As16()
	if !h.v6 {
		return sum16(sum16(s, src[12:]), dst[12:])
	}
	return sum16(sum16(s, src[:]), dst[:])
}

// verify tells whether the transport checksum is there and right.
func (h *headers) verify(b []byte) bool {
	if h.fragment || h.end > len(b) || h.l4 > h.end {
		return false
	}
	switch h.proto {
	case protoTCP:
	case protoUDP:
		if binary.BigEndian.Uint16(b[h.l4+6:]) == 0 {
			return false
		}
	default:
		return false
	}
	l4 := b[h.l4:h.end]
	return sum16(h.pseudo(len(l4)), l4) == 0xffff
}

// finish completes a partial checksum.
func finish(p *packet) {
	if p.flags&ring.FlagCsumPartial == 0 {
		return
	}
	p.flags &^= ring.FlagCsumPartial
	start := int(p.csumStart)
	c := ^uint16(sum16(0, p.buf[start:]))
	if c == 0 {
		c = 0xffff // RFC 768: zero means no checksum; TCP takes both
	}
	binary.BigEndian.PutUint16(p.buf[start+int(p.csumOff):], c)
}

// wireSize is the largest IP packet that p is on the wire.
func wireSize(p *packet) int {
	off, _ := netOffset(p.buf)
	n := len(p.buf) - off
	if p.flags&ring.FlagGSO == 0 {
		return n
	}
	var h headers
	if !h.parse(p.buf) || h.headerSize == 0 {
		return n
	}
	return min(n, h.headerSize-off+int(p.segSize))
}

// markCE sets congestion experienced (RFC 3168, section 5) on a packet whose
// sender can hear it.
func markCE(b []byte) bool {
	off, typ := netOffset(b)
	switch {
	case typ == 0x0800 && len(b) >= off+20:
		if b[off+1]&3 == 0 {
			return false
		}
		b[off+1] |= 3
		putIPv4Sum(b[off:])
	case typ == 0x86dd && len(b) >= off+40:
		if b[off+1]>>4&3 == 0 {
			return false
		}
		b[off+1] |= 3 << 4
	default:
		return false
	}
	return true
}

func putIPv4Sum(p []byte) {
	n := min(int(p[0]&15)*4, len(p))
	p[10], p[11] = 0, 0
	binary.BigEndian.PutUint16(p[10:], ^uint16(sum16(0, p[:n])))
}

// segment cuts a TCP packet into packets of size payload bytes, as TSO does,
// and calls emit for each. It returns false when the packet cannot be cut.
func (q *Queue) segment(p *packet, emit func(*packet)) bool {
	var h headers
	size := int(p.segSize)
	if !h.parse(p.buf) || h.proto != protoTCP || h.fragment || h.headerSize > len(p.buf) ||
		h.headerSize < h.l4+20 || size == 0 {
		return false
	}
	hdr, data := p.buf[:h.headerSize], p.buf[h.headerSize:]
	seq := binary.BigEndian.Uint32(hdr[h.l4+4:])
	const fin, psh, cwr = 1, 8, 0x80
	for i, off := 0, 0; ; i, off = i+1, off+size {
		last := off+size >= len(data)
		n := min(size, len(data)-off)
		s := q.get(len(hdr) + n)
		copy(s.buf, hdr)
		copy(s.buf[len(hdr):], data[off:off+n])
		ipLen := len(s.buf) - h.net
		if h.v6 {
			binary.BigEndian.PutUint16(s.buf[h.net+4:], uint16(ipLen-40))
		} else {
			binary.BigEndian.PutUint16(s.buf[h.net+2:], uint16(ipLen))
			id := binary.BigEndian.Uint16(hdr[h.net+4:])
			binary.BigEndian.PutUint16(s.buf[h.net+4:], id+uint16(i))
			putIPv4Sum(s.buf[h.net:])
		}
		t := s.buf[h.l4:]
		binary.BigEndian.PutUint32(t[4:], seq+uint32(off))
		if !last {
			t[13] &^= fin | psh
		}
		if off > 0 {
			t[13] &^= cwr // RFC 3168, section 6.1.2: on the first only
		}
		t[16], t[17] = 0, 0
		binary.BigEndian.PutUint16(t[16:], ^uint16(sum16(h.pseudo(len(t)), t)))
		emit(s)
		if last {
			return true
		}
	}
}
