//go:build guest

package engine_test

import (
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"go.uber.org/zap"

	"github.com/onload-go/onload/internal/lab"
	onload "github.com/onload-go/onload/net"
)

// The tests of TestGuestXDP run in a guest whose kernel's drivers have both NICs. The
// first's does zero-copy.

// xdpEngine is an engine over AF_XDP on the first NIC, with 10.9.0.1 and fd09::1.
func xdpEngine(t *testing.T) *onload.Engine {
	t.Helper()
	name := os.Getenv("VMRUN_NIC0_IF")
	l, err := netlink.LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkSetUp(l); err != nil {
		t.Fatal(err)
	}
	for _, a := range []string{"10.9.0.1/24", "fd09::1/64"} {
		addr, err := netlink.ParseAddr(a)
		if err != nil {
			t.Fatal(err)
		}
		addr.Flags = 2 // IFA_F_NODAD: nobody else is there
		if err := netlink.AddrReplace(l, addr); err != nil {
			t.Fatal(err)
		}
	}
	for start := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		if b, err := os.ReadFile("/sys/class/net/" + name + "/carrier"); err == nil && string(b) == "1\n" {
			break
		}
		if time.Since(start) > patience {
			t.Fatal("the NIC has no carrier")
		}
	}
	e, err := onload.New(onload.Config{Interfaces: []string{name}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

// TestGuestXDPStack: TCP, UDP, HTTP and pings between the stack over AF_XDP without a copy
// and a kernel, as client and as server, IPv4 and IPv6.
func TestGuestXDPStack(t *testing.T) {
	ns := guestPeer(t)
	e := xdpEngine(t)
	for _, i := range e.Status() {
		if p := i.Path; i.Name == os.Getenv("VMRUN_NIC0_IF") && (!p.ZeroCopy || p.CopyReason != "") {
			t.Errorf("the driver %s copies: %s", p.Driver, p.CopyReason)
		}
	}
	for _, a := range []struct{ kernel, us string }{{"10.9.0.2", "10.9.0.1"}, {"fd09::2", "fd09::1"}} {
		t.Run(a.us, func(t *testing.T) {
			t.Run("client", func(t *testing.T) { xdpClient(t, ns, e, a.kernel) })
			t.Run("server", func(t *testing.T) {
				l, err := e.Listen("tcp", net.JoinHostPort(a.us, "0"))
				if err != nil {
					t.Fatal(err)
				}
				go hashed(t, l)
				c, err := ns.Dial("tcp", l.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				bothWays(t, c)
				manyWays(t, func() (net.Conn, error) { return ns.Dial("tcp", l.Addr().String()) })
			})
			t.Run("UDP", func(t *testing.T) { guestUDP(t, ns, e, a.kernel) })
			t.Run("HTTP", func(t *testing.T) { guestHTTP(t, ns, e, a.us) })
			t.Run("ping", func(t *testing.T) {
				if err := ns.Ping(netip.MustParseAddr(a.us)); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func xdpClient(t *testing.T, ns *lab.NS, e *onload.Engine, kernel string) {
	l, err := ns.Listen("tcp", net.JoinHostPort(kernel, "0"))
	if err != nil {
		t.Fatal(err)
	}
	go hashed(t, l)
	c, err := e.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if p := onload.PathOf(c); !p.Accelerated || !p.ZeroCopy {
		t.Errorf("the path is %v", p)
	}
	bothWays(t, c)
	manyWays(t, func() (net.Conn, error) { return e.Dial("tcp", l.Addr().String()) })
}
