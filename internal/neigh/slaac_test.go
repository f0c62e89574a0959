package neigh

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/onload-go/onload/ip"
)

// advert is a router advertisement.
type advert struct {
	from     byte // of the router's MAC and link-local address
	lifetime uint16
	flags    byte // preference << 3
	options  [][]byte
}

func routerAddr(n byte) netip.Addr { return netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 15: n}) }

// frame is the message to all nodes.
func (a advert) frame() []byte {
	m := make([]byte, 16)
	m[0], m[4], m[5] = ip.RouterAdvertisement, 64, a.flags
	binary.BigEndian.PutUint16(m[6:], a.lifetime)
	us := mac(a.from)
	for _, o := range append(a.options, append([]byte{1, 1}, us[:]...)) {
		m = append(m, o...)
	}
	src := routerAddr(a.from)
	binary.BigEndian.PutUint16(m[2:], ^ip.Add(ip.Sum(m), ip.PseudoSum(src, allNodes, ip.ProtoICMPv6, len(m))))
	var h ip.Header
	to, _ := ip.MulticastMAC(allNodes)
	h.Init(us, to, 0, src, allNodes, ip.ProtoICMPv6, 0, 255)
	b := make([]byte, h.Len(), h.Len()+len(m))
	h.Put(b, len(m), 0, 0)
	return append(b, m...)
}

// prefixOption has the flags on-link (0x80) and autonomous (0x40), and lifetimes in s.
func prefixOption(p string, flags byte, valid, preferred uint32) []byte {
	x := netip.MustParsePrefix(p)
	b := append([]byte{3, 4, byte(x.Bits()), flags}, binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, valid), preferred)...)
	a := x.Addr().As16()
	return append(append(b, 0, 0, 0, 0), a[:]...)
}

func routeOption(p string, pref byte, life uint32) []byte {
	x := netip.MustParsePrefix(p)
	a := x.Addr().As16()
	return append(binary.BigEndian.AppendUint32([]byte{24, 3, byte(x.Bits()), pref << 3}, life), a[:]...)
}

func dnsOption(life uint32, servers ...string) []byte {
	b := binary.BigEndian.AppendUint32([]byte{25, byte(1 + 2*len(servers)), 0, 0}, life)
	for _, s := range servers {
		a := netip.MustParseAddr(s).As16()
		b = append(b, a[:]...)
	}
	return b
}

func mtuOption(mtu uint32) []byte {
	return binary.BigEndian.AppendUint32([]byte{5, 1, 0, 0}, mtu)
}

// joinSLAAC joins a host that has a link-local address, and asks routers.
func (w *wire) joinSLAAC() *end {
	a := w.joinAs(Config{SLAAC: true}, 1, "fe80::ff:fe00:1/64")
	w.run(2 * time.Second)
	return a
}

func (w *wire) hear(e *end, a advert) {
	e.Input(a.frame(), w.now)
	w.run(2 * time.Second) // duplicate address detection, and news
}

var auto = netip.MustParseAddr("fd00::ff:fe00:1")

const both = 0xc0 // on-link and autonomous

// TestSLAAC: a router is asked for; its prefix makes an address, which is deprecated and
// ends with its lifetimes, and is not taken away at once; routes, MTU and name servers
// have lifetimes likewise.
func TestSLAAC(t *testing.T) {
	w := new(wire)
	a := w.joinAs(Config{SLAAC: true}, 1, "fe80::ff:fe00:1/64")
	w.run(30 * time.Minute)
	var asked int
	for _, f := range a.sent {
		var p ip.Packet
		var m ip.NDP
		if ip.Parse(f, len(f), &p) == nil && ip.ParseNDP(&p, f[p.L4Off:], &m) == nil && m.Type == ip.RouterSolicitation {
			asked++
			if p.Dst != allRouters || p.DstMAC != [6]byte{0x33, 0x33, 0, 0, 0, 2} || m.HasMAC == p.Src.IsUnspecified() {
				t.Errorf("asked by %+v, %+v", p, m)
			}
		}
	}
	if asked < 6 || asked > 12 {
		t.Errorf("%d solicitations in 30 minutes without a router", asked)
	}
	w.hear(a, advert{from: 9, lifetime: 1800, options: [][]byte{
		prefixOption("fd00::/64", both, 3600*5, 3600), mtuOption(1400), dnsOption(600, "fd00::53", "fe80::53")}})
	want := fmt.Sprint(Learned{
		Routes: []Route{{Dst: netip.MustParsePrefix("fd00::/64")}, {netip.MustParsePrefix("::/0"), routerAddr(9)}},
		DNS:    []netip.Addr{netip.MustParseAddr("fd00::53"), netip.MustParseAddr("fe80::53")}, MTU: 1400})
	if !a.has(auto) || fmt.Sprint(a.learnt) != want {
		t.Fatalf("state %v, learned %v, want %v", a.state, a.learnt, want)
	}
	if a.Resolve(routerAddr(9), w.now); a.known[routerAddr(9)] != mac(9) {
		t.Error("the router's link-layer address is not heard")
	}
	sent := len(a.sent)
	w.run(11 * time.Minute)
	if len(a.learnt.DNS) != 0 || len(a.learnt.Routes) != 2 {
		t.Errorf("after the name servers' lifetime: %v", a.learnt)
	}
	w.run(20 * time.Minute)
	if len(a.learnt.Routes) != 1 {
		t.Errorf("after the router's lifetime: %v", a.learnt)
	}
	if len(a.sent) == sent {
		t.Error("nobody asks for another router")
	}
	w.run(30 * time.Minute)
	if !slices.Contains(a.old, auto) || !a.has(auto) {
		t.Errorf("after the preferred lifetime: %v, %v", a.old, a.state)
	}
	// Four hours are left. An advertisement that ends the prefix leaves two.
	w.hear(a, advert{from: 9, lifetime: 1800, options: [][]byte{prefixOption("fd00::/64", both, 0, 0)}})
	w.run(119 * time.Minute)
	if !a.has(auto) {
		t.Error("a forged advertisement takes the address away")
	}
	w.run(2 * time.Minute)
	if a.has(auto) || len(a.own) != 1 {
		t.Errorf("after two hours: %v", a.state)
	}
	// It comes back, preferred again, and lives on by new advertisements.
	for range 5 {
		w.hear(a, advert{from: 9, lifetime: 1800, options: [][]byte{prefixOption("fd00::/64", both, 7200, 3600)}})
		w.run(time.Hour - time.Minute)
		if !a.has(auto) || slices.Contains(a.old, auto) {
			t.Fatalf("advertised again: %v, %v", a.state, a.old)
		}
	}
}

// TestSLAACTaken: an address that another host has is not ours.
func TestSLAACTaken(t *testing.T) {
	w := new(wire)
	b := w.join(2, true, auto.String()+"/64")
	w.run(10 * time.Second)
	a := w.joinSLAAC()
	for range 3 {
		w.hear(a, advert{from: 9, lifetime: 1800, options: [][]byte{prefixOption("fd00::/64", both, 7200, 3600)}})
	}
	if !errors.Is(a.state[auto], ErrDuplicate) || b.state[auto] != nil || a.ours(auto) != nil {
		t.Errorf("state %v, the owner's %v", a.state, b.state)
	}
	// A prefix that is not kept for the link's sake is not tried at each message either.
	w = new(wire)
	w.join(2, true, auto.String()+"/64")
	a = w.joinSLAAC()
	alone := advert{from: 9, lifetime: 1800, options: [][]byte{prefixOption("fd00::/64", 0x40, 7200, 3600)}}
	for range 3 {
		w.hear(a, alone)
	}
	if n := a.Counters().Conflicts; n != 1 {
		t.Errorf("%d conflicts of one address", n)
	}
	w.run(2 * time.Hour)
	if w.hear(a, alone); a.Counters().Conflicts != 2 {
		t.Error("not tried again after two hours")
	}
}

// TestSLAACContradiction: routers that contradict each other about an address are news
// once a second, and the last one counts (attack 22).
func TestSLAACContradiction(t *testing.T) {
	w := new(wire)
	a := w.joinSLAAC()
	say := func(preferred uint32) {
		f := advert{from: 9, lifetime: 1800, options: [][]byte{prefixOption("fd00::/64", both, 7200, preferred)}}
		a.Input(f.frame(), w.now)
		w.run(time.Millisecond)
	}
	for i := range 3000 {
		say(uint32(i%2) * 3600)
	}
	if a.turns > 4 {
		t.Errorf("%d times news in 3 s", a.turns)
	}
	for _, old := range []bool{true, false} {
		if old {
			say(0)
		} else {
			say(3600)
		}
		if w.run(2 * time.Second); slices.Contains(a.old, auto) != old || !a.has(auto) {
			t.Errorf("deprecated: %v, want %t; state %v", a.old, old, a.state)
		}
	}
}

// TestSLAACRouters: the router with the higher preference is taken, by prefix too; one
// that does not answer is left for another until it advertises again, and one that
// resigns at once.
func TestSLAACRouters(t *testing.T) {
	w := new(wire)
	a := w.joinSLAAC()
	const low, high = 3, 1
	w.hear(a, advert{from: 7, lifetime: 1800, flags: low << 3, options: [][]byte{routeOption("2001:db8::/32", high, 1800), routeOption("2001:db9::/32", low, 60)}})
	w.hear(a, advert{from: 8, lifetime: 1800, options: [][]byte{routeOption("2001:db8::/32", 0, 1800)}})
	via := func(dst string) netip.Addr {
		for _, r := range a.learnt.Routes {
			if r.Dst == netip.MustParsePrefix(dst) {
				return r.Via
			}
		}
		return netip.Addr{}
	}
	if via("::/0") != routerAddr(8) || via("2001:db8::/32") != routerAddr(7) || via("2001:db9::/32") != routerAddr(7) {
		t.Errorf("learned %v", a.learnt)
	}
	w.run(time.Minute)
	if via("2001:db9::/32").IsValid() {
		t.Error("a route stays beyond its lifetime")
	}
	a.Resolve(routerAddr(8), w.now) // nobody is there
	a.inUse[routerAddr(8)] = true
	w.run(time.Minute)
	if via("::/0") != routerAddr(7) {
		t.Errorf("the router does not answer, and is used: %v", a.learnt)
	}
	w.hear(a, advert{from: 8, lifetime: 1800})
	if via("::/0") != routerAddr(8) {
		t.Errorf("the router is back, and not used: %v", a.learnt)
	}
	w.hear(a, advert{from: 8, lifetime: 0})
	if via("::/0") != routerAddr(7) {
		t.Errorf("the router resigned, and is used: %v", a.learnt)
	}
}

// TestSLAACRefuses: prefixes and messages that break a rule make no address, and a host
// that does not ask for them none at all.
func TestSLAACRefuses(t *testing.T) {
	good := prefixOption("fd00::/64", both, 7200, 3600)
	for _, c := range []struct {
		name string
		opt  []byte
	}{
		{"not autonomous", prefixOption("fd00::/64", 0x80, 7200, 3600)},
		{"another length", prefixOption("fd00::/48", both, 7200, 3600)},
		{"link-local", prefixOption("fe80::/64", both, 7200, 3600)},
		{"a group's", prefixOption("ff02::/64", both, 7200, 3600)},
		{"preferred for longer than valid", prefixOption("fd00::/64", both, 60, 3600)},
		{"ended", prefixOption("fd00::/64", both, 0, 0)},
		{"an empty option behind it", append(slices.Clone(good), 3, 0, 0, 0, 0, 0, 0, 0)},
	} {
		w := new(wire)
		a := w.joinSLAAC()
		if w.hear(a, advert{from: 9, lifetime: 1800, options: [][]byte{c.opt}}); len(a.own) != 1 {
			t.Errorf("%s: %v", c.name, a.state)
		}
	}
	w := new(wire)
	a := w.join(1, true, "fe80::ff:fe00:1/64")
	if w.hear(a, advert{from: 9, lifetime: 1800, options: [][]byte{good}}); len(a.own) != 1 || a.lessons != 0 {
		t.Errorf("not asked for: %v, %v", a.state, a.learnt)
	}
}

// TestSLAACFlood: forged routers and prefixes fill no memory, and are news once a second
// (attack 22).
func TestSLAACFlood(t *testing.T) {
	w := new(wire)
	a := w.joinSLAAC()
	before := a.lessons
	for i := range 3000 {
		p := fmt.Sprintf("fd00:%x::/64", i+1)
		f := advert{from: byte(i), lifetime: uint16(i%2) * 1800, options: [][]byte{
			prefixOption(p, both, 7200, 3600), routeOption(p, 0, uint32(i%3)), dnsOption(uint32(i%2), fmt.Sprintf("fd00::%x", i+1))}}
		a.Input(f.frame(), w.now)
		w.run(time.Millisecond)
		a.sent = nil
	}
	s := a.slaac
	if len(s.routers) > mostRouters || len(s.prefixes) > mostPrefixes || len(a.own) > mostPrefixes+1 || len(s.dns) > mostServers {
		t.Errorf("%d routers, %d prefixes, %d addresses, %d name servers", len(s.routers), len(s.prefixes), len(a.own), len(s.dns))
	}
	if n := a.lessons - before; n > 5 {
		t.Errorf("%d times news in 3 s", n)
	}
}

// FuzzSLAAC: no sequence of advertisements makes the host panic, grow without bound, or
// send more than a few frames for each.
func FuzzSLAAC(f *testing.F) {
	f.Add(uint16(1800), prefixOption("fd00::/64", both, 7200, 3600), uint32(1))
	f.Add(uint16(0), append(routeOption("fd00::/48", 3, 1<<32-1), routeOption("::/0", 1, 60)...), uint32(1<<20))
	f.Add(uint16(1), append(dnsOption(1<<32-1, "fd00::53"), mtuOption(1280)...), uint32(1<<31))
	f.Add(uint16(65535), append(prefixOption("::/0", 0x80, 1<<32-1, 0), prefixOption("fd00::/64", both, 1<<32-1, 1<<32-1)...), uint32(60000))
	f.Fuzz(func(t *testing.T, lifetime uint16, options []byte, step uint32) {
		w := new(wire)
		a := w.joinAs(Config{NoDAD: true, SLAAC: true}, 1, "fe80::ff:fe00:1/64")
		for i := range 4 {
			a.sent = nil
			a.Input(advert{from: byte(2 + i%2), lifetime: lifetime, flags: byte(step), options: [][]byte{options}}.frame(), w.now)
			if len(a.sent) > 4*mostPrefixes {
				t.Fatalf("%d frames for one", len(a.sent))
			}
			w.run(time.Duration(step) * time.Millisecond)
		}
		s := a.slaac
		if len(s.routers) > 2 || len(s.prefixes) > mostPrefixes || len(a.own) > mostPrefixes+1 || len(s.dns) > mostServers || len(a.mld.members) > mostPrefixes+1 {
			t.Errorf("%d routers, %d prefixes, %d addresses, %d name servers, %d groups", len(s.routers), len(s.prefixes), len(a.own), len(s.dns), len(a.mld.members))
		}
	})
}
