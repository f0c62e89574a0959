package ip

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
)

// Sums are ones' complement sums (RFC 1071), folded to 16 bits and not
// complemented, in host order: write ^sum with binary.BigEndian.

// fold reduces a 64-bit ones' complement sum of native-order words to 16 bits
// in network order.
func fold(s uint64) uint16 {
	s = s>>32 + s&0xffffffff
	s = s>>32 + s&0xffffffff
	t := uint32(s)
	t = t>>16 + t&0xffff
	t = t>>16 + t&0xffff
	return bits.ReverseBytes16(uint16(t))
}

// Sum returns the sum of b.
func Sum(b []byte) uint16 {
	var s, c uint64
	for len(b) >= 32 {
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(b), c)
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(b[8:]), c)
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(b[16:]), c)
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(b[24:]), c)
		b = b[32:]
	}
	return fold(tail(s, c, b))
}

// tail adds the last, fewer than 32, bytes.
func tail(s, c uint64, b []byte) uint64 {
	for len(b) >= 8 {
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(b), c)
		b = b[8:]
	}
	var last uint64
	for i := len(b) - 1; i >= 0; i-- {
		last = last<<8 | uint64(b[i])
	}
	s, c = bits.Add64(s, last, c)
	s, c = bits.Add64(s, 0, c)
	return s + c
}

// SumCopy copies src to dst, as much as fits, and returns the sum of the
// bytes copied.
func SumCopy(dst, src []byte) uint16 {
	n := min(len(dst), len(src))
	dst, src = dst[:n], src[:n]
	copy(dst, src)
	return Sum(dst)
}

// Add adds two sums.
func Add(a, b uint16) uint16 {
	s := uint32(a) + uint32(b)
	return uint16(s>>16 + s)
}

// Swap is the sum of a part that starts at an odd offset of the whole, made
// from the sum of the part alone.
func Swap(s uint16) uint16 { return bits.ReverseBytes16(s) }

// PseudoSum is the sum of the pseudo-header (RFC 9293, 3.1; RFC 8200, 8.1)
// for a transport header and payload of length bytes.
func PseudoSum(src, dst netip.Addr, proto uint8, length int) uint16 {
	s := uint64(proto) + uint64(length)>>16 + uint64(length)&0xffff
	if src.Is4() {
		a, b := src.As4(), dst.As4()
		s += uint64(binary.BigEndian.Uint32(a[:])) + uint64(binary.BigEndian.Uint32(b[:]))
	} else {
		a, b := src.As16(), dst.As16()
		for i := 0; i < 16; i += 4 {
			s += uint64(binary.BigEndian.Uint32(a[i:])) + uint64(binary.BigEndian.Uint32(b[i:]))
		}
	}
	s = s>>32 + s&0xffffffff
	s = s>>16 + s&0xffff
	s = s>>16 + s&0xffff
	s = s>>16 + s&0xffff
	return uint16(s)
}
