package programs

import (
	"fmt"
	"net"
	"net/netip"
	"testing"

	"github.com/miekg/dns"

	"github.com/onload-go/onload/internal/lab"
	onload "github.com/onload-go/onload/net"
)

// manyAddresses makes a pair whose A has two addresses of each family, which are
// returned; B reaches them by A.
func manyAddresses(t *testing.T) (*lab.Pair, []netip.Addr) {
	t.Helper()
	p := lab.NewPair(t, lab.Options{})
	l := []netip.Addr{p.A.Addr4, p.A.Addr6}
	for i, a := range []netip.Addr{netip.MustParseAddr("10.77.9.9"), netip.MustParseAddr("fd77:9::9")} {
		one := netip.PrefixFrom(a, a.BitLen())
		if err := p.A.AddAddr(one); err != nil {
			t.Fatal(err)
		}
		if err := p.B.AddRoute(one, l[i]); err != nil {
			t.Fatal(err)
		}
		l = append(l, a)
	}
	return p, l
}

// TestDNS: miekg/dns's server on a socket of each address and on one of all, and its
// client, whose socket is connected: an answer from another address than the one
// that was asked would not reach it. On package net's socket the server uses control
// messages for that; onload's has ReplyFromDestination.
func TestDNS(t *testing.T) {
	p, addrs := manyAddresses(t)
	a, b := engine(t, p.A), engine(t, p.B)
	for _, tt := range []struct {
		name           string
		server, client host
	}{
		{"kernel", p.A, p.B},
		{"server", a, p.B},
		{"client", p.A, b},
		{"both", a, b},
	} {
		t.Run(tt.name, func(t *testing.T) {
			all := listenAll(t, tt.server)
			serveDNS(t, all)
			for _, addr := range addrs {
				c := listen(t, tt.server, "udp", netip.AddrPortFrom(addr, 0).String())
				serveDNS(t, c)
				for range 10 {
					askDNS(t, tt.client, c.LocalAddr().String())
					askDNS(t, tt.client, netip.AddrPortFrom(addr, uint16(all.LocalAddr().(*net.UDPAddr).Port)).String())
				}
				accelerated(t, tt.server, c)
			}
			accelerated(t, tt.server, all)
		})
	}
}

// listenAll opens a socket on all addresses that answers from the one that was
// asked, as a server on h has it.
func listenAll(t *testing.T, h host) net.PacketConn {
	t.Helper()
	e, ok := h.(*onload.Engine)
	if !ok {
		return listen(t, h, "udp", ":0")
	}
	lc := onload.ListenConfig{Engine: e, ReplyFromDestination: true}
	c, err := lc.ListenPacket(t.Context(), "udp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// serveDNS answers on c, until the test ends, with the name that was asked for.
func serveDNS(t *testing.T, c net.PacketConn) {
	t.Helper()
	started := make(chan struct{})
	s := &dns.Server{PacketConn: c, NotifyStartedFunc: func() { close(started) }, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg)
		m.SetReply(q)
		m.Answer = append(m.Answer, &dns.TXT{
			Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeTXT, Class: dns.ClassINET},
			Txt: []string{w.RemoteAddr().String()},
		})
		if err := w.WriteMsg(m); err != nil {
			t.Error("server:", err)
		}
	})}
	served := make(chan error, 1)
	go func() { served <- s.ActivateAndServe() }()
	<-started
	t.Cleanup(func() {
		if err := s.Shutdown(); err != nil {
			t.Error(err)
		}
		if err := <-served; err != nil {
			t.Error("server:", err)
		}
	})
}

// askDNS asks the server at addr, whose answer has the client's address.
func askDNS(t *testing.T, h host, addr string) {
	t.Helper()
	c, err := h.Dial("udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	accelerated(t, h, c)
	q := new(dns.Msg)
	q.SetQuestion("example.org.", dns.TypeTXT)
	client := &dns.Client{Timeout: patience}
	m, _, err := client.ExchangeWithConn(q, &dns.Conn{Conn: c})
	if err != nil {
		t.Fatalf("%v asks %s: %v", c.LocalAddr(), addr, err)
	}
	if s := fmt.Sprint(m.Answer[0].(*dns.TXT).Txt); s != fmt.Sprintf("[%v]", c.LocalAddr()) {
		t.Errorf("%v asks %s: the server saw %s", c.LocalAddr(), addr, s)
	}
}
