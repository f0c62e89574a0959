package control

import (
	"net/netip"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/onload-go/onload/internal/allocs"
)

func TestStatic(t *testing.T) {
	l := Link{Index: 3, Name: "sim0", MAC: [6]byte{2, 1}, MTU: 9000, Up: true, Carrier: true, Addrs: []netip.Prefix{prefix("10.0.0.1/24"), prefix("fd00::1/64"), prefix("fe80::1/64")}}
	s := NewStatic(l)
	defer s.Close()
	r := record(t, s)
	check := func(dst string, want Route, wantErr error) {
		t.Helper()
		got, err := s.Route(Flow{Dst: addr(dst)})
		if err != wantErr || got != want {
			t.Errorf("%s: %+v, %v", dst, got, err)
		}
	}
	on := func(src, next string) Route { return Route{Link: 3, MTU: 9000, Src: addr(src), NextHop: addr(next)} }
	check("10.0.0.7", on("10.0.0.1", "10.0.0.7"), nil)
	check("fd00::7", on("fd00::1", "fd00::7"), nil)
	check("fe80::7%sim0", on("fe80::1", "fe80::7"), nil)
	check("fe80::7%3", on("fe80::1", "fe80::7"), nil)
	check("fe80::7%other", Route{}, syscall.ENODEV)
	check("192.0.2.1", Route{}, syscall.ENETUNREACH)
	b := on("10.0.0.1", "10.0.0.255")
	b.Broadcast = true
	check("10.0.0.255", b, nil)
	me := on("10.0.0.1", "10.0.0.1")
	me.Local = true
	check("10.0.0.1", me, nil)
	group := on("10.0.0.1", "224.0.0.251")
	group.Multicast = true
	if got, err := s.Route(Flow{Dst: addr("224.0.0.251"), Src: addr("10.0.0.1")}); err != nil || got != group {
		t.Errorf("multicast: %+v, %v", got, err)
	}

	gen := s.Gen()
	s.AddRoute(StaticRoute{Dst: prefix("0.0.0.0/0"), Link: 3, Gateway: addr("10.0.0.254"), MTU: 1500})
	if s.Gen() == gen || !r.has(Change{Kind: RouteChanged}) {
		t.Error("a new route is no change")
	}
	far := on("10.0.0.1", "10.0.0.254")
	far.MTU = 1500
	check("192.0.2.1", far, nil)
	s.DelRoute(prefix("0.0.0.0/0"))
	check("192.0.2.1", Route{}, syscall.ENETUNREACH)

	s.SetNeighbor(3, addr("10.0.0.7"), [6]byte{2, 7})
	if mac, ok := s.Neighbor(3, addr("10.0.0.7")); !ok || mac != [6]byte{2, 7} || !r.has(Change{NeighborUp, 3, addr("10.0.0.7")}) {
		t.Errorf("neighbour %v, %v", mac, ok)
	}
	gen = s.Gen()
	s.SetNeighbor(3, addr("10.0.0.7"), [6]byte{2, 7})
	if s.Gen() != gen {
		t.Error("nothing new, but Gen moved")
	}
	s.FailNeighbor(3, addr("10.0.0.7"))
	if _, ok := s.Neighbor(3, addr("10.0.0.7")); ok || !r.has(Change{NeighborFailed, 3, addr("10.0.0.7")}) {
		t.Error("failed neighbour is still there")
	}
	s.Resolve(3, addr("10.0.0.8"))
	r.want(t, Change{NeighborFailed, 3, addr("10.0.0.8")})

	l.Up = false
	s.SetLink(l)
	check("10.0.0.7", Route{}, syscall.ENETUNREACH)
	s.DelLink(3)
	if _, ok := s.Link(3); ok || !r.has(Change{Kind: LinkGone, Link: 3}) || !r.has(Change{AddrRemoved, 3, addr("fd00::1")}) {
		t.Error("deleted link")
	}
}

func TestSubscribe(t *testing.T) {
	s := NewStatic()
	var n atomic.Int32
	cancel := s.Subscribe(func(Change) { n.Add(1) })
	s.SetNeighbor(1, addr("10.0.0.1"), [6]byte{1})
	if n.Load() != 1 {
		t.Fatalf("%d calls", n.Load())
	}
	cancel()
	s.FailNeighbor(1, addr("10.0.0.1"))
	if n.Load() != 1 {
		t.Fatal("called after cancel")
	}
}

// The data path's questions must not allocate.
func TestReadsDoNotAllocate(t *testing.T) {
	s := NewStatic(Link{Index: 1, Name: "a", MTU: 1500, Up: true, Addrs: []netip.Prefix{prefix("10.0.0.1/24"), prefix("fd00::1/64")}})
	s.SetNeighbor(1, addr("10.0.0.2"), [6]byte{2})
	four, six := addr("10.0.0.2"), addr("fd00::2")
	n := allocs.PerRun(100, func() {
		s.Gen()
		s.Neighbor(1, four)
		s.Local(four)
		s.Confirm(1, four)
		s.Route(Flow{Dst: four})
		s.Route(Flow{Dst: six})
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestStaticDeprecated: a deprecated address is not chosen as the source while there is
// another one of its scope (RFC 6724, 5, rule 3).
func TestStaticDeprecated(t *testing.T) {
	old, young := netip.MustParseAddr("fd00::1"), netip.MustParseAddr("fd00::2")
	s := NewStatic(Link{Index: 1, Name: "nic0", Up: true, MTU: 1500, Addrs: []netip.Prefix{netip.PrefixFrom(old, 64), netip.PrefixFrom(young, 64)}})
	defer s.Close()
	s.SetRoutes(1, []StaticRoute{{Dst: netip.MustParsePrefix("::/0"), Gateway: netip.MustParseAddr("fd00::9")}})
	for _, c := range []struct {
		deprecate bool
		want      netip.Addr
	}{{false, old}, {true, young}, {false, old}} {
		s.Deprecate(old, c.deprecate)
		r, err := s.Route(Flow{Dst: netip.MustParseAddr("2001:db8::1")})
		if err != nil || r.Src != c.want {
			t.Errorf("deprecated %v: from %v, %v, want %v", c.deprecate, r.Src, err, c.want)
		}
	}
	s.SetRoutes(1, nil)
	if _, err := s.Route(Flow{Dst: netip.MustParseAddr("2001:db8::1")}); err == nil {
		t.Error("the routes are still there")
	}
}
