package broker_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/onload-go/onload/internal/lab"
)

// ports of A's addresses.
func (w *network) at(port uint16) []netip.AddrPort {
	return []netip.AddrPort{netip.AddrPortFrom(w.A.Addr4, port), netip.AddrPortFrom(w.A.Addr6, port)}
}

// TestEcho: servers and clients without any privilege, of TCP and UDP, IPv4 and IPv6.
func TestEcho(t *testing.T) {
	w := newNetwork(t, lab.Options{}, everybody)
	p := w.start("nobody")
	p.line()
	if s := p.ask("status"); !strings.Contains(s, "by a broker's link") {
		t.Fatal(s)
	}
	for i, proto := range []string{"tcp", "udp"} {
		for j, a := range w.at(uint16(7000 + 10*i)) {
			a = netip.AddrPortFrom(a.Addr(), a.Port()+uint16(j))
			t.Run(fmt.Sprint(proto, " ", a), func(t *testing.T) {
				p.want("broker "+a.String(), "listen %s %v", proto, a)
				if err := echo(w.B, proto, a, 100); err != nil {
					t.Error(err)
				}
			})
		}
		t.Run(proto+" of all addresses", func(t *testing.T) {
			got := p.ask("listen %s :0", proto)
			port, ok := strings.CutPrefix(got, "broker [::]:")
			if !ok {
				t.Fatal(got)
			}
			for _, a := range w.at(uint16(number(port))) {
				if err := echo(w.B, proto, a, 10); err != nil {
					t.Error(err)
				}
			}
			// Clients of this host are the kernel's, which has a part of the socket.
			if err := echo(w.A, proto, netip.MustParseAddrPort("127.0.0.1:"+port), 10); err != nil {
				t.Error("loopback:", err)
			}
		})
	}
	for j, a := range []netip.Addr{w.B.Addr4, w.B.Addr6} {
		port := uint16(9000 + j)
		echoServers(t, w.B, a, port)
		for _, proto := range []string{"tcp", "udp"} {
			t.Run(fmt.Sprint("dial ", proto, " ", a), func(t *testing.T) {
				for range 3 {
					p.want("broker", "dial %s %v 100", proto, netip.AddrPortFrom(a, port))
				}
			})
		}
	}
}
