package neigh

import (
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// TestLeasedAndConfigured: an address that is configured, and that a server gives too, is
// not ours while another host has it, by neither way; when that host has gone, the lease
// makes it ours.
func TestLeasedAndConfigured(t *testing.T) {
	w := new(wire)
	s := serve(t, w, 2, "10.0.0.100", "10.0.0.101")
	w.join(3, true, "10.0.0.100/24")
	w.run(10 * time.Second)
	a := w.joinAs(Config{DHCP: true}, 1, "10.0.0.100/24")
	w.run(time.Minute)
	if !errors.Is(a.state[leased], ErrDuplicate) || !s.bad[leased.String()] || !a.has(leased.Next()) {
		t.Errorf("state %v, declined %v", a.state, s.bad)
	}

	w = new(wire)
	s = serve(t, w, 2, "10.0.0.100")
	s.dead = true
	b := w.join(3, true, "10.0.0.100/24")
	w.run(10 * time.Second)
	a = w.joinAs(Config{DHCP: true}, 1, "10.0.0.100/24")
	w.run(10 * time.Second)
	if !errors.Is(a.state[leased], ErrDuplicate) {
		t.Fatalf("state %v", a.state)
	}
	b.deaf, s.dead = true, false
	c := w.join(4, true, "10.0.0.4/24")
	w.run(2 * time.Minute)
	c.Resolve(leased, w.now)
	w.run(time.Second)
	if !a.has(leased) || c.known[leased] != mac(1) {
		t.Errorf("state %v, a neighbour knows %v", a.state, c.known)
	}
}

// TestMTU6: a server's MTU that IPv6 does not allow is IPv6's least on a link that has
// IPv6, and is taken on one that has not.
func TestMTU6(t *testing.T) {
	for _, c := range []struct {
		addrs []string
		slaac bool
		want  int
	}{
		{nil, false, 600},
		{[]string{"fe80::ff:fe00:1/64"}, false, 1280},
		{nil, true, 1280},
	} {
		w := new(wire)
		s := serve(t, w, 2, "10.0.0.100")
		s.opts = append(s.opts, dhcpv4.OptGeneric(dhcpv4.OptionInterfaceMTU, []byte{600 >> 8, 600 & 255}))
		a := w.joinAs(Config{DHCP: true, SLAAC: c.slaac}, 1, c.addrs...)
		if w.run(10 * time.Second); !a.has(leased) || a.learnt.MTU != c.want {
			t.Errorf("%+v: the MTU is %d", c, a.learnt.MTU)
		}
	}
}

// TestSLAACDisplaced: forged routers that fill the list give way to another one when they
// do not answer; those that answer, or were not asked yet, do not.
func TestSLAACDisplaced(t *testing.T) {
	w := new(wire)
	a := w.joinSLAAC()
	for i := range mostRouters {
		w.hear(a, advert{from: byte(20 + i), lifetime: 1800})
	}
	honest := advert{from: 9, lifetime: 1800}
	listed := func() bool {
		return slices.ContainsFunc(a.slaac.routers, func(r *router) bool { return r.addr == routerAddr(9) })
	}
	if w.hear(a, honest); listed() {
		t.Fatal("a router is displaced of which nobody knows whether it answers")
	}
	first := a.slaac.routers[0].addr
	a.Resolve(first, w.now)
	a.inUse[first] = true
	w.run(time.Minute)
	if w.hear(a, honest); !listed() || len(a.slaac.routers) != mostRouters {
		t.Errorf("%d routers, the real one among them: %v", len(a.slaac.routers), listed())
	}
}

// TestSLAACTakenElsewhere: an address that another host has is tried again when the link
// was down, since another link may have come up.
func TestSLAACTakenElsewhere(t *testing.T) {
	w := new(wire)
	b := w.join(2, true, auto.String()+"/64")
	w.run(10 * time.Second)
	a := w.joinSLAAC()
	prefix := advert{from: 9, lifetime: 1800, options: [][]byte{prefixOption("fd00::/64", both, 7200, 3600)}}
	if w.hear(a, prefix); a.has(auto) {
		t.Fatalf("state %v", a.state)
	}
	b.deaf = true
	if w.hear(a, prefix); a.has(auto) {
		t.Fatalf("tried at once: state %v", a.state)
	}
	a.LinkUp(w.now)
	if w.hear(a, prefix); !a.has(auto) {
		t.Errorf("on another link: state %v", a.state)
	}
}

// TestSLAACStill: a host to whom nothing happens builds no news at its timers.
func TestSLAACStill(t *testing.T) {
	w := new(wire)
	a := w.joinSLAAC()
	w.hear(a, advert{from: 9, lifetime: 1800, options: [][]byte{prefixOption("fd00::/64", both, 7200, 3600), dnsOption(600, "fd00::53")}})
	w.run(10 * time.Second)
	if a.slaac.dirty || !slices.Contains(a.learnt.DNS, netip.MustParseAddr("fd00::53")) {
		t.Fatalf("dirty %v, learned %v", a.slaac.dirty, a.learnt)
	}
	if n := testing.AllocsPerRun(10, func() { a.slaac.advance(w.now) }); n > 0 {
		t.Errorf("%v allocations at a timer", n)
	}
}
