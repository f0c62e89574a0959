package ip

import (
	"net/netip"
	"testing"
)

// TestRouterOptions: routes (RFC 4191, 2.3) and name servers (RFC 8106, 5.1) of a router
// advertisement are read, those that break a rule passed over.
func TestRouterOptions(t *testing.T) {
	router, all := netip.MustParseAddr("fe80::1"), netip.MustParseAddr("ff02::1")
	addr := netip.MustParseAddr("2001:db8::").AsSlice()
	opt := func(b ...byte) []byte { return b }
	route := func(n, bits, flags byte) []byte {
		return append(opt(24, n, bits, flags, 0, 0, 0, 9), append(addr, addr...)[:int(n-1)*8]...)
	}
	for _, c := range []struct {
		name string
		opt  []byte
		want int // routes and name servers
		pref int8
	}{
		{"high", route(2, 32, 1<<3), 1, 1},
		{"low", route(3, 128, 3<<3), 1, -1},
		{"default", route(1, 0, 0), 1, 0},
		{"reserved preference", route(2, 32, 2<<3), 0, 0},
		{"too short for its prefix", route(2, 65, 0), 0, 0},
		{"too long", route(4, 64, 0), 0, 0},
		{"no such prefix", route(3, 129, 0), 0, 0},
		{"servers", append(opt(25, 5, 0, 0, 0, 0, 0, 9), append(addr, addr...)...), 2, 0},
		{"half a server", append(opt(25, 2, 0, 0, 0, 0, 0, 9), addr[:8]...), 0, 0},
		{"a group", append(opt(25, 3, 0, 0, 0, 0, 0, 9), all.AsSlice()...), 0, 0},
	} {
		m := append([]byte{RouterAdvertisement, 0, 0, 0, 64, 3 << 3, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0}, c.opt...)
		var h Header
		h.Init([6]byte{2}, [6]byte{0x33, 0x33, 0, 0, 0, 1}, 0, router, all, ProtoICMPv6, 0, 255)
		f := make([]byte, h.Len())
		h.Put(f, len(m), 0, 0)
		var p Packet
		var n NDP
		if err := Parse(append(f, m...), len(f)+len(m), &p); err != nil {
			t.Fatal(err)
		}
		if err := ParseNDP(&p, m, &n); err != nil || n.RA.Preference != -1 || n.RA.NRoutes+n.RA.NDNS != c.want || n.RA.Routes[0].Preference != c.pref {
			t.Errorf("%s: %v, %+v", c.name, err, n.RA)
		}
	}
}
