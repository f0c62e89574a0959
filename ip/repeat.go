package ip

import (
	"encoding/binary"
	"math/bits"
)

// Repeat recognises a packet whose link and network headers equal those of the
// packet before, except the fields that differ from packet to packet: length,
// identification, TOS, flow label and checksum. Nearly all packets of a turn are of
// one flow, so the results of Parse, and of the checks behind it, hold for them
// too. The zero value recognises none.
type Repeat struct {
	n     int // length of the headers, 0: none
	words [7]uint64
}

const (
	repeat4 = etherLen + ipv4Len
	repeat6 = etherLen + ipv6Len
)

// Learn remembers the headers of the packet that begins with first, of which Parse
// made p. Packets with VLAN tags, options or extension headers, and fragments, are
// not worth it.
func (r *Repeat) Learn(first []byte, p *Packet) {
	r.n = 0
	if p.NetOff != etherLen || p.Fragment {
		return
	}
	switch {
	case !p.V6 && p.L4Off == repeat4:
		w := words4(first)
		r.n = repeat4
		copy(r.words[:], w[:])
	case p.V6 && p.L4Off == repeat6:
		r.n = repeat6
		r.words = words6(first)
	}
}

// Forget has the next packet parsed.
func (r *Repeat) Forget() { r.n = 0 }

// Match reports whether the packet of total bytes that begins with first has the
// headers of the one that Learn saw. If so, it sets the fields of p that differ. p
// must be unchanged since Learn.
func (r *Repeat) Match(first []byte, total int, p *Packet) bool {
	if r.n == 0 || len(first) < r.n {
		return false
	}
	if r.n == repeat4 {
		return r.match4(first, total, p)
	}
	n := int(binary.BigEndian.Uint16(first[18:]))
	if words6(first) != r.words || n == 0 || n > total-repeat6 {
		return false
	}
	p.TOS = first[14]<<4 | first[15]>>4
	p.L4Len = n
	return true
}

func (r *Repeat) match4(b []byte, total int, p *Packet) bool {
	b = b[:repeat4]
	w := words4(b)
	if w[0] != r.words[0] || w[1] != r.words[1] || w[2] != r.words[2] || w[3] != r.words[3] {
		return false
	}
	n := int(binary.BigEndian.Uint16(b[16:]))
	if n < ipv4Len || n > total-etherLen {
		return false
	}
	s, c := bits.Add64(binary.LittleEndian.Uint64(b[14:]), binary.LittleEndian.Uint64(b[22:]), 0)
	s, c = bits.Add64(s, uint64(binary.LittleEndian.Uint32(b[30:])), c)
	if fold(s+c) != 0xffff {
		return false
	}
	p.TOS = b[15]
	p.FragID = uint32(binary.BigEndian.Uint16(b[18:]))
	p.L4Len = n - ipv4Len
	return true
}

// words4 has the fields that stay the same in the headers of a flow over IPv4: all
// but TOS, length, identification and checksum.
func words4(b []byte) [4]uint64 {
	_ = b[repeat4-1]
	return [4]uint64{
		binary.LittleEndian.Uint64(b[0:]),
		binary.LittleEndian.Uint64(b[8:]) & (1<<56 - 1),
		binary.LittleEndian.Uint64(b[16:]) >> 32,
		binary.LittleEndian.Uint64(b[26:]),
	}
}

// words6 is the same for IPv6: all but traffic class, flow label and length.
func words6(b []byte) [7]uint64 {
	_ = b[repeat6-1]
	return [7]uint64{
		binary.LittleEndian.Uint64(b[0:]),
		binary.LittleEndian.Uint64(b[8:]) & 0x00f0ffffffffffff,
		uint64(binary.LittleEndian.Uint16(b[20:])),
		binary.LittleEndian.Uint64(b[22:]),
		binary.LittleEndian.Uint64(b[30:]),
		binary.LittleEndian.Uint64(b[38:]),
		binary.LittleEndian.Uint64(b[46:]),
	}
}
