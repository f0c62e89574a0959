package control

import (
	"os"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/lab"
	"github.com/onload-go/onload/ip"
)

// twoLinks is a namespace with a second link, 10.77.1.9/24 and fd77:0:0:1::9/64.
func twoLinks(t *testing.T) (ns *lab.NS, second int) {
	t.Helper()
	p := lab.NewPair(t, lab.Options{})
	l, _, err := lab.Veth(p.A, p.B, lab.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range []string{"10.77.1.9/24", "fd77:0:0:1::9/64"} {
		if err := l.AddAddr(prefix(a)); err != nil {
			t.Fatal(err)
		}
	}
	return p.A, l.Index
}

// setSysctl writes a setting of the namespace.
func setSysctl(t *testing.T, ns *lab.NS, name, value string) {
	t.Helper()
	if err := ns.Do(func() error { return os.WriteFile("/proc/sys/net/"+name, []byte(value), 0) }); err != nil {
		t.Fatal(err)
	}
}

// TestRulesOfFlows: rules may ask for protocol, ports and TOS, and end a flow with
// an error.
func TestRulesOfFlows(t *testing.T) {
	ns, second := twoLinks(t)
	k := newKernel(t, ns)
	nl := ns.Netlink()
	dst := addr("203.0.113.5")
	route := func(table int, link int, gw string) {
		t.Helper()
		if err := nl.RouteAdd(&netlink.Route{Table: table, LinkIndex: link, Gw: addr(gw).AsSlice()}); err != nil {
			t.Fatal(err)
		}
	}
	route(unix.RT_TABLE_MAIN, ns.Index, "10.77.0.2")
	route(100, second, "10.77.1.2")
	rule := func(set func(*netlink.Rule)) {
		t.Helper()
		r := netlink.NewRule()
		r.Family, r.Priority, r.Table = unix.AF_INET, 50, 100
		set(r)
		if err := nl.RuleAdd(r); err != nil {
			t.Fatal(err)
		}
	}
	if k.PortsMatter(dst) {
		t.Error("ports matter without a rule")
	}
	rule(func(r *netlink.Rule) { r.IPProto, r.Dport = unix.IPPROTO_TCP, netlink.NewRulePortRange(9000, 9000) })
	rule(func(r *netlink.Rule) { r.IPProto, r.Sport = unix.IPPROTO_UDP, netlink.NewRulePortRange(53, 54) })
	rule(func(r *netlink.Rule) { r.Tos = 0x10 })
	rule(func(r *netlink.Rule) {
		r.IPProto, r.Dport, r.Type, r.Table = unix.IPPROTO_TCP, netlink.NewRulePortRange(9001, 9001), unix.RTN_BLACKHOLE, 0
	})
	rule(func(r *netlink.Rule) {
		r.IPProto, r.Dport, r.Type, r.Table = unix.IPPROTO_UDP, netlink.NewRulePortRange(53, 53), unix.RTN_PROHIBIT, 0
	})
	eventually(t, "the rules are known", func() bool {
		_, err := k.Route(Flow{Dst: dst, Proto: ip.ProtoUDP, DstPort: 53})
		return err == syscall.EACCES
	})
	if !k.PortsMatter(dst) || k.PortsMatter(addr("2001:db8::1")) {
		t.Error("ports matter for IPv4 only")
	}
	for _, c := range []struct {
		f    Flow
		link int
		err  error
	}{
		{Flow{Proto: ip.ProtoTCP, DstPort: 9000}, second, nil},
		{Flow{Proto: ip.ProtoTCP, DstPort: 8999}, ns.Index, nil},
		{Flow{Proto: ip.ProtoUDP, DstPort: 9000}, ns.Index, nil},
		{Flow{Proto: ip.ProtoUDP, SrcPort: 54, DstPort: 9000}, second, nil},
		{Flow{Proto: ip.ProtoTCP, TOS: 0x10}, second, nil},
		{Flow{Proto: ip.ProtoTCP, TOS: 0x13}, second, nil},
		{Flow{Proto: ip.ProtoTCP, TOS: 0x20}, ns.Index, nil},
		{Flow{Proto: ip.ProtoTCP, DstPort: 9001}, 0, syscall.EINVAL},
		{Flow{Proto: ip.ProtoUDP, DstPort: 53}, 0, syscall.EACCES},
	} {
		c.f.Dst = dst
		if r, err := k.Route(c.f); r.Link != c.link || err != c.err {
			t.Errorf("%+v: link %d, %v, want %d, %v", c.f, r.Link, err, c.link, c.err)
		}
	}
}

// TestHashPolicyFollowed: a multipath route chooses by ports as soon as the
// setting says so, which no notice tells.
func TestHashPolicyFollowed(t *testing.T) {
	ns, second := twoLinks(t)
	err := ns.Netlink().RouteAdd(&netlink.Route{Dst: toIPNet(prefix("0.0.0.0/0")), MultiPath: []*netlink.NexthopInfo{
		{LinkIndex: ns.Index, Gw: addr("10.77.0.2").AsSlice()}, {LinkIndex: second, Gw: addr("10.77.1.2").AsSlice()},
	}})
	if err != nil {
		t.Fatal(err)
	}
	k := newKernel(t, ns)
	dst := addr("203.0.113.5")
	links := func() map[int]bool {
		m := map[int]bool{}
		for port := range uint16(64) {
			r, err := k.Route(Flow{Dst: dst, Proto: ip.ProtoTCP, SrcPort: 1000 + port, DstPort: 80})
			if err != nil {
				t.Fatal(err)
			}
			m[r.Link] = true
		}
		return m
	}
	if m := links(); len(m) != 1 || k.PortsMatter(dst) {
		t.Errorf("with hash policy 0: links %v", m)
	}
	setSysctl(t, ns, "ipv4/fib_multipath_hash_policy", "1")
	eventually(t, "ports matter", func() bool { return k.PortsMatter(dst) })
	if m := links(); len(m) != 2 {
		t.Errorf("with hash policy 1: links %v", m)
	}
	setSysctl(t, ns, "ipv4/fib_multipath_hash_policy", "0")
	eventually(t, "ports matter no more", func() bool { return !k.PortsMatter(dst) })
}

// TestMetrics: those of a route from the snapshot and from the kernel's answer are
// the same.
func TestMetrics(t *testing.T) {
	ns, _ := twoLinks(t)
	out, err := ns.Command("ip", "route", "add", "203.0.113.0/24", "via", "10.77.0.2", "mtu", "lock", "1400", "advmss", "1000",
		"initcwnd", "20", "initrwnd", "2", "window", "10000", "hoplimit", "7", "congctl", "reno", "features", "ecn", "quickack", "1").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	k := newKernel(t, ns)
	f := Flow{Dst: addr("203.0.113.5"), Src: ns.Addr4, Proto: ip.ProtoTCP}
	want := Route{Link: ns.Index, Src: ns.Addr4, NextHop: addr("10.77.0.2"), MTU: 1400, Metrics: Metrics{
		MTULocked: true, AdvMSS: 1000, InitCwnd: 20, InitRwnd: 2, Window: 10000, HopLimit: 7, Congestion: "reno", ECN: true, QuickAck: true,
	}}
	if r, err := k.Route(f); err != nil || r != want {
		t.Errorf("snapshot: %+v, %v, want %+v", r, err, want)
	}
	// A rule that nothing matches has the kernel asked.
	r := netlink.NewRule()
	r.Family, r.Priority, r.Table, r.Mark = unix.AF_INET, 50, 100, 7
	if err := ns.Netlink().RuleAdd(r); err != nil {
		t.Fatal(err)
	}
	want.SrcMatters = true
	eventually(t, "the kernel is asked", func() bool { r, _ := k.Route(f); return r.SrcMatters })
	if r, err := k.Route(f); err != nil || r != want {
		t.Errorf("kernel: %+v, %v, want %+v", r, err, want)
	}
}

// TestNexthopReplaced: a nexthop object may be replaced under its routes, which
// the kernel announces for the object only where nexthop_compat_mode is 0.
func TestNexthopReplaced(t *testing.T) {
	for _, compat := range []string{"0", "1"} {
		ns, second := twoLinks(t)
		setSysctl(t, ns, "ipv4/nexthop_compat_mode", compat)
		run := func(args ...string) {
			t.Helper()
			if out, err := ns.Command("ip", args...).CombinedOutput(); err != nil {
				t.Fatalf("ip %v: %v: %s", args, err, out)
			}
		}
		run("nexthop", "add", "id", "7", "via", "10.77.0.2", "dev", ns.If)
		run("route", "add", "203.0.113.0/24", "nhid", "7")
		k := newKernel(t, ns)
		f := Flow{Dst: addr("203.0.113.5"), Proto: ip.ProtoTCP}
		if r, err := k.Route(f); err != nil || r.Link != ns.Index || r.NextHop != addr("10.77.0.2") {
			t.Errorf("compat mode %s: %+v, %v", compat, r, err)
		}
		gen := k.Gen()
		run("nexthop", "replace", "id", "7", "via", "10.77.1.2", "dev", "veth1")
		eventually(t, "the nexthop is followed", func() bool {
			r, err := k.Route(f)
			return err == nil && r.Link == second && r.NextHop == addr("10.77.1.2")
		})
		eventually(t, "a notice of the replacement, compat mode "+compat, func() bool { return k.Gen() != gen })
	}
}
