package stack

import (
	"bytes"
	"encoding/binary"
	"math"
	"math/rand/v2"
	"net/netip"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/onload-go/onload/driver/sim"
	"github.com/onload-go/onload/ip"
	"github.com/onload-go/onload/udp"
)

// victim is a stack whose peer sends what it likes, beside an honest one.
type victim struct {
	*Stack
	honest *UDPConn      // of the peer, connected to an echoing socket
	sent   atomic.Uint64 // frames that the victim sent
}

// newVictim makes a victim that receives whatever comes to it.
func newVictim(t testing.TB) *victim {
	t.Helper()
	v := new(victim)
	nic := sim.Config{TakeAll: true}
	a, b := newPair(t, pairOptions{nic: nic, link: sim.LinkConfig{Tap: func(d sim.Dir, _ []byte) {
		if d == sim.BtoA {
			v.sent.Add(1)
		}
	}}})
	v.Stack = b
	v.honest = udpPair(t, a, b, addrB, nil)
	return v
}

// suffer receives hostile frames.
func (v *victim) suffer(t testing.TB, frames ...[]byte) {
	t.Helper()
	dev := v.cfg.Links[0].Steering.(*sim.Device)
	for _, f := range frames {
		for !dev.Inject(0, f) {
			v.pollOnce()
		}
	}
	takeAll(v.Stack)
}

// unharmed checks that an honest datagram of n bytes comes back.
func (v *victim) unharmed(t testing.TB, n int) {
	t.Helper()
	out := bytes.Repeat([]byte{byte(n)}, n)
	buf := make([]byte, 1<<16)
	v.honest.SetDeadline(time.Now().Add(patience))
	if _, err := v.honest.WriteTo(out, netip.AddrPort{}); err != nil {
		t.Fatal("honest peer:", err)
	}
	k, _, _, _, err := v.honest.ReadFrom(buf)
	if err != nil || !bytes.Equal(buf[:k], out) {
		t.Fatal("honest peer:", k, err)
	}
}

// pathMTU is the MTU of the path to u's peer.
func (v *victim) pathMTU(u *UDPConn) (n int) {
	locked(v.Stack, func() { n = v.dests.mtuOf(u.dst, v.now) })
	return n
}

// held is the memory of incomplete datagrams.
func (v *victim) held() (n int) {
	locked(v.Stack, func() { n = v.fragments.Held() })
	return n
}

// packetOf is a frame to the victim.
func packetOf(src, dst netip.Addr, proto uint8, l4 []byte) []byte {
	var h ip.Header
	from, to := macsTo(dst)
	h.Init(from, to, 0, src, dst, proto, 0, 64)
	b := make([]byte, h.Len(), h.Len()+len(l4))
	h.Put(b, len(l4), 0, 1)
	return append(b, l4...)
}

// macsTo are the addresses of a frame that carries a packet to dst: from A to B,
// unless it is for A.
func macsTo(dst netip.Addr) (from, to [6]byte) {
	if dst == addrA || dst == six[addrA] {
		return macs[addrB], macs[addrA]
	}
	return macs[addrA], macs[addrB]
}

// fragmentOf is a frame to the victim with the bytes l4 of a datagram, from
// off on.
func fragmentOf(src, dst netip.Addr, proto uint8, l4 []byte, id uint32, off int, more bool) []byte {
	var h ip.Header
	from, to := macsTo(dst)
	h.Init(from, to, 0, src, dst, proto, 0, 64)
	b := make([]byte, h.FragLen(), h.FragLen()+len(l4))
	h.PutFragment(b, len(l4), 0, id, off, more)
	return append(b, l4...)
}

// udpOf is a UDP datagram with its header.
func udpOf(src, dst netip.AddrPort, payload []byte) []byte {
	b := append(make([]byte, udp.HeaderLen), payload...)
	sum := ip.Add(ip.PseudoSum(src.Addr(), dst.Addr(), ip.ProtoUDP, len(b)), ip.Sum(payload))
	udp.Put(b, src.Port(), dst.Port(), len(b), sum)
	return b
}

// icmpOf is an ICMP message of the given type and code, with its checksum.
func icmpOf(src, dst netip.Addr, typ, code uint8, rest uint32, quote []byte) []byte {
	b := append([]byte{typ, code, 0, 0, 0, 0, 0, 0}, quote...)
	binary.BigEndian.PutUint32(b[4:], rest)
	sum := ip.Sum(b)
	proto := uint8(ip.ProtoICMP)
	if src.Is6() {
		proto = ip.ProtoICMPv6
		sum = ip.Add(sum, ip.PseudoSum(src, dst, proto, len(b)))
	}
	binary.BigEndian.PutUint16(b[2:], ^sum)
	return packetOf(src, dst, proto, b)
}

// openOn opens a socket of the victim.
func (v *victim) openOn(t testing.TB, local, remote netip.AddrPort) *UDPConn {
	t.Helper()
	u, err := v.OpenUDP(local, remote, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { u.Close() })
	return u
}

// TestFragmentSmack (attack 11): a peer, or many, send fragments that never become
// whole. Held memory is bounded, a fragment costs as much at the end as at the
// beginning, and an honest peer's fragments are put together.
func TestFragmentSmack(t *testing.T) {
	for name, source := range map[string]func(*rand.Rand) netip.Addr{
		"one peer": func(*rand.Rand) netip.Addr { return netip.MustParseAddr("10.0.0.66") },
		"many peers": func(r *rand.Rand) netip.Addr {
			return netip.AddrFrom4([4]byte{10, byte(r.Uint32()), byte(r.Uint32()), byte(r.Uint32())})
		},
	} {
		t.Run(name, func(t *testing.T) {
			v, fresh := newVictim(t), newVictim(t)
			r := rand.New(rand.NewPCG(1, 2))
			part := make([]byte, 1480)
			const rounds, compared, each = 60, 15, 200
			limit, _ := fragLimits(v.arena, 1)
			frames := make([][]byte, each)
			costs := func(v *victim) time.Duration {
				start := time.Now()
				v.suffer(t, frames...)
				return time.Since(start)
			}
			early, late := time.Duration(math.MaxInt64), time.Duration(math.MaxInt64)
			for i := range rounds {
				for k := range frames {
					off := 8 * (1 + r.IntN(5000))
					frames[k] = fragmentOf(source(r), addrB, ip.ProtoUDP, part[:8*(1+r.IntN(185))], r.Uint32(), off, true)
				}
				// The last rounds are compared with the first of another victim, one by
				// one: the machine may become busy at any time.
				if took := costs(v); i >= rounds-compared {
					early, late = min(early, costs(fresh)), min(late, took)
				}
				if n := v.held(); n > limit {
					t.Fatalf("%d bytes held, limit %d", n, limit)
				}
				if i%10 == 9 {
					v.unharmed(t, 6000)
				}
			}
			if late > 4*early+time.Millisecond {
				t.Errorf("%d fragments cost %v at first, %v at last", each, early, late)
			}
			if v.Stats().Fragments.Evicted == 0 {
				t.Error("nothing was evicted: no flood")
			}
		})
	}
}

// TestBadFragments (attack 12): a datagram of which some fragment overlaps
// another, is too small for the headers, or goes beyond 65535 bytes is not
// delivered. As with Linux, a fragment within what came in order is a duplicate,
// what comes after the drop may be a datagram of its own, and IPv6's that is none
// (RFC 8200, 4.5) does not count.
func TestBadFragments(t *testing.T) {
	type part struct {
		off, end int
		more     bool
	}
	for name, parts := range map[string][]part{
		"overlap at a seam": {{1000, 2008, true}, {0, 1000, true}, {504, 1504, true}, {2008, 3008, false}},
		"overlap by one":    {{0, 1008, true}, {1000, 2008, true}, {2008, 3008, false}},
		"overlap, reverse":  {{2000, 3008, false}, {1000, 2008, true}, {0, 1000, true}},
		"two ends":          {{0, 1000, true}, {1000, 2000, false}, {1000, 3008, false}},
		"tiny first":        {{0, 0, true}, {0, 3008, false}},
		"ping of death":     {{0, 1000, true}, {65528, 66528, false}, {1000, 3008, false}},
		"uneven":            {{0, 1001, true}, {1001, 3008, false}},
		"inside":            {{0, 1000, true}, {1000, 2008, true}, {504, 1504, true}, {0, 16, true}, {2008, 3008, false}},
		"after the drop":    {{0, 1000, true}, {992, 1008, true}, {0, 1000, true}, {1000, 2000, true}, {2000, 3008, false}},
	} {
		for _, to := range []netip.Addr{addrB, six[addrB]} {
			t.Run(name+" "+to.String(), func(t *testing.T) {
				v := newVictim(t)
				u := v.openOn(t, netip.AddrPortFrom(to, 0), netip.AddrPort{})
				from := netip.AddrPortFrom(addrA, 999)
				if to.Is6() {
					from = netip.AddrPortFrom(six[addrA], 999)
				}
				whole := udpOf(from, u.LocalAddr(), make([]byte, 3000))
				data := append(bytes.Clone(whole), make([]byte, 1<<16)...)
				for i, p := range parts {
					if name == "tiny first" && i == 1 {
						// The header comes in the second fragment only.
						v.suffer(t, fragmentOf(from.Addr(), to, ip.ProtoUDP, data[8:3008], 7, 8, false))
						continue
					}
					v.suffer(t, fragmentOf(from.Addr(), to, ip.ProtoUDP, data[p.off:p.end], 7, p.off, p.more))
				}
				if good := name == "inside" || name == "after the drop" || name == "ping of death" && to.Is6(); u.rq.Ready() != good {
					t.Errorf("delivered: %v", !good)
				} else if good {
					if _, _, _, _, err := u.ReadFrom(make([]byte, 4000)); err != nil {
						t.Error(err)
					}
				}
				if st := v.Stats().Fragments; strings.HasPrefix(name, "overlap") && st.Overlaps != 1 {
					t.Errorf("%+v", st)
				}
				// Another of the same sender is.
				v.suffer(t,
					fragmentOf(from.Addr(), to, ip.ProtoUDP, whole[1000:], 8, 1000, false),
					fragmentOf(from.Addr(), to, ip.ProtoUDP, whole[:1000], 8, 0, true))
				if !u.rq.Ready() {
					t.Error("a good datagram was not delivered")
				}
				v.unharmed(t, 6000)
			})
		}
	}
}

// TestForgedICMP (attacks 13, 14, 23): errors that cannot be about what a
// connected socket sent, and those that hinder no flow, change nothing.
func TestForgedICMP(t *testing.T) {
	for _, to := range []netip.Addr{addrB, six[addrB]} {
		v := newVictim(t)
		peer := netip.AddrPortFrom(addrA, 4444)
		if to.Is6() {
			peer = netip.AddrPortFrom(six[addrA], 4444)
		}
		u := v.openOn(t, netip.AddrPortFrom(to, 0), peer)
		quote := func(from, to netip.AddrPort) []byte {
			return packetOf(from.Addr(), to.Addr(), ip.ProtoUDP, udpOf(from, to, []byte("hello")))[14:]
		}
		own := quote(u.LocalAddr(), peer)
		other := netip.AddrPortFrom(peer.Addr(), 4445)
		type message struct {
			name      string
			typ, code uint8
			rest      uint32
			quote     []byte
		}
		forged := []message{
			{"redirect", 5, 1, 0x0a000042, own}, {"source quench", 4, 0, 0, own},
			{"other flow", 3, 3, 0, quote(u.LocalAddr(), other)}, {"backwards", 3, 3, 0, quote(peer, u.LocalAddr())},
			{"short quote", 3, 3, 0, own[:24]}, {"empty", 3, 3, 0, nil}, {"soft", 3, 1, 0, own},
		}
		refused := message{"", 3, 3, 0, own}
		if to.Is6() {
			forged = []message{
				{"redirect", 137, 0, 0, own}, {"PTB below 1280", 2, 0, 1279, own},
				{"other flow", 1, 4, 0, quote(u.LocalAddr(), other)}, {"backwards", 1, 4, 0, quote(peer, u.LocalAddr())},
				{"short quote", 1, 4, 0, own[:44]}, {"empty", 1, 4, 0, nil}, {"soft", 1, 0, 0, own},
			}
			refused = message{"", 1, 4, 0, own}
		}
		mtu := v.pathMTU(u)
		for _, m := range forged {
			v.suffer(t, icmpOf(peer.Addr(), to, m.typ, m.code, m.rest, m.quote))
			if e, now := u.errno.Load(), v.pathMTU(u); e != 0 || now != mtu {
				t.Errorf("%v, %s: error %v, MTU %d", to, m.name, syscall.Errno(e), now)
			}
		}
		b := icmpOf(peer.Addr(), to, refused.typ, refused.code, 0, own)
		b[len(b)-1] ^= 1
		v.suffer(t, b)
		if u.errno.Load() != 0 {
			t.Errorf("%v: a wrong checksum", to)
		}
		v.suffer(t, icmpOf(peer.Addr(), to, refused.typ, refused.code, 0, own))
		if e := syscall.Errno(u.errno.Load()); e != syscall.ECONNREFUSED {
			t.Errorf("%v: an honest error gives %v", to, e)
		}
		v.unharmed(t, 100)
	}
}

// TestUnreachableLimit (attacks 15, 25): however many datagrams come to
// closed ports, the answers are limited, and how many of a burst are
// answered differs from time to time.
func TestUnreachableLimit(t *testing.T) {
	counts := map[uint64]bool{}
	for range 6 {
		v := newVictim(t)
		const n = 1000
		frames := make([][]byte, n)
		for i := range frames {
			from := netip.AddrPortFrom(addrA, uint16(1000+i))
			frames[i] = packetOf(addrA, addrB, ip.ProtoUDP, udpOf(from, netip.AddrPortFrom(addrB, 9), nil))
		}
		start := time.Now()
		v.suffer(t, frames...)
		// As many as fit the burst, at half price each, and what time adds.
		most := 2*icmpBurst + uint64(time.Since(start).Seconds()*2*icmpPerSecond) + 1
		got := v.sent.Load()
		if got == 0 || got > most {
			t.Errorf("%d answers to %d datagrams, want 1 to %d", got, n, most)
		}
		if v.Stats().RxNoSocket != n {
			t.Errorf("%d counted", v.Stats().RxNoSocket)
		}
		counts[got] = true
		v.unharmed(t, 100)
	}
	if len(counts) < 2 {
		t.Error("the same number of answers every time")
	}
}

// TestSilence (attacks 20, 23, 25): packets that no honest host sends, packets to
// more than us, and packets that would make us answer an answer are dropped without
// one, and counted.
func TestSilence(t *testing.T) {
	v := newVictim(t)
	u := v.openOn(t, netip.AddrPortFrom(addrB, 0), netip.AddrPort{})
	here, closed := u.LocalAddr(), netip.AddrPortFrom(addrB, 9)
	from := netip.AddrPortFrom(addrA, 999)
	four := func(src netip.Addr, to netip.AddrPort) []byte {
		return packetOf(src, to.Addr(), ip.ProtoUDP, udpOf(netip.AddrPortFrom(src, 7), to, []byte("hello")))
	}
	edit := func(b []byte, off int, with ...byte) []byte {
		copy(b[off:], with)
		return b
	}
	a6, b6 := six[addrA], six[addrB]
	exts := func(n int, next uint8) []byte { // destination options, n of them
		var b []byte
		for i := range n {
			h := []byte{60, 0, 1, 4, 0, 0, 0, 0}
			if i == n-1 {
				h[0] = next
			}
			b = append(b, h...)
		}
		return append(b, udpOf(netip.AddrPortFrom(a6, 7), netip.AddrPortFrom(b6, 9), nil)...)
	}
	sourceRoute := edit(packetOf(addrA, addrB, ip.ProtoUDP, append([]byte{131, 3, 4, 0}, udpOf(from, closed, nil)...)), 14, 0x46)
	binary.BigEndian.PutUint16(sourceRoute[14+10:], 0)
	binary.BigEndian.PutUint16(sourceRoute[14+10:], ^ip.Sum(sourceRoute[14:14+24]))
	bad := map[string][]byte{
		"LAND":                 four(addrB, here),
		"from loopback":        four(netip.MustParseAddr("127.0.0.1"), here),
		"from nobody":          four(netip.MustParseAddr("0.0.0.0"), here),
		"from a group":         four(netip.MustParseAddr("224.0.0.1"), here),
		"from everybody":       four(netip.MustParseAddr("255.255.255.255"), here),
		"from this network":    four(netip.MustParseAddr("0.1.2.3"), here),
		"to another":           four(addrA, netip.AddrPortFrom(netip.MustParseAddr("10.0.0.3"), here.Port())),
		"to loopback":          four(addrA, netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), here.Port())),
		"bad UDP checksum":     edit(four(addrA, here), 14+20+6, 0x12, 0x34),
		"bad header checksum":  edit(four(addrA, here), 14+10, 0x12, 0x34),
		"short UDP length":     edit(four(addrA, here), 14+20+4, 0, 7),
		"long UDP length":      edit(four(addrA, here), 14+20+4, 1, 0),
		"long IP length":       edit(four(addrA, here), 14+2, 5, 0),
		"truncated":            four(addrA, here)[:30],
		"runt":                 {1},
		"broadcast MAC":        edit(four(addrA, closed), 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff),
		"group MAC":            edit(four(addrA, closed), 0, 0x01, 0x00, 0x5e, 0, 0, 1),
		"another host's MAC":   edit(four(addrA, here), 0, 2, 0, 0, 0, 0x99, 0x99),
		"to a group":           four(addrA, netip.AddrPortFrom(netip.MustParseAddr("224.0.0.1"), 9)),
		"unknown protocol":     packetOf(addrA, addrB, 200, []byte("hello")),
		"ICMP about ICMP":      icmpOf(addrA, addrB, 3, 3, 0, packetOf(addrB, addrA, ip.ProtoICMP, make([]byte, 8))[14:]),
		"many extensions":      packetOf(a6, b6, 60, exts(9, ip.ProtoUDP)),
		"endless extensions":   packetOf(a6, b6, 60, exts(180, 60)),
		"routing header":       packetOf(a6, b6, 43, append([]byte{ip.ProtoUDP, 0, 0, 1, 0, 0, 0, 0}, udpOf(from, here, nil)...)),
		"late hop-by-hop":      packetOf(a6, b6, 60, exts(1, 0)),
		"IPv6 with no sum":     edit(packetOf(a6, b6, ip.ProtoUDP, udpOf(netip.AddrPortFrom(a6, 7), netip.AddrPortFrom(b6, 9), nil)), 14+40+6, 0, 0),
		"source route":         sourceRoute,
		"fragment of a prober": fragmentOf(addrA, addrB, ip.ProtoUDP, make([]byte, 64), 3, 8, false),
	}
	for name, b := range bad {
		before, sent := v.Stats(), v.sent.Load()
		v.suffer(t, b)
		after := v.Stats()
		count := func(s *Stats) uint64 {
			return s.RxBogus + s.RxMalformed + s.RxChecksum + s.UDPErrors + s.RxNoSocket + s.RxFragments
		}
		if count(&after) != count(&before)+1 {
			t.Errorf("%s: counted %d times", name, count(&after)-count(&before))
		}
		if v.sent.Load() != sent {
			t.Errorf("%s: answered", name)
		}
		if u.rq.Ready() {
			t.Errorf("%s: delivered", name)
			u.rq.Drain()
		}
	}
	v.unharmed(t, 100)
	// Odd but honest packets arrive: an atomic fragment (RFC 6946), eight extension
	// headers less one, Ethernet padding.
	w := v.openOn(t, netip.AddrPortFrom(b6, 0), netip.AddrPort{})
	d := udpOf(netip.AddrPortFrom(a6, 7), w.LocalAddr(), []byte("hello"))
	for name, b := range map[string][]byte{
		"atomic fragment": fragmentOf(a6, b6, ip.ProtoUDP, d, 1, 0, false),
		"extensions":      packetOf(a6, b6, 60, append(exts(4, ip.ProtoUDP)[:32], d...)),
		"padding":         append(packetOf(a6, b6, ip.ProtoUDP, d), make([]byte, 20)...),
	} {
		v.suffer(t, b)
		buf := make([]byte, 100)
		var info udp.Info
		if n, _, ok := w.rq.Read(buf, &info, false); !ok || string(buf[:n]) != "hello" || info.Src.Port() != 7 {
			t.Errorf("%s: %q from %v, %v", name, buf[:n], info.Src, ok)
		}
	}
}
