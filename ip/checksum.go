package ip

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
)

// Sums are ones' complement sums (RFC 1071), folded to 16 bits and not
// complemented, in host order of the words on the wire: write ^sum with
// binary.BigEndian. They are computed over little-endian words, and the bytes of
// the result are swapped: the sum is the same (RFC 1071, 2(B)).

// minBlock is the length from which sumBlocks is worth its set-up.
const minBlock = 256

// fold reduces a 64-bit ones' complement sum of little-endian words to 16
// bits in network order.
func fold(s uint64) uint16 {
	s = s>>32 + s&0xffffffff
	s = s>>32 + s&0xffffffff
	t := uint32(s)
	t = t>>16 + t&0xffff
	t = t>>16 + t&0xffff
	return bits.ReverseBytes16(uint16(t))
}

// Sum returns the sum of b. A last odd byte counts as the upper half of a
// word.
func Sum(b []byte) uint16 {
	if len(b) < minBlock {
		return fold(sumWords(0, b))
	}
	s, n := sumBlocks(b)
	return fold(sumWords(s, b[n:]))
}

// SumCopy copies src to dst, as much as fits, and returns the sum of the bytes
// copied. It reads them once. The two do not overlap.
func SumCopy(dst, src []byte) uint16 {
	n := min(len(dst), len(src))
	dst, src = dst[:n], src[:n]
	if n < minBlock {
		return fold(copyWords(0, dst, src))
	}
	s, n := copyBlocks(dst, src)
	return fold(copyWords(s, dst[n:], src[n:]))
}

// sumWords adds b to s, eight bytes at a time.
func sumWords(s uint64, b []byte) uint64 {
	var c uint64
	for len(b) >= 64 {
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(b), c)
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(b[8:]), c)
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(b[16:]), c)
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(b[24:]), c)
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(b[32:]), c)
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(b[40:]), c)
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(b[48:]), c)
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(b[56:]), c)
		b = b[64:]
	}
	for len(b) >= 8 {
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(b), c)
		b = b[8:]
	}
	return sumLast(s, c, b)
}

// copyWords is sumWords that also copies b to d, which is as long.
func copyWords(s uint64, d, b []byte) uint64 {
	var c uint64
	for len(b) >= 32 && len(d) >= 32 {
		w0, w1 := binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:])
		w2, w3 := binary.LittleEndian.Uint64(b[16:]), binary.LittleEndian.Uint64(b[24:])
		s, c = bits.Add64(s, w0, c)
		s, c = bits.Add64(s, w1, c)
		s, c = bits.Add64(s, w2, c)
		s, c = bits.Add64(s, w3, c)
		binary.LittleEndian.PutUint64(d, w0)
		binary.LittleEndian.PutUint64(d[8:], w1)
		binary.LittleEndian.PutUint64(d[16:], w2)
		binary.LittleEndian.PutUint64(d[24:], w3)
		b, d = b[32:], d[32:]
	}
	for len(b) >= 8 && len(d) >= 8 {
		w := binary.LittleEndian.Uint64(b)
		s, c = bits.Add64(s, w, c)
		binary.LittleEndian.PutUint64(d, w)
		b, d = b[8:], d[8:]
	}
	copy(d, b)
	return sumLast(s, c, b)
}

// sumLast adds the carry and the last, fewer than eight, bytes.
func sumLast(s, c uint64, b []byte) uint64 {
	var w uint64
	if len(b) >= 4 {
		w = uint64(binary.LittleEndian.Uint32(b))
		b = b[4:]
	}
	var v uint64
	if len(b) >= 2 {
		v = uint64(binary.LittleEndian.Uint16(b))
		b = b[2:]
	}
	if len(b) == 1 {
		v += uint64(b[0]) // at an even offset: the first byte of its word
	}
	s, c = bits.Add64(s, w+v, c)
	return s + c
}

// Fold turns an ordinary sum of 16-bit or 32-bit words in host order into a ones'
// complement sum.
func Fold(s uint64) uint16 {
	s = s>>32 + s&0xffffffff
	s = s>>16 + s&0xffff
	s = s>>16 + s&0xffff
	s = s>>16 + s&0xffff
	return uint16(s)
}

// Add adds two sums.
func Add(a, b uint16) uint16 {
	s := uint32(a) + uint32(b)
	return uint16(s>>16 + s)
}

// Swap returns what the sum of a part adds to that of the whole if the part starts
// at an odd offset (RFC 1071, 2(B)).
func Swap(s uint16) uint16 { return bits.ReverseBytes16(s) }

// PseudoSum is the sum of the pseudo-header (RFC 9293, 3.1; RFC 8200, 8.1)
// for a transport header and payload of length bytes. src and dst are of one
// family.
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
	return Fold(s)
}
