package neigh

import (
	"net/netip"
	"slices"
	"testing"
)

// TestRadvd: radvd answers our solicitation, and what it advertises is ours.
func TestRadvd(t *testing.T) {
	p := kernelPair(t)
	p.B.Radvd(t, `	AdvDefaultPreference high;
	AdvLinkMTU 1400;
	prefix fd00::/64 { };
	route 2001:db8::/32 { AdvRoutePreference low; };
	RDNSS fd00::2 { };`)
	l := goLiveAs(t, Config{SLAAC: true}, p.A, mac(9), "fe80::ff:fe00:9/64")
	us := InterfaceID(netip.MustParsePrefix("fd00::/64"), mac(9))
	l.eventually(t, "an address", func() bool { return l.has(us) })
	var got Learned
	l.do(func(int64) { got = l.learnt })
	if len(got.Routes) != 3 || got.MTU != 1400 || !slices.Equal(got.DNS, []netip.Addr{netip.MustParseAddr("fd00::2")}) {
		t.Errorf("learned %+v", got)
	}
	for _, r := range got.Routes {
		if (r.Dst.Bits() == 64) == r.Via.IsValid() || r.Via.IsValid() && r.Via != p.B.LinkLocal {
			t.Errorf("route %+v", r)
		}
	}
	pingUntil(t, p.B, us)
	l.do(func(now int64) { l.Resolve(p.B.LinkLocal, now) })
	l.eventually(t, "the router is a neighbour", func() bool { return l.known[p.B.LinkLocal] == kernelMAC(t, p) })
}
