package ip

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"syscall"
	"testing"
)

// quote is the start of a packet of ours, from b to a, as an error quotes it.
func quote(v6 bool, proto uint8, l4 ...byte) []byte {
	if v6 {
		f := frame6(proto, l4, func(h []byte) { copy(h[8:], b6.AsSlice()); copy(h[24:], a6.AsSlice()) })
		return f[etherLen:]
	}
	f := frame4(proto, nil, l4, func(h []byte) { copy(h[12:], b4.AsSlice()); copy(h[16:], a4.AsSlice()) })
	return f[etherLen:]
}

func icmp(typ, code uint8, rest uint32, quote []byte) []byte {
	b := []byte{typ, code, 0, 0, 0, 0, 0, 0}
	binary.BigEndian.PutUint32(b[4:], rest)
	return append(b, quote...)
}

var tcp8 = []byte{0x1f, 0x90, 0, 80, 0xde, 0xad, 0xbe, 0xef} // ports 8080, 80, sequence number

func TestParseICMPError(t *testing.T) {
	hard, soft := true, false
	for _, c := range []struct {
		name        string
		v6          bool
		typ, code   uint8
		rest        uint32
		errno       syscall.Errno
		hard        bool
		mtu         int
		ptb, reject bool
	}{
		{name: "network", typ: 3, code: 0, errno: syscall.ENETUNREACH, hard: soft},
		{name: "host", typ: 3, code: 1, errno: syscall.EHOSTUNREACH, hard: soft},
		{name: "protocol", typ: 3, code: 2, errno: syscall.ENOPROTOOPT, hard: hard},
		{name: "port", typ: 3, code: 3, errno: syscall.ECONNREFUSED, hard: hard},
		{name: "fragmentation needed", typ: 3, code: 4, rest: 1400, errno: syscall.EMSGSIZE, hard: soft, mtu: 1400, ptb: true},
		{name: "fragmentation needed, old router", typ: 3, code: 4, errno: syscall.EMSGSIZE, hard: soft, ptb: true},
		{name: "source route", typ: 3, code: 5, errno: syscall.EOPNOTSUPP, hard: soft},
		{name: "host unknown", typ: 3, code: 7, errno: syscall.EHOSTDOWN, hard: hard},
		{name: "filtered", typ: 3, code: 13, errno: syscall.EHOSTUNREACH, hard: hard},
		{name: "code 16", typ: 3, code: 16, reject: true},
		{name: "source quench", typ: 4, reject: true},
		{name: "redirect", typ: 5, reject: true},
		{name: "echo", typ: 8, reject: true},
		{name: "time exceeded", typ: 11, errno: syscall.EHOSTUNREACH, hard: soft},
		{name: "parameter problem", typ: 12, errno: syscall.EPROTO, hard: hard},
		{name: "no route", v6: true, typ: 1, code: 0, errno: syscall.ENETUNREACH, hard: soft},
		{name: "prohibited", v6: true, typ: 1, code: 1, errno: syscall.EACCES, hard: hard},
		{name: "address", v6: true, typ: 1, code: 3, errno: syscall.EHOSTUNREACH, hard: soft},
		{name: "port 6", v6: true, typ: 1, code: 4, errno: syscall.ECONNREFUSED, hard: hard},
		{name: "unknown code", v6: true, typ: 1, code: 99, errno: syscall.EPROTO, hard: hard},
		{name: "too big", v6: true, typ: 2, rest: 1400, errno: syscall.EMSGSIZE, hard: soft, mtu: 1400, ptb: true},
		{name: "too big, huge", v6: true, typ: 2, rest: 1 << 31, errno: syscall.EMSGSIZE, hard: soft, mtu: 1 << 16, ptb: true},
		{name: "too big below 1280", v6: true, typ: 2, rest: 1279, reject: true},
		{name: "time exceeded 6", v6: true, typ: 3, errno: syscall.EHOSTUNREACH, hard: soft},
		{name: "parameter problem 6", v6: true, typ: 4, code: 1, errno: syscall.EPROTO, hard: hard},
		{name: "echo 6", v6: true, typ: 128, reject: true},
		{name: "advertisement", v6: true, typ: 136, reject: true},
	} {
		p := Packet{V6: c.v6, Src: a4, Dst: b4}
		local, remote := netip.AddrPortFrom(b4, 8080), netip.AddrPortFrom(a4, 80)
		if c.v6 {
			p.Src, p.Dst = a6, b6
			local, remote = netip.AddrPortFrom(b6, 8080), netip.AddrPortFrom(a6, 80)
		}
		var e ICMPError
		msg := icmp(c.typ, c.code, c.rest, quote(c.v6, ProtoTCP, tcp8...))
		if ok := ParseICMPError(&p, msg, &e); ok == c.reject {
			t.Errorf("%s: parsed: %v", c.name, ok)
		}
		if c.reject {
			continue
		}
		want := ICMPError{Type: c.typ, Code: c.code, V6: c.v6, MTU: c.mtu, Proto: ProtoTCP,
			Local: local, Remote: remote, Seq: 0xdeadbeef, HasSeq: true}
		if e != want {
			t.Errorf("%s:\ngot  %+v\nwant %+v", c.name, e, want)
		}
		if errno, hard := e.Errno(); errno != c.errno || hard != c.hard || e.IsPTB() != c.ptb {
			t.Errorf("%s: %v, hard %v, too big %v", c.name, errno, hard, e.IsPTB())
		}
		for n := range len(msg) {
			if ParseICMPError(&p, msg[:n], &e) {
				t.Errorf("%s: parsed from %d of %d bytes", c.name, n, len(msg))
			}
		}
		p.Dst = netip.MustParseAddr("203.0.113.9")
		if ParseICMPError(&p, msg, &e) {
			t.Errorf("%s: the quoted packet is not from who got the error", c.name)
		}
	}
}

func TestParseICMPQuotes(t *testing.T) {
	udp := []byte{0, 53, 0x30, 0x39, 0, 8, 0, 0}
	p4, p6 := Packet{Src: a4, Dst: b4}, Packet{V6: true, Src: a6, Dst: b6}
	var e ICMPError
	if !ParseICMPError(&p4, icmp(3, 3, 0, quote(false, ProtoUDP, udp...)), &e) ||
		e.Local.Port() != 53 || e.Remote.Port() != 12345 || e.HasSeq {
		t.Errorf("UDP: %+v", e)
	}
	if ParseICMPError(&p4, icmp(3, 3, 0, quote(false, ProtoICMP, udp...)), &e) {
		t.Error("an error about ICMP")
	}
	if !ParseICMPError(&p6, icmp(1, 4, 0, quote(true, extFragment, cat(fragExt(ProtoUDP, 0, true, 9), udp)...)), &e) || e.Proto != ProtoUDP {
		t.Errorf("first fragment: %+v", e)
	}
	if ParseICMPError(&p6, icmp(1, 4, 0, quote(true, extFragment, cat(fragExt(ProtoUDP, 8, true, 9), udp)...)), &e) {
		t.Error("a later fragment has no ports")
	}
	later := quote(false, ProtoUDP, udp...)
	later[7] = 1
	if ParseICMPError(&p4, icmp(3, 3, 0, later), &e) {
		t.Error("a later IPv4 fragment has no ports")
	}
}

// A port-unreachable message, parsed by the other side.
func TestPortUnreachable(t *testing.T) {
	udp := append([]byte{0, 53, 0x30, 0x39, 0x20, 0, 0, 0}, make([]byte, 3000)...)
	for _, f := range [][]byte{frame4(ProtoUDP, nil, udp, nil), frame6(ProtoUDP, udp, nil)} {
		var p Packet
		if err := Parse(f, len(f), &p); err != nil || !p.Answerable() {
			t.Fatal(err, p.Answerable())
		}
		var h Header
		icmpProto, limit := uint8(ProtoICMP), 576
		if p.V6 {
			icmpProto, limit = ProtoICMPv6, 1280
		}
		h.InitReply(&p, icmpProto, 0, 64)
		b := make([]byte, 2048)
		n := PutICMPReply(b[h.Len():], PortUnreachable, &p, f[p.NetOff:])
		h.Put(b, n, 0, 1)
		if h.NetLen()+n != limit {
			t.Errorf("packet of %d bytes, not %d", h.NetLen()+n, limit)
		}
		b = b[:h.Len()+n]
		if !bytes.Equal(b[h.Len()+icmpLen:], f[p.NetOff:][:n-icmpLen]) {
			t.Error("quotes something else")
		}
		var r Packet
		var e ICMPError
		if err := Parse(b, len(b), &r); err != nil {
			t.Fatal(err)
		}
		sum := Sum(b[r.L4Off:])
		if r.V6 {
			sum = Add(sum, PseudoSum(r.Src, r.Dst, ProtoICMPv6, r.L4Len))
		}
		if sum != 0xffff {
			t.Errorf("checksum is off: %#x", sum)
		}
		if !ParseICMPError(&r, b[r.L4Off:], &e) || e.Local != netip.AddrPortFrom(p.Src, 53) || e.Remote != netip.AddrPortFrom(p.Dst, 12345) {
			t.Errorf("%+v", e)
		}
		if errno, hard := e.Errno(); errno != syscall.ECONNREFUSED || !hard {
			t.Errorf("%v, hard %v", errno, hard)
		}
		// Little room: less is quoted.
		if n := PutICMPReply(make([]byte, 50), PortUnreachable, &p, f[p.NetOff:]); n != 50 {
			t.Errorf("%d bytes into 50", n)
		}
	}
}

func TestAnswerable(t *testing.T) {
	good := Packet{DstMAC: macB, SrcMAC: macA, Src: a4, Dst: b4, Proto: ProtoUDP}
	if !good.Answerable() {
		t.Error("a good packet")
	}
	for name, change := range map[string]func(*Packet){
		"later fragment":  func(p *Packet) { p.FragOff = 8 },
		"link broadcast":  func(p *Packet) { p.DstMAC = [6]byte{255, 255, 255, 255, 255, 255} },
		"multicast group": func(p *Packet) { p.Dst = netip.MustParseAddr("224.0.0.5") },
		"broadcast":       func(p *Packet) { p.Dst = Broadcast },
		"from multicast":  func(p *Packet) { p.Src = netip.MustParseAddr("224.0.0.5") },
		"from nobody":     func(p *Packet) { p.Src = netip.MustParseAddr("0.0.0.0") },
		"LAND":            func(p *Packet) { p.Src = p.Dst },
	} {
		p := good
		if change(&p); p.Answerable() {
			t.Error(name)
		}
	}
}

func TestEchoReply(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		req, reply := uint8(8), uint8(0)
		var pseudo uint16
		if v6 {
			req, reply, pseudo = 128, 129, PseudoSum(a6, b6, ProtoICMPv6, 13)
		}
		for id := range uint32(1000) {
			msg := icmp(req, 0, id*0x10001, []byte("hello"))
			binary.BigEndian.PutUint16(msg[2:], ^Add(Sum(msg), pseudo))
			if !EchoReply(msg, v6) {
				t.Fatal("no reply")
			}
			if msg[0] != reply || Add(Sum(msg), pseudo) != 0xffff {
				t.Fatalf("id %d: type %d, sum %#x", id, msg[0], Add(Sum(msg), pseudo))
			}
			if EchoReply(msg, v6) || EchoReply(msg[:7], v6) {
				t.Fatal("a reply to a reply")
			}
		}
	}
}

func FuzzICMP(f *testing.F) {
	f.Add(icmp(3, 3, 0, quote(false, ProtoTCP, tcp8...)), false)
	f.Add(icmp(2, 0, 1400, quote(true, extFragment, cat(fragExt(ProtoTCP, 0, true, 9), tcp8)...)), true)
	f.Fuzz(func(t *testing.T, b []byte, v6 bool) {
		p := Packet{V6: v6, Src: a4, Dst: b4}
		if v6 {
			p.Src, p.Dst = a6, b6
		}
		var e ICMPError
		if !ParseICMPError(&p, b, &e) {
			return
		}
		if e.Local.Addr() != p.Dst || e.HasSeq != (e.Proto == ProtoTCP) || e.MTU < 0 || e.MTU > 1<<16 {
			t.Fatalf("%+v", e)
		}
		if errno, _ := e.Errno(); errno == 0 {
			t.Fatal("no errno")
		}
	})
}

func TestICMPAllocs(t *testing.T) {
	msg := icmp(3, 3, 0, quote(false, ProtoTCP, tcp8...))
	p := Packet{Src: a4, Dst: b4}
	b := make([]byte, 600)
	var e ICMPError
	if n := testing.AllocsPerRun(100, func() {
		if !ParseICMPError(&p, msg, &e) || ParseICMPError(&p, msg[:12], &e) {
			t.Fatal("parse")
		}
		_, _ = e.Errno()
		PutICMPReply(b, PortUnreachable, &p, msg)
		EchoReply(msg, false)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkParseICMPError(b *testing.B) {
	msg := icmp(3, 3, 0, quote(false, ProtoTCP, tcp8...))
	p := Packet{Src: a4, Dst: b4}
	var e ICMPError
	for b.Loop() {
		ParseICMPError(&p, msg, &e)
	}
}
