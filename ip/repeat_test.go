package ip

import (
	"encoding/binary"
	"testing"
)

// repeated has Repeat learn a, shows it b, and compares with what Parse makes
// of b.
func repeated(t *testing.T, a, b []byte, extra int) bool {
	t.Helper()
	var r Repeat
	var p, want Packet
	if r.Match(a, len(a), &p) {
		t.Fatal("matched before anything was learned")
	}
	if Parse(a, len(a), &p) != nil {
		return false
	}
	r.Learn(a, &p)
	if !r.Match(b, len(b)+extra, &p) {
		return false
	}
	if err := Parse(b, len(b)+extra, &want); err != nil || p != want {
		t.Fatalf("%x\nafter %x\nwas recognised as %+v\nbut is %+v, %v", b, a, p, want, err)
	}
	r.Forget()
	if r.Match(b, len(b)+extra, &p) {
		t.Fatal("not forgotten")
	}
	return true
}

func TestRepeat(t *testing.T) {
	l4 := make([]byte, 40)
	v4 := func(patch func(h []byte)) []byte { return frame4(ProtoTCP, nil, l4, patch) }
	v6 := func(patch func(h []byte)) []byte { return frame6(ProtoTCP, l4, patch) }
	for _, c := range []struct {
		name  string
		a, b  []byte
		extra int
		want  bool
	}{
		{"IPv4", v4(nil), v4(nil), 0, true},
		{"its ID, TOS", v4(nil), v4(func(h []byte) { h[1], h[4], h[5] = 3, 7, 8 }), 0, true},
		{"longer", v4(nil), frame4(ProtoTCP, nil, make([]byte, 1480), nil), 0, true},
		{"padded", v4(nil), append(v4(nil), 0, 0), 0, true},
		{"in pieces", v4(nil), frame4(ProtoTCP, nil, l4, func(h []byte) { binary.BigEndian.PutUint16(h[2:], 1000) }), 2000, true},
		{"longer than the packet", v4(nil), frame4(ProtoTCP, nil, l4, func(h []byte) { binary.BigEndian.PutUint16(h[2:], 1000) }), 0, false},
		{"shorter than its header", v4(nil), frame4(ProtoTCP, nil, l4, func(h []byte) { binary.BigEndian.PutUint16(h[2:], 19) }), 0, false},
		{"BIG TCP", v4(nil), frame4(ProtoTCP, nil, l4, func(h []byte) { binary.BigEndian.PutUint16(h[2:], 0) }), 70_000, false},
		{"another protocol", v4(nil), frame4(ProtoUDP, nil, l4, nil), 0, false},
		{"another TTL", v4(nil), v4(func(h []byte) { h[8] = 63 }), 0, false},
		{"DF", v4(nil), v4(func(h []byte) { h[6] = 0x40 }), 0, false},
		{"a fragment", v4(nil), v4(func(h []byte) { h[6] = 0x20 }), 0, false},
		{"after a fragment", v4(func(h []byte) { h[6] = 0x20 }), v4(func(h []byte) { h[6] = 0x20 }), 0, false},
		{"options", frame4(ProtoTCP, []byte{1, 1, 1, 0}, l4, nil), frame4(ProtoTCP, []byte{1, 1, 1, 0}, l4, nil), 0, false},
		{"cut off", v4(nil), v4(nil)[:33], 7, false},
		{"IPv6", v6(nil), v6(nil), 0, true},
		{"its traffic class, flow label", v6(nil), v6(func(h []byte) { h[0], h[1], h[2], h[3] = 0x6f, 0xff, 8, 9 }), 0, true},
		{"IPv6, longer", v6(nil), frame6(ProtoTCP, make([]byte, 1440), nil), 0, true},
		{"IPv6, another version", v6(nil), v6(func(h []byte) { h[0] = 0x50 }), 0, false},
		{"IPv6, another hop limit", v6(nil), v6(func(h []byte) { h[7] = 63 }), 0, false},
		{"IPv6, longer than the packet", v6(nil), v6(func(h []byte) { h[5] = 41 }), 0, false},
		{"IPv6, BIG TCP", v6(nil), v6(func(h []byte) { h[4], h[5] = 0, 0 }), 70_000, false},
		{"extension headers", frame6(extDest, cat(ext(ProtoTCP, 0), l4), nil), frame6(extDest, cat(ext(ProtoTCP, 0), l4), nil), 0, false},
		{"IPv6 after IPv4", v4(nil), v6(nil), 0, false},
		{"IPv4 after IPv6", v6(nil), v4(nil), 0, false},
	} {
		if got := repeated(t, c.a, c.b, c.extra); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

// Whatever bit differs, Match says nothing that Parse would not.
func TestRepeatEveryBit(t *testing.T) {
	l4 := make([]byte, 40)
	for _, a := range [][]byte{frame4(ProtoTCP, nil, l4, nil), frame6(ProtoTCP, l4, nil)} {
		n := 0
		for bit := range 8 * 54 {
			for _, fix := range []bool{false, true} {
				b := append([]byte{}, a...)
				b[bit/8] ^= 1 << (bit % 8)
				if fix && b[14]>>4 == 4 { // a valid checksum
					binary.BigEndian.PutUint16(b[24:], 0)
					binary.BigEndian.PutUint16(b[24:], ^Sum(b[14:34]))
				}
				if repeated(t, a, b, 0) {
					n++
				}
			}
		}
		if n == 0 {
			t.Error("nothing was recognised")
		}
	}
}

func FuzzRepeat(f *testing.F) {
	l4 := make([]byte, 40)
	f.Add(frame4(ProtoTCP, nil, l4, nil), frame4(ProtoTCP, nil, l4[:20], nil), 0)
	f.Add(frame6(ProtoTCP, l4, nil), frame6(ProtoTCP, l4[:20], nil), 5)
	f.Add(frame4(ProtoUDP, []byte{1, 1, 1, 0}, l4, nil), frame6(extDest, cat(ext(ProtoTCP, 0), l4), nil), 0)
	f.Fuzz(func(t *testing.T, a, b []byte, extra int) {
		if extra < 0 || extra > 1<<20 {
			return
		}
		repeated(t, a, b, extra)
	})
}

func BenchmarkRepeat(b *testing.B) {
	for name, f := range map[string][]byte{
		"v4": frame4(ProtoTCP, nil, make([]byte, 40), nil),
		"v6": frame6(ProtoTCP, make([]byte, 40), nil),
	} {
		b.Run(name, func(b *testing.B) {
			var r Repeat
			var p Packet
			if Parse(f, len(f), &p) != nil {
				b.Fatal("parse")
			}
			r.Learn(f, &p)
			for b.Loop() {
				if !r.Match(f, len(f), &p) {
					b.Fatal("match")
				}
			}
		})
	}
}
