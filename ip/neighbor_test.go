package ip

import (
	"net/netip"
	"testing"
)

func TestARP(t *testing.T) {
	for _, vlan := range []uint16{0, 3} {
		want := ARP{Op: ARPReply, SenderMAC: macA, TargetMAC: macB, Sender: a4, Target: b4}
		b := make([]byte, 64)
		b = b[:want.Put(b, macB, vlan)]
		var p Packet
		var got ARP
		if err := ParseARP(b, &p, &got); err != nil || got != want || p.VLAN != vlan || p.SrcMAC != macA || p.DstMAC != macB {
			t.Fatalf("%v: %+v, %+v", err, got, p)
		}
		if err := Parse(b, len(b), &p); err != ErrNotIP {
			t.Errorf("Parse of ARP: %v", err)
		}
		for n := range len(b) {
			if ParseARP(b[:n], &p, &got) == nil {
				t.Errorf("%d of %d bytes parsed", n, len(b))
			}
		}
	}
	probe := ARP{Op: ARPRequest, SenderMAC: macA, Sender: netip.IPv4Unspecified(), Target: b4}
	base := make([]byte, 42)
	probe.Put(base, macB, 0)
	if err := ParseARP(base, new(Packet), new(ARP)); err != nil {
		t.Errorf("probe: %v", err)
	}
	for name, change := range map[string]func(b []byte){
		"hardware type":    func(b []byte) { b[1] = 2 },
		"protocol":         func(b []byte) { b[3] = 1 },
		"hardware length":  func(b []byte) { b[4] = 8 },
		"protocol length":  func(b []byte) { b[5] = 16 },
		"operation":        func(b []byte) { b[7] = 3 },
		"multicast MAC":    func(b []byte) { b[8] |= 1 },
		"no MAC":           func(b []byte) { clear(b[8:14]) },
		"multicast sender": func(b []byte) { b[14] = 224 },
		"broadcast sender": func(b []byte) { copy(b[14:18], []byte{255, 255, 255, 255}) },
		"loopback sender":  func(b []byte) { b[14] = 127 },
	} {
		b := append([]byte{}, base...)
		if change(b[14:]); ParseARP(b, new(Packet), new(ARP)) != ErrHeader {
			t.Errorf("%s accepted", name)
		}
	}
}

func ndpPacket(src, dst netip.Addr) Packet {
	return Packet{V6: true, Proto: ProtoICMPv6, TTL: 255, Src: src, Dst: dst}
}

func TestNDPPut(t *testing.T) {
	for _, want := range []NDP{
		{Type: NeighborSolicitation, Target: b6, MAC: macA, HasMAC: true},
		{Type: NeighborSolicitation, Target: b6},
		{Type: NeighborAdvertisement, Target: a6, MAC: macA, HasMAC: true, Solicited: true, Override: true},
		{Type: NeighborAdvertisement, Target: a6, Router: true},
		{Type: RouterSolicitation, MAC: macB, HasMAC: true},
		{Type: RouterSolicitation},
	} {
		b := make([]byte, 64)
		b = b[:want.Put(b, a6, b6)]
		p := ndpPacket(a6, b6)
		var got NDP
		if err := ParseNDP(&p, b, &got); err != nil || got != want {
			t.Errorf("%v:\ngot  %+v\nwant %+v", err, got, want)
		}
		if sum := Add(Sum(b), PseudoSum(a6, b6, ProtoICMPv6, len(b))); sum != 0xffff {
			t.Errorf("checksum is off: %#x", sum)
		}
		for n := range len(b) {
			var m NDP
			if ParseNDP(&p, b[:n], &m) == nil && (m.HasMAC || n < len(b)-8) {
				t.Errorf("type %d: %d of %d bytes parsed", want.Type, n, len(b))
			}
		}
	}
}

func TestNDPRouterAdvertisement(t *testing.T) {
	b := []byte{134, 0, 0, 0, 64, 0xc0, 7, 8, 0, 0, 0x75, 0x30, 0, 0, 3, 0xe8}
	b = append(b, 1, 1, 2, 0, 0, 0, 0, 9)       // source link-layer address
	b = append(b, 5, 1, 0, 0, 0, 0, 0x05, 0xdc) // MTU 1500
	b = append(b, 25, 1, 0, 0, 0, 0, 0, 0)      // not known to us
	prefix := append([]byte{3, 4, 64, 0xc0, 0, 1, 0x51, 0x80, 0, 0, 0x38, 0x40, 0, 0, 0, 0}, a6.AsSlice()...)
	b = append(b, prefix...)
	router := netip.MustParseAddr("fe80::1")
	p := ndpPacket(router, netip.MustParseAddr("ff02::1"))
	var m NDP
	if err := ParseNDP(&p, b, &m); err != nil {
		t.Fatal(err)
	}
	want := NDP{Type: RouterAdvertisement, MAC: [6]byte{2, 0, 0, 0, 0, 9}, HasMAC: true}
	want.RA = RouterInfo{HopLimit: 64, Managed: true, Other: true, Lifetime: 1800, Reachable: 30000, Retrans: 1000, MTU: 1500, NPrefixes: 1}
	want.RA.Prefixes[0] = RouterPrefix{Prefix: netip.MustParsePrefix("2001:db8::/64"), OnLink: true, Auto: true, Valid: 86400, Preferred: 14400}
	if m != want {
		t.Errorf("got  %+v\nwant %+v", m, want)
	}
	for range 20 {
		b = append(b, prefix...)
	}
	if err := ParseNDP(&p, b, &m); err != nil || m.RA.NPrefixes != maxPrefixes {
		t.Errorf("21 prefixes: %v, %d kept", err, m.RA.NPrefixes)
	}
	p.Src = a6
	if ParseNDP(&p, b, &m) != ErrHeader {
		t.Error("a router whose address is not link-local")
	}
}

func TestNDPRefuses(t *testing.T) {
	ns := NDP{Type: NeighborSolicitation, Target: b6, MAC: macA, HasMAC: true}
	na := NDP{Type: NeighborAdvertisement, Target: b6, MAC: macA, HasMAC: true, Solicited: true}
	rs := NDP{Type: RouterSolicitation, MAC: macA, HasMAC: true}
	any6, all := netip.IPv6Unspecified(), netip.MustParseAddr("ff02::1")
	for _, c := range []struct {
		name   string
		m      NDP
		change func(p *Packet, b []byte)
	}{
		{"hop limit 254", ns, func(p *Packet, _ []byte) { p.TTL = 254 }},
		{"code 1", ns, func(_ *Packet, b []byte) { b[1] = 1 }},
		{"fragment", ns, func(p *Packet, _ []byte) { p.Fragment = true }},
		{"option of length 0", ns, func(_ *Packet, b []byte) { b[25] = 0 }},
		{"option overruns", ns, func(_ *Packet, b []byte) { b[25] = 2 }},
		{"multicast target", ns, func(_ *Packet, b []byte) { b[8] = 0xff }},
		{"multicast MAC", na, func(_ *Packet, b []byte) { b[26] |= 1 }},
		{"anonymous with MAC", ns, func(p *Packet, _ []byte) { p.Src, p.Dst = any6, SolicitedNode(b6) }},
		{"anonymous to one host", NDP{Type: NeighborSolicitation, Target: b6}, func(p *Packet, _ []byte) { p.Src = any6 }},
		{"anonymous router solicitation with MAC", rs, func(p *Packet, _ []byte) { p.Src = any6 }},
		{"solicited to all", na, func(p *Packet, _ []byte) { p.Dst = all }},
	} {
		b := make([]byte, 32)
		b = b[:c.m.Put(b, a6, b6)]
		p := ndpPacket(a6, b6)
		c.change(&p, b)
		if err := ParseNDP(&p, b, new(NDP)); err != ErrHeader {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	// Duplicate address detection (RFC 4862, 5.4.2) is no such.
	m := NDP{Type: NeighborSolicitation, Target: b6}
	b := make([]byte, 32)
	b = b[:m.Put(b, any6, SolicitedNode(b6))]
	p := ndpPacket(any6, SolicitedNode(b6))
	if err := ParseNDP(&p, b, &m); err != nil {
		t.Errorf("duplicate address detection: %v", err)
	}
}

func FuzzNDP(f *testing.F) {
	b := make([]byte, 32)
	m := NDP{Type: NeighborAdvertisement, Target: b6, MAC: macA, HasMAC: true}
	f.Add(b[:m.Put(b, a6, b6)])
	f.Add([]byte{134, 0, 0, 0, 64, 0xc0, 7, 8, 0, 0, 0x75, 0x30, 0, 0, 3, 0xe8, 5, 1, 0, 0, 0, 0, 5, 0xdc, 3, 4})
	f.Fuzz(func(t *testing.T, b []byte) {
		p := ndpPacket(netip.MustParseAddr("fe80::1"), b6)
		var m NDP
		if ParseNDP(&p, b, &m) != nil {
			return
		}
		if m.HasMAC && !unicastMAC(m.MAC) || m.RA.NPrefixes > maxPrefixes || m.RA.MTU != 0 && m.RA.MTU < minMTU6 {
			t.Fatalf("%+v", m)
		}
		if m.Type == RouterAdvertisement {
			return
		}
		// A parsed message can be written again.
		out := make([]byte, 32)
		out = out[:m.Put(out, p.Src, p.Dst)]
		var again NDP
		if err := ParseNDP(&p, out, &again); err != nil || again != m {
			t.Fatalf("%v:\n%+v\n%+v", err, m, again)
		}
	})
}

func FuzzARP(f *testing.F) {
	b := make([]byte, 64)
	a := ARP{Op: ARPRequest, SenderMAC: macA, Sender: a4, Target: b4}
	f.Add(append([]byte{}, b[:a.Put(b, macB, 0)]...))
	f.Add(append([]byte{}, b[:a.Put(b, macB, 9)]...))
	f.Fuzz(func(t *testing.T, b []byte) {
		var p Packet
		var a, again ARP
		if ParseARP(b, &p, &a) != nil {
			return
		}
		out := make([]byte, 64)
		out = out[:a.Put(out, p.DstMAC, p.VLAN)]
		if err := ParseARP(out, &p, &again); err != nil || a != again {
			t.Fatalf("%v:\n%+v\n%+v", err, a, again)
		}
	})
}

func TestNeighborAllocs(t *testing.T) {
	b := make([]byte, 64)
	a := ARP{Op: ARPRequest, SenderMAC: macA, Sender: a4, Target: b4}
	m := NDP{Type: NeighborAdvertisement, Target: b6, MAC: macA, HasMAC: true}
	p := ndpPacket(a6, b6)
	if n := testing.AllocsPerRun(100, func() {
		if ParseARP(b[:a.Put(b, macB, 0)], &p, &a) != nil || ParseNDP(&p, b[:m.Put(b, a6, b6)], &m) != nil {
			t.Fatal("parse")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
