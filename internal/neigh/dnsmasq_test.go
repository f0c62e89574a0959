package neigh

import (
	"net/netip"
	"strings"
	"testing"
	"time"
)

// TestDnsmasq: dnsmasq gives a lease, prolongs it, hears that an address is another
// host's, and gets it back.
func TestDnsmasq(t *testing.T) {
	p := kernelPair(t)
	// Another host on our end of the wire has the address that dnsmasq offers first.
	taken, next := netip.MustParseAddr("10.0.0.100"), netip.MustParseAddr("10.0.0.101")
	other := goLiveAs(t, Config{NoDAD: true}, p.A, mac(8), "10.0.0.100/24")
	other.eventually(t, "the other host has its address", func() bool { return other.has(taken) })
	log := p.B.Dnsmasq(t, "--port=0", "--dhcp-range=10.0.0.100,10.0.0.101,2m", "--dhcp-host=02:00:00:00:00:09,10.0.0.100", "--dhcp-authoritative",
		"--dhcp-option=option:router,10.0.0.2", "--dhcp-option=option:dns-server,10.0.0.2", "--dhcp-option=option:mtu,1400",
		"--dhcp-option=option:classless-static-route,10.9.0.0/16,10.0.0.2,0.0.0.0/0,10.0.0.2")
	l := goLiveAs(t, Config{DHCP: true}, p.A, mac(9))
	l.eventually(t, "the other host's address is declined", func() bool { return strings.Contains(log.String(), "DHCPDECLINE") })
	// The Host waits 10 s before it asks again. Its clock is the test's.
	l.do(func(int64) { l.start = l.start.Add(-10 * time.Second) })
	l.eventually(t, "a lease", func() bool { return l.has(next) })
	if l.has(taken) {
		t.Error("the other host's address is ours too")
	}
	var got Learned
	l.do(func(int64) { got = l.learnt })
	if len(got.Routes) != 2 || got.Routes[0].Dst.String() != "10.9.0.0/16" || len(got.DNS) != 1 || got.MTU != 1400 {
		t.Errorf("learned %+v", got)
	}
	pingUntil(t, p.B, next)
	acks := strings.Count(log.String(), "DHCPACK")
	l.do(func(int64) { l.start = l.start.Add(-time.Minute) }) // T1 is at about a minute
	l.eventually(t, "more time is given", func() bool { return strings.Count(log.String(), "DHCPACK") > acks })
	l.eventually(t, "the client has it", func() bool { return l.dhcp.state == dhcpBound })
	l.do(func(now int64) { l.Close(now) })
	l.eventually(t, "the lease is given back", func() bool { return strings.Contains(log.String(), "DHCPRELEASE") })
}
