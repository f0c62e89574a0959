package stack

import (
	"io"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/onload-go/onload/driver/sim"
	"github.com/onload-go/onload/ip"
	"github.com/onload-go/onload/tcp"
)

// sentPacket is what a tap saw of a packet.
type sentPacket struct {
	tos, ttl uint8
	flags    tcp.Flags
	l4       int // bytes of transport header and payload
	data     int
	mss      uint16
	frag     bool
}

// tap notes the packets of one direction, and drops those that lose says.
type tap struct {
	mu   sync.Mutex
	all  []sentPacket
	lose func(p sentPacket) bool
}

func (t *tap) faults() sim.Faults {
	return sim.Faults{Drop: func(_ uint64, frame []byte) bool {
		var p ip.Packet
		if ip.Parse(frame, len(frame), &p) != nil {
			return false
		}
		s := sentPacket{tos: p.TOS, ttl: p.TTL, l4: p.L4Len, frag: p.Fragment}
		if p.Proto == ip.ProtoTCP {
			var seg tcp.Segment
			if n, err := seg.Parse(frame[p.L4Off:], p.L4Len); err == nil {
				s.flags, s.mss, s.data = seg.Flags, seg.Opt.MSS, p.L4Len-n
			}
		}
		t.mu.Lock()
		defer t.mu.Unlock()
		t.all = append(t.all, s)
		return t.lose != nil && t.lose(s)
	}}
}

func (t *tap) packets() []sentPacket {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]sentPacket(nil), t.all...)
}

// losing has the tap drop the first packet that is matched.
func (t *tap) losing(match func(p sentPacket) bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lose = func(p sentPacket) bool {
		hit := match(p)
		if hit {
			t.lose = nil
		}
		return hit
	}
}

// TestIPOptionsTCP: DSCP and TTL are in every packet of a connection, from SYN
// to what TIME-WAIT answers, and the ECN bits are TCP's (RFC 2474 section 3,
// RFC 3168 section 6.1).
func TestIPOptionsTCP(t *testing.T) {
	for _, to := range []netip.Addr{addrB, six[addrB]} {
		var fromA, fromB tap
		a, b := newPair(t, pairOptions{link: sim.LinkConfig{AtoB: fromA.faults(), BtoA: fromB.faults()}})
		oa := IPOptions{TOS: 0xb8, TTL: 7, TrafficClass: 0xbb, HopLimit: 7}
		ob := IPOptions{TOS: 0x2b, TTL: 200, TrafficClass: 0x28, HopLimit: 200}
		cfg := &tcp.Config{ECN: tcp.ECNOn}
		l, err := b.ListenTCP(netip.AddrPortFrom(to, 0), &TCPOptions{TCP: cfg, IP: ob})
		if err != nil {
			t.Fatal(err)
		}
		dial := func() (c, s *TCPConn) {
			t.Helper()
			c, err := a.DialTCP(t.Context(), netip.AddrPort{}, l.Addr(), &TCPOptions{TCP: cfg, IP: oa})
			if err != nil {
				t.Fatal(err)
			}
			if s, _, err = l.Accept(); err != nil {
				t.Fatal(err)
			}
			return c, s
		}
		c, s := dial()
		for _, end := range []struct {
			tap  *tap
			w, r *TCPConn
		}{{&fromA, c, s}, {&fromB, s, c}} {
			end.tap.losing(func(p sentPacket) bool { return p.l4 > 1000 }) // is sent again
			go end.w.Write(make([]byte, 20000))
			if _, err := io.ReadFull(end.r, make([]byte, 20000)); err != nil {
				t.Fatal(err)
			}
		}
		// The acknowledgement of the last FIN is lost, so TIME-WAIT answers.
		c.CloseWrite()
		if _, err := io.ReadAll(s); err != nil {
			t.Fatal(err)
		}
		fromA.losing(func(p sentPacket) bool { return p.flags == tcp.FlagACK })
		s.Close()
		if _, err := io.ReadAll(c); err != nil {
			t.Fatal(err)
		}
		c.Close()
		for limit := time.Now().Add(patience); b.sizes().flows > 0; time.Sleep(time.Millisecond) {
			if time.Now().After(limit) {
				t.Fatal("the FIN was not acknowledged")
			}
		}
		for i := range 2 {
			c, s = dial()
			if i == 1 {
				c, s = s, c
			}
			c.SetLinger(0)
			c.Close() // RST
			io.ReadAll(s)
			s.Close()
		}
		l.Close()
		for _, end := range []struct {
			name     string
			tap      *tap
			tos, ttl uint8
			want     []tcp.Flags
		}{
			{"a", &fromA, 0xb8, 7, []tcp.Flags{tcp.FlagSYN, tcp.FlagFIN, tcp.FlagRST, tcp.FlagACK}},
			{"b", &fromB, 0x28, 200, []tcp.Flags{tcp.FlagSYN | tcp.FlagACK, tcp.FlagFIN, tcp.FlagRST}},
		} {
			var seen []tcp.Flags
			ect := 0
			for _, p := range end.tap.packets() {
				if p.tos&^3 != end.tos || p.ttl != end.ttl {
					t.Errorf("%v, from %s: TOS %#x, TTL %d in %+v", to, end.name, p.tos, p.ttl, p)
				}
				switch {
				case p.tos&3 == 2 && p.data > 0:
					ect++
				case p.tos&3 != 0:
					t.Errorf("%v, from %s: ECN codepoint %d in %+v", to, end.name, p.tos&3, p)
				}
				seen = append(seen, p.flags)
			}
			if ect < 10 {
				t.Errorf("%v, from %s: %d packets with ECT", to, end.name, ect)
			}
			for _, f := range end.want {
				found := false
				for _, g := range seen {
					found = found || g.Has(f)
				}
				if !found {
					t.Errorf("%v, from %s: no packet with flags %v", to, end.name, f)
				}
			}
		}
	}
}

// TestIPOptionsUDP: the same of datagrams, whole and in fragments, of sockets
// connected and not; here the ECN bits are the user's.
func TestIPOptionsUDP(t *testing.T) {
	for _, to := range []netip.Addr{addrB, six[addrB]} {
		var fromA tap
		a, b := newPair(t, pairOptions{link: sim.LinkConfig{AtoB: fromA.faults()}})
		o := &UDPOptions{IP: IPOptions{TOS: 0xba, TTL: 9, TrafficClass: 0xba, HopLimit: 9}}
		dst, err := b.OpenUDP(netip.AddrPortFrom(to, 0), netip.AddrPort{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, remote := range []netip.AddrPort{{}, dst.LocalAddr()} {
			u, err := a.OpenUDP(netip.AddrPort{}, remote, o)
			if err != nil {
				t.Fatal(err)
			}
			for _, n := range []int{1, 1000, 5000} {
				if _, err := u.WriteTo(make([]byte, n), dst.LocalAddr()); err != nil {
					t.Fatal(err)
				}
				if got, _, _, _, err := dst.ReadFrom(make([]byte, 9000)); got != n || err != nil {
					t.Fatalf("%d bytes, %v", got, err)
				}
			}
			u.Close()
		}
		frags := 0
		for _, p := range fromA.packets() {
			if p.tos != 0xba || p.ttl != 9 {
				t.Errorf("%v: %+v", to, p)
			}
			if p.frag {
				frags++
			}
		}
		if frags < 6 {
			t.Errorf("%v: %d fragments", to, frags)
		}
		dst.Close()
	}
}

// TestIPOptionsPathMTU: a router's report on a path counts for the socket whose
// packet it was, whatever its options.
func TestIPOptionsPathMTU(t *testing.T) {
	a, b := newPair(t, pairOptions{})
	dst, err := b.OpenUDP(netip.AddrPortFrom(addrB, 0), netip.AddrPort{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer dst.Close()
	u, err := a.OpenUDP(netip.AddrPort{}, dst.LocalAddr(), &UDPOptions{IP: IPOptions{TOS: 0xb8}})
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	a.begin()
	a.udpTooBig(&ip.ICMPError{Proto: ip.ProtoUDP, Local: u.LocalAddr(), Remote: u.RemoteAddr(), MTU: 1000})
	mtu := a.dests.mtuOf(u.dst, a.now)
	a.end()
	if mtu != 1000 {
		t.Errorf("the path's MTU is %d", mtu)
	}
}

// TestMaxSeg: TCP_MAXSEG bounds what is announced, and what is sent
// (RFC 9293 section 3.7.1; Linux's user_mss), on either end.
func TestMaxSeg(t *testing.T) {
	for _, tt := range []struct {
		name         string
		dial, listen int
		a, b         uint16 // announced
		most         int    // in a segment
	}{
		{"dialer", 1000, 0, 1000, 1460, 1000},
		{"listener", 0, 900, 1460, 900, 900},
		{"none", 0, 0, 1460, 1460, 1460},
		{"above the MTU", 9000, 9000, 1460, 1460, 1460},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var fromA, fromB tap
			a, b := newPair(t, pairOptions{link: sim.LinkConfig{AtoB: fromA.faults(), BtoA: fromB.faults()}})
			l, err := b.ListenTCP(netip.AddrPortFrom(addrB, 0), &TCPOptions{TCP: &tcp.Config{MaxSeg: tt.listen}})
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			c, err := a.DialTCP(t.Context(), netip.AddrPort{}, l.Addr(), &TCPOptions{TCP: &tcp.Config{MaxSeg: tt.dial}})
			if err != nil {
				t.Fatal(err)
			}
			s, _, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			for _, ends := range [][2]*TCPConn{{c, s}, {s, c}} {
				go ends[0].Write(make([]byte, 50000))
				if _, err := io.ReadFull(ends[1], make([]byte, 50000)); err != nil {
					t.Fatal(err)
				}
			}
			c.Close()
			s.Close()
			for _, end := range []struct {
				tap *tap
				mss uint16
			}{{&fromA, tt.a}, {&fromB, tt.b}} {
				most := 0
				for _, p := range end.tap.packets() {
					if p.flags.Has(tcp.FlagSYN) && p.mss != end.mss {
						t.Errorf("announced %d, want %d", p.mss, end.mss)
					}
					most = max(most, p.l4)
				}
				if want := tt.most + 20; most != want { // the MSS counts options
					t.Errorf("largest packet: %d bytes, want %d", most, want)
				}
			}
		})
	}
}
