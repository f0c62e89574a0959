package neigh

import (
	"net/netip"
	"os/exec"
	"strings"
	"testing"

	"github.com/onload-go/onload/internal/lab"
)

// TestBridgeLearns: a bridge of the kernel's that snoops and asks for members knows our
// groups, those of solicited nodes among them, and that we leave one.
func TestBridgeLearns(t *testing.T) {
	p := lab.NewPair(t, lab.Options{NoAddr: true})
	if err := p.A.Sysctl("net.ipv6.conf."+p.A.If+".disable_ipv6", "1"); err != nil {
		t.Fatal(err)
	}
	br, err := p.B.Bridge("br0", p.B.Link)
	if err != nil {
		t.Fatal(err)
	}
	for _, set := range [][]string{{"mcast_snooping", "1"}, {"mcast_querier", "1"}, {"mcast_igmp_version", "3"}, {"mcast_mld_version", "2"}} {
		args := append([]string{"link", "set", br.If, "type", "bridge"}, set...)
		if out, err := p.B.Command("ip", args...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v, %s", args, err, out)
		}
	}
	if _, err := exec.LookPath("bridge"); err != nil {
		t.Fatal(err) // of iproute2, which has ip too
	}
	known := func() string {
		out, err := p.B.Command("bridge", "mdb", "show").CombinedOutput()
		if err != nil {
			t.Fatalf("%v, %s", err, out)
		}
		return string(out)
	}
	l := goLiveAs(t, Config{}, p.A, mac(9), "10.0.0.1/24", "fe80::ff:fe00:9/64")
	groups := []netip.Addr{netip.MustParseAddr("239.1.1.1"), netip.MustParseAddr("ff05::77")}
	l.do(func(now int64) {
		for _, g := range groups {
			l.SetFilter(g, Filter{}, now)
		}
	})
	for _, g := range append(groups, netip.MustParseAddr("ff02::1:ff00:9")) {
		l.eventually(t, "the bridge knows "+g.String(), func() bool { return strings.Contains(known(), "grp "+g.String()+" ") })
	}
	l.do(func(now int64) {
		for _, g := range groups {
			l.SetFilter(g, Filter{Include: true}, now)
		}
	})
	for _, g := range groups {
		l.eventually(t, "the bridge forgets "+g.String(), func() bool { return !strings.Contains(known(), "grp "+g.String()+" ") })
	}
}
