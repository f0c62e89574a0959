package ip

import (
	"encoding/binary"
	"net/netip"
	"testing"
)

var (
	macA = [6]byte{2, 0, 0, 0, 0, 1}
	macB = [6]byte{2, 0, 0, 0, 0, 2}
	a4   = netip.MustParseAddr("192.0.2.1")
	b4   = netip.MustParseAddr("198.51.100.2")
	a6   = netip.MustParseAddr("2001:db8::1")
	b6   = netip.MustParseAddr("2001:db8:1::2")
)

// frame4 is an Ethernet frame with an IPv4 packet from a4 to b4.
func frame4(proto uint8, options, payload []byte, patch func(h []byte)) []byte {
	f := append(append(append([]byte{}, macB[:]...), macA[:]...), 0x08, 0x00)
	h := make([]byte, ipv4Len+len(options))
	h[0] = 0x40 | uint8(len(h)/4)
	binary.BigEndian.PutUint16(h[2:], uint16(len(h)+len(payload)))
	h[8], h[9] = 64, proto
	copy(h[12:], a4.AsSlice())
	copy(h[16:], b4.AsSlice())
	copy(h[20:], options)
	if patch != nil {
		patch(h)
	}
	binary.BigEndian.PutUint16(h[10:], ^Sum(h))
	return append(append(f, h...), payload...)
}

// frame6 is an Ethernet frame with an IPv6 packet from a6 to b6; payload
// begins with the header next.
func frame6(next uint8, payload []byte, patch func(h []byte)) []byte {
	f := append(append(append([]byte{}, macB[:]...), macA[:]...), 0x86, 0xdd)
	h := make([]byte, ipv6Len)
	h[0] = 0x60
	binary.BigEndian.PutUint16(h[4:], uint16(len(payload)))
	h[6], h[7] = next, 64
	copy(h[8:], a6.AsSlice())
	copy(h[24:], b6.AsSlice())
	if patch != nil {
		patch(h)
	}
	return append(append(f, h...), payload...)
}

func cat(parts ...[]byte) (b []byte) {
	for _, p := range parts {
		b = append(b, p...)
	}
	return b
}

// ext is an extension header of 8*(1+more) bytes.
func ext(next uint8, more uint8) []byte {
	b := make([]byte, 8+int(more)*8)
	b[0], b[1] = next, more
	return b
}

func fragExt(next uint8, off int, more bool, id uint32) []byte {
	b := make([]byte, 8)
	b[0] = next
	binary.BigEndian.PutUint16(b[2:], uint16(off))
	if more {
		b[3] |= 1
	}
	binary.BigEndian.PutUint32(b[4:], id)
	return b
}

func TestParse4(t *testing.T) {
	payload := []byte("12345678")
	var p Packet
	f := append(frame4(ProtoUDP, nil, payload, func(h []byte) { h[1] = 0xb9 }), make([]byte, 18)...) // padded
	if err := Parse(f, len(f), &p); err != nil {
		t.Fatal(err)
	}
	want := Packet{DstMAC: macB, SrcMAC: macA, Src: a4, Dst: b4, Proto: ProtoUDP, TTL: 64, TOS: 0xb9,
		NetOff: 14, L4Off: 34, L4Len: 8}
	if p != want {
		t.Errorf("got %+v\nwant %+v", p, want)
	}
	f = frame4(ProtoTCP, []byte{optNop, 7, 3, 4, 0, 0, 0, 0}, payload, nil)
	if err := Parse(f, len(f), &p); err != nil || p.L4Off != 42 || p.L4Len != 8 {
		t.Errorf("with options: %v, %+v", err, p)
	}
	f = frame4(ProtoUDP, nil, payload, func(h []byte) { binary.BigEndian.PutUint32(h[4:], 0xbeef2000|185) })
	if err := Parse(f, len(f), &p); err != nil || !p.Fragment || !p.MoreFrags || p.FragOff != 1480 || p.FragID != 0xbeef {
		t.Errorf("fragment: %v, %+v", err, p)
	}
	// BIG TCP: the length does not fit the field.
	f = frame4(ProtoTCP, nil, payload, func(h []byte) { h[2], h[3] = 0, 0 })
	if err := Parse(f, 100_000, &p); err != nil || p.L4Len != 100_000-34 {
		t.Errorf("length 0, 100 kB: %v, L4Len %d", err, p.L4Len)
	}
	if err := Parse(f, len(f), &p); err != ErrShort {
		t.Errorf("length 0: %v", err)
	}
}

func TestParseVLAN(t *testing.T) {
	f := frame4(ProtoUDP, nil, []byte("12345678"), nil)
	tag := func(typ, vid uint16, f []byte) []byte {
		var b [4]byte
		binary.BigEndian.PutUint16(b[:], typ)
		binary.BigEndian.PutUint16(b[2:], vid)
		return cat(f[:12], b[:], f[12:])
	}
	var p Packet
	one := tag(typeVLAN, 0x6007, f) // priority bits are not the VID
	if err := Parse(one, len(one), &p); err != nil || p.VLAN != 7 || p.Tags != 1 || p.NetOff != 18 || p.Src != a4 {
		t.Errorf("one tag: %v, %+v", err, p)
	}
	two := tag(typeQinQ, 9, one)
	if err := Parse(two, len(two), &p); err != nil || p.VLAN != 9 || p.Tags != 2 || p.NetOff != 22 || p.L4Len != 8 {
		t.Errorf("two tags: %v, %+v", err, p)
	}
	three := tag(typeQinQ, 11, two)
	if err := Parse(three, len(three), &p); err != ErrNotIP {
		t.Errorf("three tags: %v", err)
	}
	for n := range 18 {
		if err := Parse(one[:n], n, &p); err != ErrShort {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

func TestParse6(t *testing.T) {
	udp := []byte("12345678")
	for _, c := range []struct {
		name    string
		next    uint8
		payload []byte
		err     error
		want    Packet // Proto, L4Off, L4Len and the fragment's fields
	}{
		{"plain", ProtoUDP, udp, nil, Packet{Proto: ProtoUDP, L4Off: 54, L4Len: 8}},
		{"all extensions", extHopByHop, cat(ext(extDest, 0), ext(extRouting, 1), ext(extDest, 2), ext(ProtoTCP, 0), udp), nil,
			Packet{Proto: ProtoTCP, L4Off: 54 + 8 + 16 + 24 + 8, L4Len: 8}},
		{"no next header", 59, nil, nil, Packet{Proto: 59, L4Off: 54}},
		{"atomic fragment (RFC 6946)", extFragment, cat(fragExt(ProtoUDP, 0, false, 7), udp), nil,
			Packet{Proto: ProtoUDP, L4Off: 62, L4Len: 8, FragID: 7}},
		{"first fragment", extFragment, cat(fragExt(extDest, 0, true, 7), ext(ProtoUDP, 0), udp), nil,
			Packet{Proto: extDest, L4Off: 62, L4Len: 16, Fragment: true, MoreFrags: true, FragID: 7}},
		{"last fragment", extFragment, cat(fragExt(ProtoUDP, 1232, false, 7), udp), nil,
			Packet{Proto: ProtoUDP, L4Off: 62, L4Len: 8, Fragment: true, FragOff: 1232, FragID: 7}},
		{"seven extensions", extHopByHop, cat(ext(60, 0), ext(60, 0), ext(60, 0), ext(60, 0), ext(60, 0), ext(60, 0), ext(ProtoUDP, 0), udp), nil,
			Packet{Proto: ProtoUDP, L4Off: 54 + 56, L4Len: 8}},
		{"eight extensions", extHopByHop, cat(ext(60, 0), ext(60, 0), ext(60, 0), ext(60, 0), ext(60, 0), ext(60, 0), ext(60, 0), ext(ProtoUDP, 0), udp), ErrHeader, Packet{}},
		{"hop-by-hop not first", extDest, cat(ext(extHopByHop, 0), ext(ProtoUDP, 0), udp), ErrHeader, Packet{}},
		{"two fragment headers", extFragment, cat(fragExt(extFragment, 0, false, 1), fragExt(ProtoUDP, 0, false, 1), udp), ErrHeader, Packet{}},
		{"segments left", extRouting, cat([]byte{ProtoUDP, 0, 0, 1, 0, 0, 0, 0}, udp), ErrHeader, Packet{}},
		{"extension cut", extDest, []byte{ProtoUDP, 0, 0}, ErrShort, Packet{}},
		{"extension overruns", extDest, cat(ext(ProtoUDP, 0)[:1], []byte{9}, udp), ErrShort, Packet{}},
		{"option to skip", extDest, cat([]byte{ProtoUDP, 0, 0x3e, 4, 0, 0, 0, 0}, udp), nil, Packet{Proto: ProtoUDP, L4Off: 62, L4Len: 8}},
		{"jumbo option", extHopByHop, cat([]byte{ProtoUDP, 0, 0xc2, 4, 0, 1, 0, 0}, udp), nil, Packet{Proto: ProtoUDP, L4Off: 62, L4Len: 8}},
		{"padding of one byte", extDest, cat([]byte{ProtoUDP, 0, 0, 1, 2, 0, 0, 0}, udp), nil, Packet{Proto: ProtoUDP, L4Off: 62, L4Len: 8}},
		{"option to discard (RFC 8200, 4.2)", extDest, cat([]byte{ProtoUDP, 0, 0x7e, 4, 0, 0, 0, 0}, udp), ErrHeader, Packet{}},
		{"option to complain of", extHopByHop, cat([]byte{ProtoUDP, 0, 1, 0, 0x9e, 2, 0, 0}, udp), ErrHeader, Packet{}},
		{"option to complain of to one", extDest, cat([]byte{ProtoUDP, 0, 1, 0, 0xde, 2, 0, 0}, udp), ErrHeader, Packet{}},
		{"option overruns", extDest, cat([]byte{ProtoUDP, 0, 0x3e, 5, 0, 0, 0, 0}, udp), ErrHeader, Packet{}},
		{"option without length", extDest, cat([]byte{ProtoUDP, 0, 1, 3, 0, 0, 0, 0x3e}, udp), ErrHeader, Packet{}},
		{"fragment header cut", extFragment, []byte{ProtoUDP, 0, 0, 0}, ErrShort, Packet{}},
	} {
		var p Packet
		f := append(frame6(c.next, c.payload, func(h []byte) { h[0], h[1] = 0x6b, 0x9f }), 1, 2, 3)
		if err := Parse(f, len(f), &p); err != c.err {
			t.Errorf("%s: %v", c.name, err)
		} else if err == nil {
			w := c.want
			w.DstMAC, w.SrcMAC, w.V6, w.Src, w.Dst, w.TTL, w.TOS, w.NetOff = macB, macA, true, a6, b6, 64, 0xb9, 14
			if p != w {
				t.Errorf("%s:\ngot  %+v\nwant %+v", c.name, p, w)
			}
		}
	}
}

func TestParseRefuses(t *testing.T) {
	pay := make([]byte, 8)
	for _, c := range []struct {
		name string
		f    []byte
		err  error
	}{
		{"ARP", cat(frame4(6, nil, pay, nil)[:12], []byte{8, 6}, make([]byte, 28)), ErrNotIP},
		{"version 5", frame4(6, nil, pay, func(h []byte) { h[0] = 0x55 }), ErrHeader},
		{"IHL 4", frame4(6, nil, pay, func(h []byte) { h[0] = 0x44 }), ErrHeader},
		{"IHL beyond the end", frame4(6, nil, nil, func(h []byte) { h[0] = 0x4f }), ErrShort},
		{"length beyond the end", frame4(6, nil, pay, func(h []byte) { h[3]++ }), ErrShort},
		{"length below the header's", frame4(6, nil, pay, func(h []byte) { h[3] = 19 }), ErrShort},
		{"loose source route", frame4(6, []byte{optLSRR, 7, 4, 1, 2, 3, 4, 0}, pay, nil), ErrHeader},
		{"strict source route", frame4(6, []byte{optNop, optSSRR, 7, 4, 1, 2, 3, 4}, pay, nil), ErrHeader},
		{"option of length 0", frame4(6, []byte{7, 0, 0, 0}, pay, nil), ErrHeader},
		{"option of length 1", frame4(6, []byte{7, 1, 0, 0}, pay, nil), ErrHeader},
		{"option overruns", frame4(6, []byte{7, 5, 0, 0}, pay, nil), ErrHeader},
		{"option without length", frame4(6, []byte{1, 1, 1, 7}, pay, nil), ErrHeader},
		{"version 4 as IPv6", frame6(6, pay, func(h []byte) { h[0] = 0x45 }), ErrHeader},
		{"IPv6 length beyond the end", frame6(6, pay, func(h []byte) { h[5]++ }), ErrShort},
		{"half a header", frame6(6, pay, nil)[:40], ErrShort},
	} {
		var p Packet
		if err := Parse(c.f, len(c.f), &p); err != c.err {
			t.Errorf("%s: %v, not %v", c.name, err, c.err)
		}
	}
	f := frame4(6, nil, pay, nil)
	f[16] ^= 0xff
	f[24] ^= 1
	if err := Parse(f, len(f)+70_000, new(Packet)); err != ErrChecksum {
		t.Errorf("bad checksum: %v", err)
	}
	if err := Parse(f, len(f)-1, new(Packet)); err != ErrShort {
		t.Errorf("total below what is there: %v", err)
	}
}

func TestBogus(t *testing.T) {
	for _, c := range []struct {
		src, dst string
		want     bool
	}{
		{"192.0.2.1", "198.51.100.2", false},
		{"192.0.2.1", "224.0.0.1", false},
		{"192.0.2.1", "255.255.255.255", false},
		{"192.0.2.1", "192.0.2.1", true}, // LAND
		{"127.0.0.1", "192.0.2.1", true},
		{"192.0.2.1", "127.0.0.53", true},
		{"0.0.0.0", "192.0.2.1", true},
		{"0.1.2.3", "192.0.2.1", true},
		{"192.0.2.1", "0.0.0.0", true},
		{"224.0.0.1", "192.0.2.1", true},
		{"240.0.0.1", "192.0.2.1", false},
		{"192.0.2.1", "255.255.255.254", false},
		{"239.255.255.255", "192.0.2.1", true},
		{"255.255.255.255", "192.0.2.1", true},
		{"192.0.2.1", "250.0.0.1", false},
		{"2001:db8::1", "2001:db8::2", false},
		{"fe80::1", "ff02::1", false},
		{"2001:db8::1", "2001:db8::1", true},
		{"::1", "2001:db8::1", true},
		{"2001:db8::1", "::1", true},
		{"::", "2001:db8::1", true},
		{"2001:db8::1", "::", true},
		{"ff02::1", "2001:db8::1", true},
		{"::ffff:192.0.2.1", "2001:db8::1", true},
	} {
		if got := Bogus(netip.MustParseAddr(c.src), netip.MustParseAddr(c.dst)); got != c.want {
			t.Errorf("%s to %s: %v", c.src, c.dst, got)
		}
	}
}

func TestMulticastMAC(t *testing.T) {
	for a, want := range map[string][6]byte{
		"224.129.2.3":       {1, 0, 0x5e, 1, 2, 3},
		"255.255.255.255":   {255, 255, 255, 255, 255, 255},
		"ff02::1:ff28:9c5a": {0x33, 0x33, 0xff, 0x28, 0x9c, 0x5a},
	} {
		if got, ok := MulticastMAC(netip.MustParseAddr(a)); !ok || got != want {
			t.Errorf("%s: %x %v", a, got, ok)
		}
	}
	if _, ok := MulticastMAC(a4); ok {
		t.Error("a MAC for a unicast address")
	}
	// RFC 4291, 2.7.1: the example.
	if got := SolicitedNode(netip.MustParseAddr("4037::01:800:200E:8C6C")); got != netip.MustParseAddr("ff02::1:ff0e:8c6c") {
		t.Errorf("solicited-node address %s", got)
	}
}

func FuzzParse(f *testing.F) {
	udp := []byte("12345678")
	f.Add(frame4(ProtoUDP, []byte{7, 3, 4, 0}, udp, nil), 0)
	f.Add(frame6(extHopByHop, cat(ext(extFragment, 0), fragExt(ProtoTCP, 8, true, 1), udp), nil), 5)
	f.Add(frame6(extDest, cat(ext(extRouting, 1), ext(ProtoTCP, 0), udp), nil), 0)
	f.Fuzz(func(t *testing.T, b []byte, extra int) {
		if extra < 0 || extra > 1<<20 {
			return
		}
		var p Packet
		if Parse(b, len(b)+extra, &p) != nil {
			return
		}
		if p.L4Off > len(b) || p.L4Len < 0 || p.L4Off+p.L4Len > len(b)+extra || p.L4Off < p.NetOff+ipv4Len {
			t.Fatalf("headers outside of %d+%d bytes: %+v", len(b), extra, p)
		}
		if p.Src.Is4() == p.V6 || p.Dst.Is4() == p.V6 || p.Fragment != (p.MoreFrags || p.FragOff != 0) || p.FragOff%8 != 0 {
			t.Fatalf("contradiction: %+v", p)
		}
	})
}

func TestParseAllocs(t *testing.T) {
	var p Packet
	v4, v6 := frame4(ProtoTCP, nil, make([]byte, 40), nil), frame6(extDest, cat(ext(ProtoTCP, 0), make([]byte, 40)), nil)
	if n := testing.AllocsPerRun(100, func() {
		if Parse(v4, len(v4), &p) != nil || Parse(v6, len(v6), &p) != nil || Parse(v6[:20], 20, &p) == nil || Bogus(p.Src, p.Dst) {
			t.Fatal("parse")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkParse(b *testing.B) {
	for name, f := range map[string][]byte{
		"v4": frame4(ProtoTCP, nil, make([]byte, 40), nil),
		"v6": frame6(ProtoTCP, make([]byte, 40), nil),
	} {
		b.Run(name, func(b *testing.B) {
			var p Packet
			for b.Loop() {
				if Parse(f, len(f), &p) != nil {
					b.Fatal("parse")
				}
			}
		})
	}
}
