package control

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/lab"
)

// routed is a namespace with two links and many routes.
func routed(t *testing.T, rng *rand.Rand) *lab.NS {
	t.Helper()
	p := lab.NewPair(t, lab.Options{})
	second, _, err := lab.Veth(p.A, p.B, lab.Options{MTU: 1400})
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range []string{"10.77.1.9/24", "192.168.9.1/28", "2001:db8:1::5/64", "fd77:0:0:1::9/64"} {
		if err := second.AddAddr(prefix(a)); err != nil {
			t.Fatal(err)
		}
	}
	nl := p.A.Netlink()
	add := func(r netlink.Route) {
		t.Helper()
		// Two random routes may be the same one.
		if err := nl.RouteAdd(&r); err != nil && bare(err) != syscall.EEXIST {
			t.Fatalf("%v: %v", r, err)
		}
	}
	gateways := [2][2]netip.Addr{
		{addr("10.77.0.2"), addr("10.77.1.2")},
		{addr("fd77::2"), addr("fd77:0:0:1::2")},
	}
	links := [2]int{p.A.Index, second.Index}
	for f := range 2 {
		for range 150 {
			a := randomAddr(rng, f)
			pre, _ := a.Prefix(a.BitLen()/2 - 16*f + rng.IntN(16+8*f))
			pick := rng.IntN(2)
			r := netlink.Route{Dst: toIPNet(pre), LinkIndex: links[pick], Gw: gateways[f][pick].AsSlice(), Priority: 1 + rng.IntN(3)}
			switch rng.IntN(10) {
			case 0, 1:
				r.Gw, r.LinkIndex = nil, 0
				r.Type = []int{unix.RTN_UNREACHABLE, unix.RTN_PROHIBIT, unix.RTN_BLACKHOLE, unix.RTN_THROW}[rng.IntN(4)]
			case 2:
				r.MTU = 1280 + rng.IntN(100)
			case 3:
				r.Gw = nil
				if f == 0 {
					r.Scope = unix.RT_SCOPE_LINK
				}
			case 4:
				r.Src = addr("10.77.0.1").AsSlice()
				if f == 1 {
					r.Src = addr("2001:db8:1::5").AsSlice()
				}
			}
			add(r)
		}
	}
	// A default route of each family, and better ones that end nowhere.
	add(netlink.Route{Dst: toIPNet(prefix("0.0.0.0/0")), LinkIndex: links[0], Gw: gateways[0][0].AsSlice(), Priority: 100})
	add(netlink.Route{Dst: toIPNet(prefix("::/0")), LinkIndex: links[1], Gw: gateways[1][1].AsSlice(), Priority: 100})
	add(netlink.Route{Dst: toIPNet(prefix("20.9.0.0/16")), Type: unix.RTN_UNREACHABLE, Priority: 5})
	return p.A
}

func toIPNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// randomAddr draws from a small part of the address space, so that prefixes
// nest.
func randomAddr(rng *rand.Rand, f int) netip.Addr {
	if f == 0 {
		return netip.AddrFrom4([4]byte{20, byte(rng.IntN(8)), byte(rng.IntN(256)), byte(rng.IntN(256))})
	}
	b := [16]byte{0x26, 0, byte(rng.IntN(2)), byte(rng.IntN(4)), byte(rng.IntN(2)), byte(rng.IntN(256)), byte(rng.IntN(256)), 15: byte(rng.IntN(256))}
	return netip.AddrFrom16(b)
}

// compare holds the mirror's answer against the kernel's.
func compare(t *testing.T, k *Kernel, ns *lab.NS, dst netip.Addr) {
	t.Helper()
	got, gotErr := k.Route(Flow{Dst: dst})
	o := &netlink.RouteGetOptions{}
	if dst.Zone() != "" {
		o.Oif = dst.Zone()
	}
	list, err := ns.Netlink().RouteGetWithOptions(dst.WithZone("").AsSlice(), o)
	if err != nil {
		if gotErr != bare(err) {
			t.Errorf("%v: mirror says %+v %v, kernel %v", dst, got, gotErr, err)
		}
		return
	}
	want := list[0]
	if gotErr != nil {
		t.Errorf("%v: mirror says %v, kernel %v", dst, gotErr, want)
		return
	}
	src, _ := netip.AddrFromSlice(want.Src)
	next, _ := netip.AddrFromSlice(want.Gw)
	if !next.IsValid() {
		next = dst.WithZone("")
	}
	switch {
	case got.Local != (want.Type == unix.RTN_LOCAL || want.Type == unix.RTN_ANYCAST),
		got.Broadcast != (want.Type == unix.RTN_BROADCAST),
		got.Src != src.Unmap(),
		!got.Local && got.Link != want.LinkIndex,
		!got.Local && got.NextHop != next.Unmap(),
		want.MTU != 0 && got.MTU != want.MTU:
		t.Errorf("%v: mirror says %+v, kernel %v", dst, got, want)
	}
}

func TestRouteAsKernel(t *testing.T) {
	lab.NeedRoot(t)
	rng := rand.New(rand.NewPCG(1, 2))
	ns := routed(t, rng)
	k := newKernel(t, ns)
	dsts := []netip.Addr{
		addr("10.77.0.1"), addr("10.77.0.2"), addr("10.77.0.255"), addr("10.77.1.7"), addr("192.168.9.3"), addr("192.168.9.15"),
		addr("127.0.0.1"), addr("127.1.2.3"), addr("255.255.255.255"), addr("224.0.0.251"), addr("8.8.8.8"), addr("20.9.1.1"),
		addr("::1"), addr("fd77::1"), addr("fd77::2"), addr("fd77:0:0:1::77"), addr("2001:db8:1::99"), addr("2001:4860::8888"),
		ns.LinkLocal.Next().WithZone("veth0"), ns.LinkLocal.Next().WithZone("veth1"), addr("ff02::1%veth1"), addr("ff02::1%veth0"),
		ns.Zoned(), addr("fe80::77%veth1"),
	}
	for f := range 2 {
		for range 1000 {
			dsts = append(dsts, randomAddr(rng, f))
		}
	}
	all := func() {
		t.Helper()
		for _, d := range dsts {
			compare(t, k, ns, d)
		}
	}
	if v := k.view.Load(); v.ask != [2]bool{} {
		t.Fatal("the kernel would be asked")
	}
	all()
	if t.Failed() {
		t.FailNow()
	}

	// With a policy rule the kernel is asked, and the answers are the same.
	rule := netlink.NewRule()
	rule.Src, rule.Table, rule.Priority, rule.Family = toIPNet(prefix("192.0.2.0/24")), 77, 100, unix.AF_INET
	rule6 := netlink.NewRule()
	rule6.Src, rule6.Table, rule6.Priority, rule6.Family = toIPNet(prefix("2001:db8:77::/48")), 77, 100, unix.AF_INET6
	for _, r := range []*netlink.Rule{rule, rule6} {
		if err := ns.Netlink().RuleAdd(r); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "rules seen", func() bool { return k.view.Load().ask == [2]bool{true, true} })
	all()

	// Its answers do not outlive a change of routes, which only the kernel knows.
	dst := addr("20.9.1.1")
	if _, err := k.Route(Flow{Dst: dst}); err != syscall.EHOSTUNREACH {
		t.Fatalf("before: %v", err)
	}
	if err := ns.AddRoute(prefix("20.9.1.0/24"), addr("10.77.0.2")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "new route", func() bool { r, err := k.Route(Flow{Dst: dst}); return err == nil && r.NextHop == addr("10.77.0.2") })
	if r, err := k.Route(Flow{Dst: dst, Src: addr("10.77.1.9")}); err != nil || r.Src != addr("10.77.1.9") {
		t.Fatalf("with a source: %+v, %v", r, err)
	}
	for _, r := range []*netlink.Rule{rule, rule6} {
		if err := ns.Netlink().RuleDel(r); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "rules gone", func() bool { return k.view.Load().ask == [2]bool{} })
	all()
}

func TestMultipath(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	second, peer, err := lab.Veth(p.A, p.B, lab.Options{})
	if err != nil {
		t.Fatal(err)
	}
	k := newKernel(t, p.A)
	for _, c := range []struct {
		dst    netip.Prefix
		g0, g1 netip.Addr
	}{
		{prefix("20.0.0.0/8"), p.B.Addr4, peer.Addr4},
		{prefix("2600::/16"), p.B.Addr6, peer.Addr6},
	} {
		err := p.A.Netlink().RouteAdd(&netlink.Route{Dst: toIPNet(c.dst), MultiPath: []*netlink.NexthopInfo{
			{LinkIndex: p.A.Index, Gw: c.g0.AsSlice(), Hops: 2},
			{LinkIndex: second.Index, Gw: c.g1.AsSlice()},
		}})
		if err != nil {
			t.Fatal(err)
		}
		count := func() map[netip.Addr]int {
			n := map[netip.Addr]int{}
			a := c.dst.Addr()
			for range 1000 {
				a = a.Next()
				r, err := k.Route(Flow{Dst: a})
				if err != nil {
					t.Fatal(err)
				}
				if again, _ := k.Route(Flow{Dst: a}); again != r {
					t.Fatal("the choice is not stable")
				}
				n[r.NextHop]++
			}
			return n
		}
		eventually(t, "route", func() bool { _, err := k.Route(Flow{Dst: c.dst.Addr().Next()}); return err == nil })
		if n := count(); n[c.g0] < 650 || n[c.g0] > 850 || n[c.g0]+n[c.g1] != 1000 {
			t.Errorf("weights 3 to 1 gave %v", n)
		}
	}
	if err := second.SetDown(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "second link down", func() bool { l, _ := k.Link(second.Index); return !l.Up })
	for i := range 50 {
		r, err := k.Route(Flow{Dst: netip.AddrFrom4([4]byte{20, 0, 0, byte(i)})})
		if err != nil || r.NextHop != p.B.Addr4 {
			t.Fatalf("with one link down: %+v, %v", r, err)
		}
	}
}

// An address stays ours while its link is down: packets to it do not leave by
// the default route.
func TestLocalOnDownLink(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	second, _, err := lab.Veth(p.A, p.B, lab.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.A.AddRoute(prefix("0.0.0.0/0"), p.B.Addr4); err != nil {
		t.Fatal(err)
	}
	own := addr("10.9.0.1")
	if err := second.AddAddr(prefix("10.9.0.1/24")); err != nil {
		t.Fatal(err)
	}
	if err := second.SetDown(); err != nil {
		t.Fatal(err)
	}
	k := newKernel(t, p.A)
	if l, ok := k.Link(second.Index); !ok || l.Up {
		t.Fatalf("%+v", l)
	}
	compare(t, k, p.A, own)
	compare(t, k, p.A, addr("10.9.0.2"))
	if r, err := k.Route(Flow{Dst: own}); !r.Local || err != nil {
		t.Errorf("%+v, %v", r, err)
	}
}

// Nexthop objects are what modern routing daemons install.
func TestNexthopObject(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	k := newKernel(t, p.A)
	err := p.A.Do(func() error {
		// ip nexthop add id 7 via B dev veth0 (struct nhmsg is 8 bytes)
		hop := nl.NewNetlinkRequest(unix.RTM_NEWNEXTHOP, unix.NLM_F_CREATE|unix.NLM_F_EXCL|unix.NLM_F_ACK)
		hop.AddRawData([]byte{unix.AF_INET, 0, unix.RTPROT_STATIC, 0, 0, 0, 0, 0})
		hop.AddRawData(nl.NewRtAttr(unix.NHA_ID, nl.Uint32Attr(7)).Serialize())
		hop.AddRawData(nl.NewRtAttr(unix.NHA_OIF, nl.Uint32Attr(uint32(p.A.Index))).Serialize())
		hop.AddRawData(nl.NewRtAttr(unix.NHA_GATEWAY, p.B.Addr4.AsSlice()).Serialize())
		if _, err := hop.Execute(unix.NETLINK_ROUTE, 0); err != nil {
			return fmt.Errorf("nexthop: %w", err)
		}
		// ip route add 20.0.0.0/8 nhid 7
		route := nl.NewNetlinkRequest(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_EXCL|unix.NLM_F_ACK)
		msg := nl.NewRtMsg()
		msg.Family, msg.Dst_len = unix.AF_INET, 8
		route.AddData(msg)
		route.AddData(nl.NewRtAttr(unix.RTA_DST, []byte{20, 0, 0, 0}))
		route.AddData(nl.NewRtAttr(30 /* RTA_NH_ID */, nl.Uint32Attr(7)))
		_, err := route.Execute(unix.NETLINK_ROUTE, 0)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "route by nexthop object", func() bool {
		r, err := k.Route(Flow{Dst: addr("20.1.1.1")})
		return err == nil && r.NextHop == p.B.Addr4
	})
	// RFC 5549: IPv4 by an IPv6 gateway.
	err = p.A.Netlink().RouteAdd(&netlink.Route{
		Dst: toIPNet(prefix("30.0.0.0/8")), LinkIndex: p.A.Index,
		Via: &netlink.Via{AddrFamily: unix.AF_INET6, Addr: p.B.LinkLocal.AsSlice()},
	})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "IPv4 by an IPv6 gateway", func() bool {
		r, err := k.Route(Flow{Dst: addr("30.1.1.1")})
		return err == nil && r.NextHop == p.B.LinkLocal && r.Src == p.A.Addr4
	})
}

func TestSource6(t *testing.T) {
	// Examples in the manner of RFC 6724, section 10.1.
	v := newView()
	v.addLink(Link{Index: 1, Name: "out", MTU: 1500, Up: true})
	v.addLink(Link{Index: 2, Name: "other", MTU: 1500, Up: true})
	for _, a := range []struct {
		link       int
		p          string
		deprecated bool
	}{
		{1, "fe80::1/64", false}, {1, "2001:db8:1::1/64", false}, {1, "2001:db8:2::1/64", true}, {1, "fd00::1/64", false},
		{2, "2001:db8:3::1/64", false}, {2, "fe80::2/64", false}, {2, "2002:c633:6401::1/48", false},
	} {
		v.addAddr(a.link, address{Prefix: prefix(a.p), deprecated: a.deprecated})
	}
	for _, c := range []struct{ dst, want, why string }{
		{"2001:db8:1::9", "2001:db8:1::1", "longest prefix"},
		{"2001:db8:2::9", "2001:db8:1::1", "the better match is deprecated"},
		{"2001:db8:3::9", "2001:db8:1::1", "the outgoing link beats the longer prefix"},
		{"fd00::9", "fd00::1", "label"},
		{"fe80::9", "fe80::1", "scope"},
		{"ff02::1", "fe80::1", "scope of a multicast group"},
		{"ff0e::1", "2001:db8:1::1", "global group"},
		{"2001:db8:3::1", "2001:db8:3::1", "the same address"},
	} {
		if got := v.source6(addr(c.dst), 1); got != addr(c.want) {
			t.Errorf("to %s: %v, want %s (%s)", c.dst, got, c.want, c.why)
		}
	}
}

func BenchmarkRoute(b *testing.B) {
	s := NewStatic(Link{Index: 1, Name: "a", MTU: 1500, Up: true, Addrs: []netip.Prefix{prefix("10.0.0.1/24")}})
	s.AddRoute(StaticRoute{Dst: prefix("0.0.0.0/0"), Link: 1, Gateway: addr("10.0.0.2")})
	dst := addr("8.8.8.8")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Route(Flow{Dst: dst}); err != nil {
			b.Fatal(err)
		}
	}
}

// This kernel may lack 802.1Q, so the conversion is tested by itself.
func TestConvertLinkVLAN(t *testing.T) {
	v := &netlink.Vlan{
		LinkAttrs: netlink.LinkAttrs{Index: 5, Name: "eth0.7", ParentIndex: 2, MTU: 1496, HardwareAddr: []byte{2, 0, 0, 0, 0, 1}, RawFlags: unix.IFF_UP | unix.IFF_LOWER_UP},
		VlanId:    7,
	}
	l := convertLink(v)
	want := Link{Index: 5, Name: "eth0.7", MAC: [6]byte{2, 0, 0, 0, 0, 1}, MTU: 1496, Up: true, Carrier: true, Kind: "vlan", Parent: 2, VLAN: 7}
	if fmt.Sprintf("%+v", l) != fmt.Sprintf("%+v", want) {
		t.Errorf("%+v\nwant %+v", l, want)
	}
	// We write no 802.1ad tags, so we must not take such a link for ours.
	v.VlanProtocol = netlink.VLAN_PROTOCOL_8021AD
	if l := convertLink(v); l.VLAN != 0 {
		t.Errorf("802.1ad: %+v", l)
	}
}

// A full routing table is not copied: the kernel is asked, and says the same.
func TestManyRoutes(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	k := newKernel(t, p.A)
	start := time.Now()
	for i := range maxRoutes {
		dst := netip.PrefixFrom(netip.AddrFrom4([4]byte{30, byte(i >> 16), byte(i >> 8), byte(i)}), 32)
		if err := p.A.AddRoute(dst, p.B.Addr4); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d routes added in %v", maxRoutes, time.Since(start))
	eventually(t, "mirror gives up", func() bool { return k.view.Load().ask == [2]bool{true, false} })
	last := netip.AddrFrom4([4]byte{30, 0, byte((maxRoutes - 1) >> 8), byte((maxRoutes - 1) & 255)})
	for range 3 { // the cache answers the second time
		if r, err := k.Route(Flow{Dst: last}); err != nil || r.NextHop != p.B.Addr4 || r.Src != p.A.Addr4 {
			t.Errorf("%+v, %v", r, err)
		}
	}
	if _, err := k.Route(Flow{Dst: last, Src: p.B.Addr4}); err != syscall.EADDRNOTAVAIL {
		t.Errorf("foreign source: %v", err)
	}
	if r, err := k.Route(Flow{Dst: p.A.Addr4}); err != nil || !r.Local {
		t.Errorf("to ourselves: %+v, %v", r, err)
	}
	if err := p.A.DelRoute(netip.PrefixFrom(last, 32), p.B.Addr4); err != nil {
		t.Fatal(err)
	}
	eventually(t, "answer withdrawn", func() bool { _, err := k.Route(Flow{Dst: last}); return err == syscall.ENETUNREACH })
	for _, d := range []netip.Addr{last.Prev(), addr("10.77.0.255"), p.B.Addr6} {
		compare(t, k, p.A, d)
	}
}
