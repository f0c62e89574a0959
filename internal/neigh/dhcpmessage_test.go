package neigh

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// classless is the option of RFC 3442 that such routes make: destination, then router.
func classless(routes ...string) dhcpv4.Option {
	var l []*dhcpv4.Route
	for i := 0; i < len(routes); i += 2 {
		_, dst, _ := net.ParseCIDR(routes[i])
		l = append(l, &dhcpv4.Route{Dest: dst, Router: net.ParseIP(routes[i+1])})
	}
	return dhcpv4.OptClasslessStaticRoute(l...)
}

// TestDHCPRoutes: classless routes replace the router; a gateway outside of the subnet
// is on the link.
func TestDHCPRoutes(t *testing.T) {
	for _, c := range []struct {
		name string
		mask int
		opts []dhcpv4.Option
		want string
	}{
		{"router", 24, nil, "[{0.0.0.0/0 10.0.0.254}]"},
		{"classless", 24, []dhcpv4.Option{classless("10.9.0.0/16", "10.0.0.3", "0.0.0.0/0", "10.0.0.4")}, "[{10.9.0.0/16 10.0.0.3} {0.0.0.0/0 10.0.0.4}]"},
		{"on the link", 24, []dhcpv4.Option{classless("10.9.0.0/16", "0.0.0.0")}, "[{10.9.0.0/16 invalid IP}]"},
		{"a cloud's", 32, []dhcpv4.Option{classless("10.128.0.1/32", "0.0.0.0", "0.0.0.0/0", "10.128.0.1")}, "[{10.128.0.1/32 invalid IP} {0.0.0.0/0 10.128.0.1}]"},
		{"another cloud's", 32, nil, "[{10.0.0.254/32 invalid IP} {0.0.0.0/0 10.0.0.254}]"},
		{"by ourselves", 24, []dhcpv4.Option{dhcpv4.OptRouter(net.IP{10, 0, 0, 100})}, "[]"},
		{"by nobody", 24, []dhcpv4.Option{dhcpv4.OptRouter(net.IP{127, 0, 0, 1})}, "[]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := new(wire)
			s := serve(t, w, 2, "10.0.0.100")
			s.opts = append(s.opts, dhcpv4.OptSubnetMask(net.CIDRMask(c.mask, 32)))
			s.opts = append(s.opts, c.opts...)
			a := w.joinAs(Config{DHCP: true}, 1)
			w.run(5 * time.Second)
			if got := fmt.Sprint(a.learnt.Routes); !a.has(leased) || got != c.want {
				t.Errorf("routes %s, want %s", got, c.want)
			}
		})
	}
}

// TestDHCPForged: messages that no server of this transaction sends give no lease, nor
// do leases that no host can use.
func TestDHCPForged(t *testing.T) {
	for _, c := range []struct {
		name  string
		forge func(m *dhcpv4.DHCPv4) []byte
	}{
		{"another transaction", func(m *dhcpv4.DHCPv4) []byte { m.TransactionID[0]++; return m.ToBytes() }},
		{"another client's", func(m *dhcpv4.DHCPv4) []byte { m.ClientHWAddr = net.HardwareAddr{2, 0, 0, 0, 0, 9}; return m.ToBytes() }},
		{"a client's message", func(m *dhcpv4.DHCPv4) []byte { m.OpCode = dhcpv4.OpcodeBootRequest; return m.ToBytes() }},
		{"no server", func(m *dhcpv4.DHCPv4) []byte { delete(m.Options, 54); return m.ToBytes() }},
		{"no address", func(m *dhcpv4.DHCPv4) []byte { m.YourIPAddr = nil; return m.ToBytes() }},
		{"a group's address", func(m *dhcpv4.DHCPv4) []byte { m.YourIPAddr = net.IP{224, 0, 0, 1}; return m.ToBytes() }},
		{"a short lease", func(m *dhcpv4.DHCPv4) []byte {
			m.UpdateOption(dhcpv4.OptIPAddressLeaseTime(time.Second))
			return m.ToBytes()
		}},
		{"no lease time", func(m *dhcpv4.DHCPv4) []byte { delete(m.Options, 51); return m.ToBytes() }},
		{"mask with holes", func(m *dhcpv4.DHCPv4) []byte {
			m.UpdateOption(dhcpv4.OptSubnetMask(net.IPMask{255, 0, 255, 0}))
			return m.ToBytes()
		}},
		{"cut", func(m *dhcpv4.DHCPv4) []byte { return m.ToBytes()[:200] }},
		{"an option beyond the end", func(m *dhcpv4.DHCPv4) []byte { return append(m.ToBytes()[:240], 53, 200, 2) }},
		{"a field of options beyond its end", func(m *dhcpv4.DHCPv4) []byte {
			m.UpdateOption(dhcpv4.OptGeneric(dhcpv4.OptionOptionOverload, []byte{1}))
			m.BootFileName = "\x06\xff"
			return m.ToBytes()
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := new(wire)
			s := serve(t, w, 2, "10.0.0.100")
			s.asIs = c.forge
			a := w.joinAs(Config{DHCP: true}, 1)
			w.run(time.Minute)
			if len(a.own) != 0 || len(a.state) != 0 {
				t.Errorf("state %v", a.state)
			}
		})
	}
}

// TestDHCPOverload: options may continue in the fields of the boot file and of the
// server's name (RFC 2132, 9.3).
func TestDHCPOverload(t *testing.T) {
	w := new(wire)
	s := serve(t, w, 2, "10.0.0.100")
	s.asIs = func(m *dhcpv4.DHCPv4) []byte {
		delete(m.Options, 3)
		delete(m.Options, 6)
		m.UpdateOption(dhcpv4.OptGeneric(dhcpv4.OptionOptionOverload, []byte{3}))
		m.BootFileName = "\x03\x04\x0a\x00\x00\x09\xff"
		m.ServerHostName = "\x06\x04\x0a\x00\x00\x08\xff"
		return m.ToBytes()
	}
	a := w.joinAs(Config{DHCP: true}, 1)
	w.run(5 * time.Second)
	if len(a.learnt.Routes) != 1 || a.learnt.Routes[0].Via != netip.MustParseAddr("10.0.0.9") || len(a.learnt.DNS) != 1 || a.learnt.DNS[0] != netip.MustParseAddr("10.0.0.8") {
		t.Errorf("learned %v", a.learnt)
	}
}

// TestDHCPForever: a lease without an end is never asked for again.
func TestDHCPForever(t *testing.T) {
	w := new(wire)
	s := serve(t, w, 2, "10.0.0.100")
	s.lease = time.Duration(1<<32-1) * time.Second
	a := w.joinAs(Config{DHCP: true}, 1)
	w.run(1000 * time.Hour)
	if !a.has(leased) || len(s.got) != 2 {
		t.Errorf("state %v, %v", a.state, s.types())
	}
}

// FuzzDHCP: no message makes the client panic, or has it send more than one message.
func FuzzDHCP(f *testing.F) {
	f.Add([]byte{53, 1, 2, 54, 4, 10, 0, 0, 2, 51, 4, 0, 0, 1, 0, 121, 5, 0, 10, 0, 0, 1, 255})
	f.Add([]byte{53, 1, 5, 52, 1, 3, 1, 4, 255, 255, 0, 0, 255})
	f.Add([]byte{53, 1, 6, 255})
	f.Fuzz(func(t *testing.T, options []byte) {
		w := new(wire)
		s := serve(t, w, 2, "10.0.0.100")
		s.asIs = func(m *dhcpv4.DHCPv4) []byte { return append(m.ToBytes()[:240], options[:min(len(options), 1200)]...) }
		a := w.joinAs(Config{DHCP: true}, 1)
		w.run(20 * time.Second)
		if len(a.sent) > 40 {
			t.Fatalf("%d frames in 20 s", len(a.sent))
		}
	})
}
