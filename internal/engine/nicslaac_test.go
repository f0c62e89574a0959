package engine

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/onload-go/onload/internal/neigh"
)

// TestNICSLAAC: a NIC without a kernel takes its address, routes, MTU and name servers
// from radvd, and talks to the kernel behind it, also by the router.
func TestNICSLAAC(t *testing.T) {
	p, dev := kernelWire(t)
	p.B.Radvd(t, "\tAdvLinkMTU 1400;\n\tprefix fd00::/64 { };\n\tRDNSS fd00::2 { };")
	e := nicEngine(t, dev, "slaac")
	if err := e.ifs[0].Err; err != nil {
		t.Fatal(err)
	}
	us := neigh.InterfaceID(netip.MustParsePrefix("fd00::/64"), dev.mac)
	if _, ok := e.static.Local(us); !ok {
		t.Fatalf("the links are %v", e.static.Links())
	}
	until(t, "the name server and the MTU", func() bool {
		l, _ := e.static.Link(e.ifs[0].Index)
		return slices.Equal(e.NameServers(), []netip.Addr{netip.MustParseAddr("fd00::2")}) && l.MTU == 1400
	})
	if err := p.B.AddAddr(netip.MustParsePrefix("2001:db8::1/128")); err != nil {
		t.Fatal(err)
	}
	l, err := p.B.Listen("tcp", ":7")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go echoAll(l)
	for _, to := range []string{"[fd00::2]:7", "[2001:db8::1]:7"} {
		c, err := dialNIC(e, netip.MustParseAddrPort(to))
		if err != nil {
			t.Fatalf("%s: %v", to, err)
		}
		roundTrip(t, c)
	}
	echoPort(t, e, 9)
	in, err := p.B.Dial("tcp", netip.AddrPortFrom(us, 9).String())
	if err != nil {
		t.Fatal(err)
	}
	roundTrip(t, in)
}
