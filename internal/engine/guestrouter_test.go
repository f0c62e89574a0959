//go:build guest

package engine_test

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/onload-go/onload/internal/lab"
	onload "github.com/onload-go/onload/net"
)

// narrow is the MTU of the link behind the router.
const narrow = 1300

// behindRouter makes a host behind the kernel's NIC, which forwards. The host has
// 10.9.1.2 and fd09:1::2, 10.9.1.3 and fd09:1::3. It says that it takes segments of Ethernet's MTU, so that only
// ICMP tells their sender of the narrow link.
func behindRouter(t *testing.T, router *lab.NS) *lab.NS {
	t.Helper()
	host, err := lab.NewNS("host")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { host.Close() })
	nic := router.Link // Veth may make its own link the namespace's
	lr, lh, err := lab.Veth(router, host, lab.Options{MTU: narrow, NoAddr: true})
	router.Link = nic
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"} {
		if err := router.Sysctl(key, "1"); err != nil {
			t.Fatal(err)
		}
	}
	for _, a := range []struct{ router, host, more, us string }{
		{"10.9.1.1/24", "10.9.1.2/24", "10.9.1.3/24", "10.9.0.0/24"},
		{"fd09:1::1/64", "fd09:1::2/64", "fd09:1::3/64", "fd09::/64"},
	} {
		via, us := netip.MustParsePrefix(a.router), netip.MustParsePrefix(a.us)
		route := &netlink.Route{
			LinkIndex: lh.Index, Gw: via.Addr().AsSlice(), AdvMSS: 1440,
			Dst: &net.IPNet{IP: us.Addr().AsSlice(), Mask: net.CIDRMask(us.Bits(), us.Addr().BitLen())},
		}
		err := errors.Join(lr.AddAddr(via), lh.AddAddr(netip.MustParsePrefix(a.host)), lh.AddAddr(netip.MustParsePrefix(a.more)))
		if err = errors.Join(err, host.Netlink().RouteAdd(route)); err != nil {
			t.Fatal(err)
		}
	}
	return host
}

// TestGuestRouter: over VFIO the stack reaches a host behind a router. TCP and UDP learn
// the path's MTU from it, and connections go on when it gets another MAC.
func TestGuestRouter(t *testing.T) {
	router := guestPeer(t)
	host := behindRouter(t, router)
	e, err := guestEngine()
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	sums, err := host.Listen("tcp", ":7")
	if err != nil {
		t.Fatal(err)
	}
	go hashed(t, sums)
	echo, err := host.Listen("tcp", ":8")
	if err != nil {
		t.Fatal(err)
	}
	defer echo.Close()
	go echoConns(echo)
	var open []net.Conn
	// What a path's MTU is holds for all traffic to an address, so UDP has another one.
	for tcp, udp := range map[string]string{"10.9.1.2": "10.9.1.3", "fd09:1::2": "fd09:1::3"} {
		t.Run("TCP to "+tcp, func(t *testing.T) {
			if err := exchange(dialPast(t, e, "tcp", net.JoinHostPort(tcp, "7")), 300_000); err != nil {
				t.Error(err)
			}
		})
		t.Run("UDP to "+udp, func(t *testing.T) { datagramsPast(t, host, e, udp) })
		c := dialPast(t, e, "tcp", net.JoinHostPort(tcp, "8"))
		defer c.Close()
		hello(t, c)
		open = append(open, c)
	}
	moveMAC(t, router)
	for _, c := range open {
		hello(t, c)
	}
}

func dialPast(t *testing.T, e *onload.Engine, network, to string) net.Conn {
	t.Helper()
	c, err := e.Dial(network, to)
	if err != nil {
		t.Fatalf("%s: %v", to, err)
	}
	if p := onload.PathOf(c); !p.Accelerated {
		t.Errorf("%s: the path is %v", to, p)
	}
	if err := c.SetDeadline(time.Now().Add(2 * patience)); err != nil {
		t.Fatal(err)
	}
	return c
}

// echoConns answers each connection with what it says.
func echoConns(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			_, _ = io.Copy(c, c) // until it ends
		}()
	}
}

func hello(t *testing.T, c net.Conn) {
	t.Helper()
	if _, err := c.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, 5)); err != nil {
		t.Fatalf("%v: %v", c.RemoteAddr(), err)
	}
}

// datagramsPast sends datagrams that the link behind the router has no room for. The
// first ones are lost, of which the socket hears as the kernel's do; later ones are sent
// in fragments.
func datagramsPast(t *testing.T, host *lab.NS, e *onload.Engine, to string) {
	t.Helper()
	p, err := host.ListenPacket("udp", net.JoinHostPort(to, "9"))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	go func() {
		for b := make([]byte, 2048); ; {
			n, from, err := p.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = p.WriteTo(b[:n], from) // what is lost is sent again
		}
	}()
	c := dialPast(t, e, "udp", net.JoinHostPort(to, "9"))
	defer c.Close()
	want, got := payload()[:1400], make([]byte, 2048)
	for told, tries := false, 0; ; tries++ {
		if tries == 100 {
			t.Fatalf("%s: no datagram of %d bytes comes back", to, len(want))
		}
		_, err := c.Write(want)
		n := 0
		if err == nil {
			if err := c.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
				t.Fatal(err)
			}
			n, err = c.Read(got)
		}
		switch {
		case errors.Is(err, syscall.EMSGSIZE):
			told = true
		case err == nil && string(got[:n]) == string(want):
			if !told {
				t.Errorf("%s: nobody told of the path's MTU", to)
			}
			return
		case err == nil || !errors.Is(err, os.ErrDeadlineExceeded):
			t.Fatalf("%s: %d bytes, %v", to, n, err)
		}
	}
}

// moveMAC gives the kernel's NIC another MAC until the test ends. The kernel says so: to
// find out without takes retransmissions, and so a quarter of a minute.
func moveMAC(t *testing.T, ns *lab.NS) {
	t.Helper()
	for _, key := range []string{"net.ipv4.conf." + ns.Link.If + ".arp_notify", "net.ipv6.conf." + ns.Link.If + ".ndisc_notify"} {
		if err := ns.Sysctl(key, "1"); err != nil {
			t.Fatal(err)
		}
	}
	link, err := ns.Netlink().LinkByIndex(ns.Link.Index)
	if err != nil {
		t.Fatal(err)
	}
	old := link.Attrs().HardwareAddr
	if err := ns.Netlink().LinkSetHardwareAddr(link, net.HardwareAddr{2, 0, 0, 0, 0, 8}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := ns.Netlink().LinkSetHardwareAddr(link, old); err != nil {
			t.Error(err)
		}
	})
}
