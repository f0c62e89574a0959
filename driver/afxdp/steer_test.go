package afxdp

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/driver/afxdp/bpf"
	"github.com/onload-go/onload/internal/lab"
	"github.com/onload-go/onload/ring"
)

// injector puts frames on ns's interface as they are.
func injector(t *testing.T, ns *lab.NS) func(frame []byte) {
	t.Helper()
	fd := -1
	must(t, ns.Do(func() (err error) {
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		return err
	}))
	t.Cleanup(func() { unix.Close(fd) })
	return func(frame []byte) {
		t.Helper()
		must(t, unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: ns.Index}))
	}
}

// icmpOf is an ICMP error about the packet quoted.
func icmpOf(src, dst netip.Addr, typ byte, quoted []byte) []byte {
	b := append([]byte{typ, 3, 0, 0, 0, 0, 0, 0}, quoted...)
	if src.Is6() {
		binary.BigEndian.PutUint16(b[2:], sum(pseudo(src, dst, 58, len(b)), b))
		return ipOf(src, dst, 58, 0, 0, 0, b)
	}
	binary.BigEndian.PutUint16(b[2:], sum(b))
	return ipOf(src, dst, 1, 9, 0, 0, b)
}

// ext puts an IPv6 extension header in front of l4.
func ext(next byte, body []byte, l4 []byte) []byte {
	return append(append([]byte{next}, body...), l4...)
}

// TestSteering sends one frame for each way to be ours or not. A frame that is
// surely ours follows each, so that "not ours" needs no waiting.
func TestSteering(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.String(), func(t *testing.T) { testSteering(t, mode) })
	}
}

func testSteering(t *testing.T, mode Mode) {
	p := lab.NewPair(t, lab.Options{Neighbors: true})
	d := openAt(t, p.A, Config{Mode: mode})
	inject := injector(t, p.B)
	us4, us6, them4, them6 := v4of(p.A), v6of(p.A), v4of(p.B), v6of(p.B)
	at := netip.AddrPortFrom
	const mark = 4242
	must(t, d.AddPort(udp, at(us4.addr, mark)))
	sentinel := datagram(them4, us4, 1, mark, pattern(20))

	other4 := host{us4.mac, netip.MustParseAddr("10.77.0.99")}
	other6 := host{us6.mac, netip.MustParseAddr("fd77:0:0:0:1::99")}
	v4, v6 := netip.IPv4Unspecified(), netip.IPv6Unspecified()
	u := func(src, dst host, sport, dport uint16) []byte {
		return udpOf(at(src.addr, sport), at(dst.addr, dport), pattern(30))
	}
	ip4 := func(opts int, l4 []byte) []byte { return ipOf(them4.addr, us4.addr, udp, 5, 0, opts, l4) }
	ip6 := func(next byte, l4 []byte) []byte { return ipOf(them6.addr, us6.addr, next, 0, 0, 0, l4) }
	eth := func(ip []byte, tags ...uint16) []byte { return ethOf(them4.mac, us4.mac, ip, tags...) }
	tcpSYN := func(src, dst netip.Addr, dport uint16) []byte {
		b := make([]byte, 20)
		binary.BigEndian.PutUint16(b, 1)
		binary.BigEndian.PutUint16(b[2:], dport)
		b[12], b[13] = 5<<4, 2
		binary.BigEndian.PutUint16(b[16:], sum(pseudo(src, dst, tcp, 20), b))
		return ipOf(src, dst, tcp, 7, 0, 0, b)
	}
	// The peer complains about a packet of ours: our side is the source.
	sent4 := ipOf(us4.addr, them4.addr, udp, 5, 0, 0, u(us4, them4, 100, 9))[:28]
	ip4From0 := ipOf(us4.addr, them4.addr, udp, 5, 0, 0, u(us4, them4, 0, 9))[:28]
	sent6 := ipOf(us6.addr, them6.addr, udp, 5, 0, 0, u(us6, them6, 100, 9))
	theirs4 := ipOf(them4.addr, us4.addr, udp, 5, 0, 0, u(them4, us4, 9, 100))[:28]
	pad := make([]byte, 6)
	above, foreign := [6]byte{2, 0, 0, 0, 0, 7}, [6]byte{2, 0, 0, 0, 0x99, 0x99}
	must(t, d.SetMACs([][6]byte{us4.mac, {2, 1}, above}))
	to := func(mac [6]byte, ip []byte, tags ...uint16) []byte { return ethOf(them4.mac, mac, ip, tags...) }

	type entry struct {
		proto         byte
		local, remote netip.AddrPort
		ours          bool
	}
	port := func(proto byte, local netip.AddrPort) []entry { return []entry{{proto: proto, local: local}} }
	any100 := port(udp, anyPort(100))
	tests := []struct {
		name    string
		entries []entry
		frame   []byte
		ours    bool
	}{
		{"no entry", nil, datagram(them4, us4, 9, 100, nil), false},
		{"address", port(udp, at(us4.addr, 100)), datagram(them4, us4, 9, 100, nil), true},
		{"a link above's MAC", any100, to(above, ip4(0, u(them4, us4, 9, 100))), true},
		{"foreign MAC", any100, to(foreign, ip4(0, u(them4, us4, 9, 100))), false},
		{"zero MAC", any100, to([6]byte{}, ip4(0, u(them4, us4, 9, 100))), false},
		{"foreign MAC, VLAN", any100, to(foreign, ip4(0, u(them4, us4, 9, 100)), 7), false},
		{"foreign MAC, tcp", port(tcp, at(us4.addr, 100)), to(foreign, tcpSYN(them4.addr, us4.addr, 100)), false},
		{"foreign MAC, tcp6", port(tcp, at(us6.addr, 100)), to(foreign, tcpSYN(them6.addr, us6.addr, 100)), false},
		{"foreign MAC, ICMP", any100, to(foreign, icmpOf(them4.addr, us4.addr, 3, sent4)), false},
		{"other address", port(udp, at(other4.addr, 100)), datagram(them4, us4, 9, 100, nil), false},
		{"other port", any100, datagram(them4, us4, 100, 101, nil), false},
		{"other protocol", port(tcp, anyPort(100)), datagram(them4, us4, 9, 100, nil), false},
		{"tcp", port(tcp, at(us4.addr, 100)), eth(tcpSYN(them4.addr, us4.addr, 100)), true},
		{"tcp6", port(tcp, at(us6.addr, 100)), eth(tcpSYN(them6.addr, us6.addr, 100)), true},
		{"address6", port(udp, at(us6.addr, 100)), datagram(them6, us6, 9, 100, nil), true},
		{"other address6", port(udp, at(other6.addr, 100)), datagram(them6, us6, 9, 100, nil), false},
		{"any", any100, datagram(them4, us4, 9, 100, nil), true},
		{"any6", any100, datagram(them6, us6, 9, 100, nil), true},
		{"any of v4", port(udp, at(v4, 100)), datagram(them4, us4, 9, 100, nil), true},
		{"any of v4, v6 packet", port(udp, at(v4, 100)), datagram(them6, us6, 9, 100, nil), false},
		{"any of v6", port(udp, at(v6, 100)), datagram(them6, us6, 9, 100, nil), true},
		{"any of v6, v4 packet", port(udp, at(v6, 100)), datagram(them4, us4, 9, 100, nil), false},
		{"4 in 6 entry", port(udp, at(netip.AddrFrom16(us4.addr.As16()), 100)), datagram(them4, us4, 9, 100, nil), true},

		{"options", any100, eth(ip4(40, u(them4, us4, 9, 100))), true},
		{"vlan", any100, eth(ip4(0, u(them4, us4, 9, 100)), 7), true},
		{"two vlans", any100, eth(ip6(udp, u(them6, us6, 9, 100)), 7, 8), true},
		{"three vlans", any100, eth(ip4(0, u(them4, us4, 9, 100)), 7, 8, 9), false},
		{"to all on the link", any100, ethOf(them4.mac, [6]byte{255, 255, 255, 255, 255, 255}, ip4(0, u(them4, us4, 9, 100))), false},
		{"to a group", any100, ethOf(them4.mac, [6]byte{0x33, 0x33, 0, 0, 0, 1}, ip6(udp, u(them6, us6, 9, 100))), false},
		{"link-local", any100, datagram(them6, host{us6.mac, netip.MustParseAddr("fe80::1")}, 9, 100, nil), false},
		{"port 0", any100, datagram(them4, us4, 9, 0, nil), false},
		{"port 0, v6", any100, datagram(them6, us6, 9, 0, nil), false},
		{"port 0, tcp", port(tcp, at(us4.addr, 100)), eth(tcpSYN(them4.addr, us4.addr, 0)), false},
		{"port 0, tcp6", port(tcp, anyPort(100)), eth(tcpSYN(them6.addr, us6.addr, 0)), false},
		{"icmp about port 0", any100, eth(icmpOf(them4.addr, us4.addr, 3, ip4From0)), false},
		{"vlan, other port", any100, eth(ip4(0, u(them4, us4, 9, 101)), 7), false},

		{"flow ours", []entry{{udp, at(us4.addr, 100), at(them4.addr, 9), true}}, datagram(them4, us4, 9, 100, nil), true},
		{"flow ours, other remote", []entry{{udp, at(us4.addr, 100), at(them4.addr, 9), true}}, datagram(them4, us4, 8, 100, nil), false},
		{"flow kernel's", append([]entry{{udp, at(us4.addr, 100), at(them4.addr, 9), false}}, any100...), datagram(them4, us4, 9, 100, nil), false},
		{"flow kernel's, other remote", append([]entry{{udp, at(us4.addr, 100), at(them4.addr, 9), false}}, any100...), datagram(them4, us4, 8, 100, nil), true},
		{"flow6 kernel's", append([]entry{{udp, at(us6.addr, 100), at(them6.addr, 9), false}}, any100...), datagram(them6, us6, 9, 100, nil), false},

		{"icmp unreachable", any100, eth(icmpOf(them4.addr, us4.addr, 3, sent4)), true},
		{"icmp from a router", any100, eth(icmpOf(other4.addr, us4.addr, 11, sent4)), true},
		{"icmp about the kernel's", port(udp, anyPort(101)), eth(icmpOf(them4.addr, us4.addr, 3, sent4)), false},
		{"icmp quoting the peer's own", any100, eth(icmpOf(them4.addr, us4.addr, 3, theirs4)), false},
		{"icmp redirect", any100, eth(icmpOf(them4.addr, us4.addr, 5, sent4)), false},
		{"icmp echo", any100, eth(icmpOf(them4.addr, us4.addr, 8, sent4)), false},
		{"icmp cut short", any100, eth(icmpOf(them4.addr, us4.addr, 3, sent4[:22])), false},
		{"icmp about a kernel flow", append([]entry{{udp, at(us4.addr, 100), at(them4.addr, 9), false}}, any100...),
			eth(icmpOf(them4.addr, us4.addr, 3, sent4)), false},
		{"icmp6 too big", any100, eth(icmpOf(them6.addr, us6.addr, 2, sent6)), true},
		{"icmp6 about the kernel's", port(udp, at(us4.addr, 100)), eth(icmpOf(them6.addr, us6.addr, 1, sent6)), false},
		{"icmp6 echo", any100, eth(icmpOf(them6.addr, us6.addr, 128, sent6)), false},

		{"hop-by-hop", any100, eth(ip6(0, ext(60, append([]byte{0}, pad...), ext(udp, append([]byte{0}, pad...), u(them6, us6, 9, 100))))), true},
		{"routing, arrived", any100, eth(ip6(43, ext(udp, append([]byte{0}, pad...), u(them6, us6, 9, 100)))), true},
		{"routing, under way", any100, eth(ip6(43, ext(udp, []byte{0, 0, 1, 0, 0, 0, 0}, u(them6, us6, 9, 100)))), false},
		{"ports far behind", any100, eth(ip6(60, ext(udp, append([]byte{160}, make([]byte, 1286)...), u(them6, us6, 9, 100)))), true},
		{"atomic fragment", any100, eth(ip6(44, ext(udp, []byte{0, 0, 0, 1, 2, 3, 4}, u(them6, us6, 9, 100)))), true},
		{"too many headers", any100, eth(ip6(60, bytes.Join([][]byte{
			bytes.Repeat(append([]byte{60, 0}, pad...), 7), ext(udp, append([]byte{0}, pad...), u(them6, us6, 9, 100))}, nil))), false},
		{"header beyond the end", any100, eth(ip6(60, ext(udp, append([]byte{200}, pad...), u(them6, us6, 9, 100)))), false},
		{"no next header", any100, eth(ip6(59, u(them6, us6, 9, 100))), false},

		{"ip cut short", any100, eth(ip4(0, u(them4, us4, 9, 100))[:18]), false},
		{"ports cut short", any100, eth(ip4(0, u(them4, us4, 9, 100))[:22]), false},
		{"bad header length", any100, eth(append([]byte{0x44}, ip4(0, u(them4, us4, 9, 100))[1:]...)), false},
		{"arp", any100, append(append(append([]byte{}, us4.mac[:]...), them4.mac[:]...), 8, 6, 0, 1), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, e := range tt.entries {
				if e.remote.IsValid() {
					must(t, d.AddFlow(e.proto, e.local, e.remote, e.ours))
				} else {
					must(t, d.AddPort(e.proto, e.local))
				}
			}
			expect(t, d, func() { inject(tt.frame) }, func() { inject(sentinel) }, tt.frame, sentinel, tt.ours)
			for _, e := range tt.entries {
				if e.remote.IsValid() {
					must(t, d.RemoveFlow(e.proto, e.local, e.remote))
				} else {
					must(t, d.RemovePort(e.proto, e.local))
				}
			}
			if tt.ours {
				expect(t, d, func() { inject(tt.frame) }, func() { inject(sentinel) }, tt.frame, sentinel, false)
			}
		})
	}
	c, err := d.Counters()
	must(t, err)
	if c.Redirected == 0 || c.RedirectICMP != 3 || c.PassNotIP == 0 || c.PassProto == 0 || c.PassMalformed == 0 ||
		c.PassNoPort == 0 || c.PassFlow != 3 || c.PassNoSocket != 0 || c.PassScope == 0 {
		t.Errorf("counters %+v", c)
	}
	if len(d.flows) != 0 || len(d.ports) != 2 { // the sentinel's, and that there is one
		t.Errorf("%d flows and %d ports left", len(d.flows), len(d.ports))
	}
}

// expect sends a frame and then the sentinel, and checks which of them arrive.
func expect(t *testing.T, d *Device, first, then func(), frame, sentinel []byte, ours bool) {
	t.Helper()
	first()
	then()
	got, _ := receive(t, d, d.queues.all()[0], patience)
	if ours {
		if !bytes.Equal(got, frame) {
			t.Fatalf("received %d bytes %x, want the frame", len(got), got)
		}
		got, _ = receive(t, d, d.queues.all()[0], patience)
	}
	if !bytes.Equal(got, sentinel) {
		t.Fatalf("received %x, want only the sentinel", got)
	}
}

// Entries are counted: the last Remove takes them away.
func TestSteeringCounted(t *testing.T) {
	p := lab.NewPair(t, lab.Options{Neighbors: true})
	d := openAt(t, p.A, Config{MaxPorts: 5})
	ap := netip.AddrPortFrom(p.A.Addr4, 100)
	held := func() bool {
		var v bpf.SteerPortEntry
		return d.objs.Ports.Lookup(&bpf.PortKeys(udp, ap)[0], &v) == nil
	}
	must(t, d.AddPort(udp, ap))
	must(t, d.AddPort(udp, ap))
	must(t, d.RemovePort(udp, ap))
	if !held() {
		t.Error("gone with the first of two")
	}
	must(t, d.RemovePort(udp, ap))
	if held() {
		t.Error("still there")
	}
	if err := d.RemovePort(udp, ap); err == nil {
		t.Error("removed what is not there")
	}
	if err := d.AddPort(1, ap); err == nil {
		t.Error("ICMP has no ports")
	}
	if err := d.AddPort(udp, anyPort(0)); err == nil {
		t.Error("port 0")
	}
	if err := d.AddFlow(udp, anyPort(1), ap, true); err == nil {
		t.Error("flow without address")
	}
	// The map is full: a half done change is undone.
	for i := range uint16(3) {
		must(t, d.AddPort(udp, netip.AddrPortFrom(p.A.Addr4, 200+i)))
	}
	if err := d.AddPort(udp, anyPort(300)); err == nil {
		t.Error("entries beyond the map's")
	}
	if len(d.ports) != 4 {
		t.Errorf("%d entries, want 4", len(d.ports))
	}
	must(t, d.AddPort(udp, ap))
}

// Fragments follow their first, and wait for it where a port of ours has the address.
func TestFragments(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.String(), func(t *testing.T) {
			p := lab.NewPair(t, lab.Options{Neighbors: true})
			d := openAt(t, p.A, Config{Mode: mode})
			q := d.queues.all()[0]
			must(t, d.AddPort(udp, anyPort(100)))
			// The peer's kernel cuts the datagram.
			for _, ip := range []netip.Addr{p.A.Addr4, p.A.Addr6} {
				c, err := p.B.Dial("udp", net.JoinHostPort(ip.String(), "100"))
				must(t, err)
				defer c.Close()
				data := pattern(4000)
				_, err = c.Write(data)
				must(t, err)
				var got []byte
				for i := range 3 {
					b, _ := receive(t, d, q, patience)
					if b == nil {
						t.Fatalf("%v: fragment %d is missing", ip, i)
					}
					if ip.Is4() {
						got = append(got, b[34:]...)
					} else {
						got = append(got, b[62:]...)
					}
				}
				if !bytes.Equal(got[8:], data) {
					t.Errorf("%v: %d bytes differ", ip, len(got))
				}
			}
			inject := injector(t, p.B)
			us, them := v4of(p.A), v4of(p.B)
			sentinel := datagram(them, us, 1, 100, nil)
			frag := func(id, off uint16, port uint16) []byte {
				l4 := udpOf(netip.AddrPortFrom(them.addr, 9), netip.AddrPortFrom(us.addr, port), pattern(56))
				const more = 0x2000
				if off > 0 {
					return ethOf(them.mac, us.mac, ipOf(them.addr, us.addr, udp, id, off/8, 0, l4))
				}
				return ethOf(them.mac, us.mac, ipOf(them.addr, us.addr, udp, id, more, 0, l4))
			}
			see := func(f []byte, ours bool) {
				t.Helper()
				expect(t, d, func() { inject(f) }, func() { inject(sentinel) }, f, sentinel, ours)
			}
			see(frag(77, 64, 100), true) // before its first
			see(frag(77, 0, 100), true)
			see(frag(77, 64, 100), true)
			see(frag(79, 0, 101), false) // the kernel's
			see(frag(79, 64, 101), false)
			see(frag(79, 0, 100), true) // the identification again, ours
			see(frag(79, 64, 100), true)
			see(frag(80, 64, 101), true) // of the kernel's datagram we have a part
			inject(frag(80, 0, 101))
			first := make([]ring.Desc, 1)
			for end := time.Now().Add(patience); q.RxBatch(first) == 0; runtime.Gosched() {
				if time.Now().After(end) {
					t.Fatal("the first fragment of the kernel's did not come")
				}
			}
			if !bytes.Equal(d.arena.Data(first[0]), frag(80, 0, 101)) || first[0].Flags != ring.FlagKernels {
				t.Errorf("first fragment of the kernel's: %+v", first[0])
			}
			d.arena.Free(first[0].Frame)
			see(frag(80, 64, 101), true)
			mac := them.mac
			them.mac = [6]byte{0, 0, 0x5e, 0xff, 1, 2} // with the group bit it would be a mark of segments
			see(frag(82, 64, 101), true)
			see(frag(82, 0, 101), false)
			them.mac = mac
			must(t, d.RemovePort(udp, anyPort(100)))
			must(t, d.AddPort(udp, netip.AddrPortFrom(us.addr, 100)))
			see(frag(81, 64, 100), true)
			us.addr = netip.MustParseAddr("10.77.0.99")
			see(frag(81, 64, 100), false) // no port has the address
		})
	}
}

// Other packets work as before, with the kernel's sockets.
func TestKernelKeepsWorking(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.String(), func(t *testing.T) {
			p := lab.NewPair(t, lab.Options{})
			d := openAt(t, p.A, Config{Mode: mode})
			must(t, d.AddPort(tcp, anyPort(80)))
			must(t, d.AddPort(udp, anyPort(53)))
			for _, addr := range []netip.Addr{p.A.Addr4, p.A.Addr6} {
				l, err := p.A.Listen("tcp", net.JoinHostPort(addr.String(), "8080"))
				must(t, err)
				go func() {
					for {
						c, err := l.Accept()
						if err != nil {
							return
						}
						b := make([]byte, 1<<16)
						n, _ := c.Read(b)
						c.Write(b[:n])
						c.Close()
					}
				}()
				c, err := p.B.Dial("tcp", net.JoinHostPort(addr.String(), "8080"))
				must(t, err)
				must(t, c.SetDeadline(time.Now().Add(patience)))
				_, err = c.Write([]byte("hello"))
				must(t, err)
				b := make([]byte, 16)
				if n, err := c.Read(b); err != nil || string(b[:n]) != "hello" {
					t.Errorf("%v: read %q, %v", addr, b[:n], err)
				}
				c.Close()
				l.Close()
				must(t, p.B.Ping(addr))
			}
			if d.queues.all()[0].RxPending() {
				t.Error("we received something")
			}
			// A kernel socket behind a port that is ours hears nothing.
			l, err := p.A.Listen("tcp", net.JoinHostPort(p.A.Addr4.String(), "80"))
			must(t, err)
			defer l.Close()
			go p.B.Dial("tcp", net.JoinHostPort(p.A.Addr4.String(), "80"))
			b, _ := receive(t, d, d.queues.all()[0], patience)
			if len(b) < 54 || binary.BigEndian.Uint16(b[36:]) != 80 {
				t.Errorf("received %x, want the SYN", b)
			}
		})
	}
}

// The peer's kernel refuses a datagram of ours: we get its ICMP error.
func TestRefused(t *testing.T) {
	p := lab.NewPair(t, lab.Options{Neighbors: true})
	d := openAt(t, p.A, Config{})
	must(t, d.AddPort(udp, anyPort(100)))
	for _, way := range [][2]host{{v4of(p.A), v4of(p.B)}, {v6of(p.A), v6of(p.B)}} {
		send(t, d, d.queues.all()[0], datagram(way[0], way[1], 100, 9, []byte("x")))
		b, _ := receive(t, d, d.queues.all()[0], patience)
		if way[0].addr.Is4() && (len(b) < 42 || b[23] != 1 || b[34] != 3) ||
			way[0].addr.Is6() && (len(b) < 62 || b[20] != 58 || b[54] != 1) {
			t.Errorf("received %x, want port unreachable", b)
		}
	}
}
