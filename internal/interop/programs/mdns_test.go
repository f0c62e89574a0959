package programs

import (
	"context"
	"net"
	"testing"

	"github.com/pion/mdns/v2"
	"golang.org/x/net/ipv4"

	"github.com/onload-go/onload/internal/lab"
	onload "github.com/onload-go/onload/net"
)

// TestMulticastDNS: pion's multicast DNS finds a name on the other host. It reads by
// x/net, whose ReadFrom takes no other type than *net.UDPConn: an onload socket
// serves as the descriptor that it gives (File), and is the kernel's from then.
func TestMulticastDNS(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	a, b := engine(t, p.A), engine(t, p.B)
	for _, tt := range []struct {
		name           string
		server, client host
	}{
		{"kernel", p.A, p.B},
		{"server", a, p.B},
		{"client", p.A, b},
	} {
		t.Run(tt.name, func(t *testing.T) {
			mdnsConn(t, p.A, tt.server, "server.local")
			client := mdnsConn(t, p.B, tt.client)
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			_, addr, err := client.QueryAddr(ctx, "server.local")
			if err != nil {
				t.Fatal(err)
			}
			if addr.Unmap() != p.A.Addr4 {
				t.Errorf("server.local is %v, want %v", addr, p.A.Addr4)
			}
		})
	}
}

// mdnsConn starts multicast DNS in ns by a socket of h, until the test ends.
func mdnsConn(t *testing.T, ns *lab.NS, h host, names ...string) (c *mdns.Conn) {
	t.Helper()
	k := listen(t, h, "udp4", "224.0.0.0:5353")
	if u, ok := k.(*onload.UDPConn); ok {
		f, err := u.File()
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if k, err = net.FilePacketConn(f); err != nil {
			t.Fatal(err)
		}
	}
	err := ns.Do(func() (err error) { // it opens sockets of its own, and asks for the interfaces
		c, err = mdns.NewServer(ipv4.NewPacketConn(k), nil, mdns.WithLocalNames(names...))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}
