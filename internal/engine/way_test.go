package engine

import (
	"net/netip"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/zap"

	"github.com/onload-go/onload/driver/sim"
	"github.com/onload-go/onload/internal/control"
	"github.com/onload-go/onload/internal/stack"
	"github.com/onload-go/onload/ip"
)

// mixed returns an engine with an interface that a kernel stands behind (kern,
// 10.0.1.1), a VLAN on it (10.0.5.1), one without a kernel (bare, 10.0.2.1), and
// one that could not be opened (broken, 10.0.3.1); a link of the kernel's alone
// has 10.0.4.1. rest says that the kernel carries what is of no interface.
func mixed(t *testing.T, rest bool) *Engine {
	t.Helper()
	link := func(index int, name, addr string) control.Link {
		return control.Link{Index: index, Name: name, MTU: 1500, Up: true, Carrier: true,
			Addrs: []netip.Prefix{netip.MustParsePrefix(addr)}}
	}
	vlan := link(5, "kern.7", "10.0.5.1/24")
	vlan.VLAN, vlan.Parent = 7, 1
	e := newEngine(Config{Logger: zap.NewNop()})
	e.rest = rest
	e.net = control.NewStatic(link(1, "kern", "10.0.1.1/24"), link(2, "bare", "10.0.2.1/24"), link(3, "broken", "10.0.3.1/24"),
		link(4, "other", "10.0.4.1/24"), vlan)
	for _, i := range []*Interface{{Name: "kern", Index: 1, Kernel: true}, {Name: "bare", Index: 2}} {
		dev, peer, err := sim.New(sim.Config{Name: i.Name}, sim.Config{Name: "peer"}, sim.LinkConfig{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { peer.Close() })
		c := e.stackConfig()
		c.Over(i.Index, dev)
		s, err := stack.New(c)
		if err != nil {
			t.Fatal(err)
		}
		i.Stacks, i.Device = []*stack.Stack{s}, dev
		e.ifs = append(e.ifs, i)
	}
	e.ifs = append(e.ifs, &Interface{Name: "broken", Index: 3, Kernel: true, Err: syscall.EBUSY})
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

// TestWay: who carries a connection, why, and whether the kernel could.
func TestWay(t *testing.T) {
	const none = ""
	engines := map[bool]*Engine{true: mixed(t, true), false: mixed(t, false)} // by rest
	for _, tt := range []struct {
		f             Family
		local, remote string // local may be empty
		by, why       string
		kernel        bool  // could carry it
		err           error // where nothing is the kernel's but what an interface says
	}{
		{AnyFamily, "", "10.0.1.2:80", "kern", none, true, nil},
		{IPv4, "10.0.1.1:0", "10.0.1.2:80", "kern", none, true, nil},
		{AnyFamily, "0.0.0.0:0", "10.0.1.2:80", "kern", none, true, nil},
		{AnyFamily, "", "10.0.2.2:80", "bare", none, false, nil},
		{AnyFamily, "", "10.0.5.2:80", "kern", none, true, nil},
		{AnyFamily, "10.0.1.1:0", "10.0.5.2:80", "kern", none, true, nil},
		{AnyFamily, "10.0.2.1:0", "10.0.1.2:80", none, "the local address is of another interface", true, nil},
		{AnyFamily, "10.0.1.1:0", "10.0.2.2:80", none, "the local address is of another interface", false, syscall.ENETUNREACH},
		{AnyFamily, "10.0.4.1:0", "10.0.1.2:80", none, "interface other is not accelerated", true, nil},
		{AnyFamily, "", "10.0.3.2:80", none, "broken: device or resource busy", true, nil},
		// Traffic of no interface is the kernel's, or nobody's.
		{AnyFamily, "", "10.0.4.2:80", none, "interface other is not accelerated", true, syscall.ENETUNREACH},
		{AnyFamily, "", "10.0.1.1:80", none, thisHost, true, syscall.ENETUNREACH},
		{AnyFamily, "", "10.0.1.255:80", none, "a broadcast address", true, syscall.ENETUNREACH},
		{AnyFamily, "", "0.0.0.0:80", none, thisHost, true, syscall.ENETUNREACH},
		{AnyFamily, "", "172.16.0.1:80", none, "no route", true, syscall.ENETUNREACH},
		{AnyFamily, "10.9.9.9:0", "10.0.1.2:80", none, "no route", true, syscall.EADDRNOTAVAIL},
		{AnyFamily, "", "[fe80::1%kern]:80", none, zoned, true, syscall.ENETUNREACH},
	} {
		for rest, e := range engines {
			var local netip.AddrPort
			if tt.local != "" {
				local = netip.MustParseAddrPort(tt.local)
			}
			w, err := e.Way(tt.f, Traffic{Proto: ip.ProtoTCP}, local, netip.MustParseAddrPort(tt.remote))
			kernel, want := tt.kernel, tt.err
			if rest && kernel {
				want = nil
			} else if !rest && want != nil {
				kernel = false
			}
			by := none
			if w.Stack != nil {
				by = w.Stack.Name()
			}
			if by != tt.by || w.Kernel != kernel || err != want || !strings.Contains(w.Why, tt.why) || (w.Why == none) != (tt.why == none) {
				t.Errorf("%+v, rest %v: by %q, %q, kernel %v, %v", tt, rest, by, w.Why, w.Kernel, err)
			}
			if by != none && (w.Route.Gen != e.net.Gen() || !w.Route.Src.IsValid()) {
				t.Errorf("%+v: route %+v", tt, w.Route)
			}
		}
	}
}

// TestWayInvalid: addresses that cannot be are refused by the kernel, in its
// words, where there is one.
func TestWayInvalid(t *testing.T) {
	e := mixed(t, true)
	for _, tt := range []struct {
		f             Family
		local, remote string
	}{
		{IPv4, "", "[fd00::1]:80"}, {IPv6, "", "10.0.1.2:80"}, {IPv4, "[::]:0", "10.0.1.2:80"},
		{AnyFamily, "[fd00::1]:0", "10.0.1.2:80"}, {AnyFamily, "", "10.0.1.2:0"},
	} {
		var local netip.AddrPort
		if tt.local != "" {
			local = netip.MustParseAddrPort(tt.local)
		}
		w, err := e.Way(tt.f, Traffic{Proto: ip.ProtoTCP}, local, netip.MustParseAddrPort(tt.remote))
		if w.Stack != nil || w.Why != invalidAddresses || !w.Kernel || err != nil {
			t.Errorf("%+v: %+v, %v", tt, w, err)
		}
	}
	if w, err := e.Invalid(); w.Why != invalidAddresses || !w.Kernel || err != nil {
		t.Errorf("%+v, %v", w, err)
	}
	if w, err := mixed(t, false).Invalid(); w.Kernel || err != syscall.EINVAL {
		t.Errorf("%+v, %v", w, err)
	}
}

// TestShards: where a bound socket receives, and whether the kernel has a part
// of it.
func TestShards(t *testing.T) {
	engines := map[bool]*Engine{true: mixed(t, true), false: mixed(t, false)} // by rest
	for _, tt := range []struct {
		f        Family
		addr     string // empty: unset
		on, why  string
		at       string
		twin     bool // where the kernel carries the rest
		twinBare bool // where it does not
	}{
		{AnyFamily, "10.0.1.1", "kern", "", "10.0.1.1", true, true},
		{AnyFamily, "10.0.2.1", "bare", "", "10.0.2.1", false, false},
		{AnyFamily, "10.0.5.1", "kern", "", "10.0.5.1", true, true},
		{AnyFamily, "10.0.3.1", "", "broken: device or resource busy", "10.0.3.1", true, true},
		{AnyFamily, "10.0.4.1", "", "interface other is not accelerated", "10.0.4.1", true, false},
		{AnyFamily, "10.9.9.9", "", "the address is not ours", "10.9.9.9", true, false},
		{AnyFamily, "fe80::1%kern", "", zoned, "fe80::1%kern", true, false},
		{AnyFamily, "", "kern bare", "", "", true, false},
		{AnyFamily, "0.0.0.0", "kern bare", "", "", true, false},
		{IPv4, "0.0.0.0", "kern bare", "", "0.0.0.0", true, false},
		{IPv6, "", "kern bare", "", "::", true, false},
	} {
		for rest, e := range engines {
			var addr, at netip.Addr
			if tt.addr != "" {
				addr = netip.MustParseAddr(tt.addr)
			}
			if tt.at != "" {
				at = netip.MustParseAddr(tt.at)
			}
			sh := e.Shards(tt.f, addr)
			var on []string
			for _, s := range sh.Stacks {
				on = append(on, s.Name())
			}
			if got := strings.Join(on, " "); got != tt.on || sh.Why != tt.why || sh.Addr != at {
				t.Errorf("%+v: on %q, %q, at %v", tt, got, sh.Why, sh.Addr)
			}
			want := tt.twin
			if !rest {
				want = tt.twinBare
			}
			if got := e.Twin(addr); got != want {
				t.Errorf("%+v, rest %v: twin %v", tt, rest, got)
			}
		}
	}
}
