package sim

import (
	"encoding/binary"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/ip"
	"github.com/onload-go/onload/ring"
)

// finish completes a partial checksum.
func finish(p *packet) {
	if p.flags&ring.FlagCsumPartial == 0 {
		return
	}
	p.flags &^= ring.FlagCsumPartial
	start := int(p.csumStart)
	c := ^ip.Sum(p.buf[start:])
	if c == 0 {
		c = 0xffff // RFC 768: zero means no checksum; TCP takes both
	}
	binary.BigEndian.PutUint16(p.buf[start+int(p.csumOff):], c)
}

// wireSize is the largest IP packet that p is on the wire, in bytes.
func wireSize(p *packet) int {
	if p.flags&ring.FlagGSO != 0 {
		return min(len(p.buf), int(p.hdrLen)+int(p.segSize)) - int(p.netOff)
	}
	return len(p.buf) - ip.NetOffset(p.buf)
}

// TCP flags (RFC 9293 section 3.1).
const fin, psh, cwr = 1, 8, 0x80

// segmentable reports whether the Desc of p describes a TCP packet that can be
// cut.
func segmentable(p *packet) bool {
	return p.flags&ring.FlagCsumPartial != 0 && p.segSize > 0 && p.csumOff == driver.TCPChecksum &&
		p.netOff > 0 && int(p.csumStart) >= int(p.netOff)+20 && int(p.hdrLen) >= int(p.csumStart)+driver.TCPHeaderLen && int(p.hdrLen) <= len(p.buf)
}

// segment cuts a TCP packet into packets of segSize bytes of payload, as TSO
// does, and calls emit for each.
func (q *Queue) segment(p *packet, emit func(*packet)) {
	size, net, l4 := int(p.segSize), int(p.netOff), int(p.csumStart)
	hdr, data := p.buf[:p.hdrLen], p.buf[p.hdrLen:]
	seq := binary.BigEndian.Uint32(hdr[l4+driver.TCPSeq:])
	// The checksum field holds the sum of the pseudo-header, whose length is
	// that of the large packet.
	pseudo := ip.Add(binary.BigEndian.Uint16(hdr[l4+driver.TCPChecksum:]), ^uint16(len(p.buf)-l4))
	for i, off := 0, 0; ; i, off = i+1, off+size {
		last := off+size >= len(data)
		n := min(size, len(data)-off)
		s := q.get(len(hdr) + n)
		copy(s.buf, hdr)
		copy(s.buf[len(hdr):], data[off:off+n])
		h := s.buf[net:]
		if p.flags&ring.FlagV6 != 0 {
			binary.BigEndian.PutUint16(h[4:], uint16(len(h)-40))
		} else {
			binary.BigEndian.PutUint16(h[2:], uint16(len(h)))
			id := binary.BigEndian.Uint16(h[4:])
			binary.BigEndian.PutUint16(h[4:], id+uint16(i))
			putIPv4Sum(h[:l4-net])
		}
		t := s.buf[l4:]
		binary.BigEndian.PutUint32(t[driver.TCPSeq:], seq+uint32(off))
		if !last {
			t[driver.TCPFlags] &^= fin | psh
		}
		if off > 0 && p.flags&ring.FlagCWR != 0 {
			t[driver.TCPFlags] &^= cwr // RFC 3168 section 6.1.2: on the first only
		}
		binary.BigEndian.PutUint16(t[driver.TCPChecksum:], ip.Add(pseudo, uint16(len(t))))
		binary.BigEndian.PutUint16(t[driver.TCPChecksum:], ^ip.Sum(t))
		emit(s)
		if last {
			return
		}
	}
}
