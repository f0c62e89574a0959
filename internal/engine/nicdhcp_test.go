package engine

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/onload-go/onload/internal/control"
)

// until waits until fn reports true.
func until(t *testing.T, what string, fn func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !fn(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("a minute passed without: " + what)
		}
	}
}

// TestNICDHCP: a NIC without a kernel gets its address, routes, MTU and name servers from
// dnsmasq, and talks to the kernel behind it; when the link was down and is up again the
// server confirms the lease; it goes back with Close.
func TestNICDHCP(t *testing.T) {
	p, dev := kernelWire(t)
	log := p.B.Dnsmasq(t, "--port=53", "--address=/server.test/10.0.0.2", "--dhcp-range=10.0.0.100,10.0.0.100,1h",
		"--dhcp-option=option:router,10.0.0.2", "--dhcp-option=option:dns-server,10.0.0.2", "--dhcp-option=option:mtu,1300")
	e := nicEngine(t, dev, "fd00::1/64 dhcp dns fd00::53")
	if err := e.ifs[0].Err; err != nil {
		t.Fatal(err)
	}
	us := netip.MustParseAddr("10.0.0.100")
	if _, ok := e.static.Local(us); !ok {
		t.Fatalf("the links are %v", e.static.Links())
	}
	if dns := e.NameServers(); len(dns) != 2 || dns[1] != netip.MustParseAddr("10.0.0.2") {
		t.Errorf("name servers %v", dns)
	}
	if l, _ := e.static.Link(e.ifs[0].Index); l.MTU != 1300 {
		t.Errorf("the MTU is %d", l.MTU)
	}
	l, err := p.B.Listen("tcp", ":7")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go echoAll(l)
	if err := p.B.AddAddr(netip.MustParsePrefix("198.51.100.1/32")); err != nil {
		t.Fatal(err)
	}
	for _, to := range []string{"10.0.0.2:7", "198.51.100.1:7", "[fd00::2]:7"} { // the second by the gateway
		c, err := dialNIC(e, netip.MustParseAddrPort(to))
		if err != nil {
			t.Fatalf("%s: %v", to, err)
		}
		roundTrip(t, c)
	}
	echoPort(t, e, 9)
	in, err := p.B.Dial("tcp", "10.0.0.100:9")
	if err != nil {
		t.Fatal(err)
	}
	roundTrip(t, in)
	acks := strings.Count(log.String(), "DHCPACK")
	dev.SetLink(false)
	until(t, "the link is down", func() bool { l, _ := e.static.Link(e.ifs[0].Index); return !l.Up })
	dev.SetLink(true)
	until(t, "the server confirms the lease", func() bool { return strings.Count(log.String(), "DHCPACK") > acks })
	c, err := dialNIC(e, netip.MustParseAddrPort("10.0.0.2:7"))
	if err != nil {
		t.Fatal(err)
	}
	roundTrip(t, c)
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	until(t, "the lease is given back", func() bool { return strings.Contains(log.String(), "DHCPRELEASE") })
}

// TestNICServers: where no server answers within the limit the error says so, unless the
// link has an address without it.
func TestNICServers(t *testing.T) {
	limit := make(chan struct{})
	close(limit)
	link := control.Link{Index: control.FirstStatic, Name: nicName, MTU: 1500, Up: true, Static: true}
	h := newLinkHost(link, &staticLink{dhcp: true}, control.NewStatic(), zap.NewNop())
	h.asks[wordDHCP] = true
	if err := h.wait(limit); err == nil || !strings.Contains(err.Error(), "(dhcp)") {
		t.Errorf("without an address: %v", err)
	}
	h.Address(netip.MustParsePrefix("fe80::1/64"), link.MAC, nil)
	if err := h.wait(limit); err == nil {
		t.Error("a link-local address is enough")
	}
	h.pending[netip.MustParseAddr("fd00::1")] = true
	h.Address(netip.MustParsePrefix("fd00::1/64"), link.MAC, nil)
	if err := h.wait(limit); err != nil {
		t.Errorf("with a configured address: %v", err)
	}
	h.Address(netip.MustParsePrefix("10.0.0.1/24"), link.MAC, nil)
	select {
	case <-h.settled:
	default:
		t.Error("the server has given an address, and is waited for")
	}
}
