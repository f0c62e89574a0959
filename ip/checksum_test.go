package ip

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
)

// naive is RFC 1071's definition.
func naive(b []byte) uint16 {
	var s uint32
	for i := 0; i+1 < len(b); i += 2 {
		s += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	if len(b)&1 != 0 {
		s += uint32(b[len(b)-1]) << 8
	}
	for s>>16 != 0 {
		s = s>>16 + s&0xffff
	}
	return uint16(s)
}

// RFC 1071, 3: the numerical example.
func TestSumRFC1071(t *testing.T) {
	b := []byte{0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7}
	if got := Sum(b); got != 0xddf2 {
		t.Errorf("Sum is %#x, not 0xddf2", got)
	}
	// The same, in two parts of which the second starts at an odd offset.
	if got := Add(Sum(b[:3]), Swap(Sum(b[3:]))); got != 0xddf2 {
		t.Errorf("in odd parts: %#x", got)
	}
}

// same reports whether two sums are one number: 0 and 0xffff are (RFC 1624, 3).
func same(a, b uint16) bool { return a%0xffff == b%0xffff }

func checkSums(t *testing.T, b []byte) {
	t.Helper()
	want := naive(b)
	if got := Sum(b); got != want {
		t.Fatalf("Sum of %d bytes is %#x, not %#x", len(b), got, want)
	}
	if got := fold(sumWords(0, b)); got != want {
		t.Fatalf("sumWords of %d bytes is %#x, not %#x", len(b), got, want)
	}
	for _, words := range []bool{false, true} {
		dst := make([]byte, len(b)+2)
		dst[0], dst[len(b)+1] = 0xa5, 0x5a
		var got uint16
		if words {
			got = fold(copyWords(0, dst[1:len(b)+1], b))
		} else {
			got = SumCopy(dst[1:len(b)+1], b)
		}
		if got != want {
			t.Fatalf("SumCopy of %d bytes is %#x, not %#x (words %v)", len(b), got, want, words)
		}
		if !bytes.Equal(dst[1:len(b)+1], b) || dst[0] != 0xa5 || dst[len(b)+1] != 0x5a {
			t.Fatalf("SumCopy of %d bytes does not copy (words %v)", len(b), words)
		}
	}
}

// All lengths around the block sizes, at all alignments, with contents that
// carry as much as can be.
func TestSumLengths(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	random := make([]byte, 2048)
	for i := range random {
		random[i] = byte(r.Uint32())
	}
	for _, mem := range [][]byte{random, bytes.Repeat([]byte{0xff}, 2048), make([]byte, 2048)} {
		for n := range 600 {
			checkSums(t, mem[n%33:][:n])
		}
	}
}

func TestSumRandom(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	mem := make([]byte, 70_000)
	for range 400 {
		b := mem[r.IntN(64):]
		b = b[:r.IntN(len(b))]
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		checkSums(t, b)
	}
}

func TestSumCopyShorter(t *testing.T) {
	src := bytes.Repeat([]byte{1, 2, 3}, 200)
	for _, n := range []int{0, 1, 100, 599} {
		if got := SumCopy(make([]byte, n), src); got != naive(src[:n]) {
			t.Errorf("dst of %d bytes: %#x", n, got)
		}
		if got := SumCopy(make([]byte, 1000), src[:n]); got != naive(src[:n]) {
			t.Errorf("src of %d bytes: %#x", n, got)
		}
	}
}

func TestPseudoSum(t *testing.T) {
	for _, c := range []struct {
		src, dst string
		proto    uint8
		n        int
	}{
		{"10.0.0.1", "10.0.0.2", ProtoTCP, 20},
		{"255.255.255.255", "255.255.255.255", 255, 65535},
		{"2001:db8::1", "fe80::ffff", ProtoUDP, 8},
		{"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe", 255, 300_000},
	} {
		src, dst := netip.MustParseAddr(c.src), netip.MustParseAddr(c.dst)
		var b []byte
		b = append(b, src.AsSlice()...)
		b = append(b, dst.AsSlice()...)
		b = binary.BigEndian.AppendUint32(b, uint32(c.n))
		b = append(b, 0, 0, 0, c.proto)
		if got := PseudoSum(src, dst, c.proto, c.n); !same(got, naive(b)) {
			t.Errorf("%s to %s: %#x, not %#x", c.src, c.dst, got, naive(b))
		}
	}
}

func FuzzSum(f *testing.F) {
	f.Add([]byte{1}, 0)
	f.Add(bytes.Repeat([]byte{0xff}, 300), 3)
	f.Fuzz(func(t *testing.T, b []byte, cut int) {
		checkSums(t, b)
		if cut < 0 || cut > len(b) {
			return
		}
		part := Sum(b[cut:])
		if cut&1 != 0 {
			part = Swap(part)
		}
		if got := Add(Sum(b[:cut]), part); !same(got, naive(b)) {
			t.Fatalf("cut at %d of %d: %#x, not %#x", cut, len(b), got, naive(b))
		}
	})
}

func TestSumAllocs(t *testing.T) {
	b, d := make([]byte, 1460), make([]byte, 1460)
	a := netip.MustParseAddr("fe80::1")
	if n := testing.AllocsPerRun(100, func() { Sum(b); SumCopy(d, b); PseudoSum(a, a, 6, 1) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

var sink uint16

func BenchmarkSum(b *testing.B) {
	for _, n := range []int{20, 64, 256, 1460, 4096} {
		mem := make([]byte, n+1)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.SetBytes(int64(n))
			for b.Loop() {
				sink += Sum(mem[1:])
			}
		})
		b.Run(fmt.Sprint(n, "-go"), func(b *testing.B) {
			b.SetBytes(int64(n))
			for b.Loop() {
				sink += fold(sumWords(0, mem[1:]))
			}
		})
	}
}

func BenchmarkSumCopy(b *testing.B) {
	for _, n := range []int{64, 256, 1460, 4096} {
		src, dst := make([]byte, n+1), make([]byte, n)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.SetBytes(int64(n))
			for b.Loop() {
				sink += SumCopy(dst, src[1:])
			}
		})
		b.Run(fmt.Sprint(n, "-go"), func(b *testing.B) {
			b.SetBytes(int64(n))
			for b.Loop() {
				sink += fold(copyWords(0, dst, src[1:]))
			}
		})
	}
}

func BenchmarkPseudoSum(b *testing.B) {
	s, d := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	for b.Loop() {
		sink += PseudoSum(s, d, ProtoTCP, 1460)
	}
}
