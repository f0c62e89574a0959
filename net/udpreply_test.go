package onload_test

import (
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/lab"
	onload "github.com/onload-go/onload/net"
)

// TestReplyFromDestination: an answer to the address that ReadFrom gave leaves from
// the one that was asked, of each family, by the stack and by the kernel; that of a
// socket without the option from the one that the route prefers.
func TestReplyFromDestination(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	second := []netip.Addr{netip.MustParseAddr("10.77.9.9"), netip.MustParseAddr("fd77:9::9")}
	for i, via := range []netip.Addr{p.A.Addr4, p.A.Addr6} {
		one := netip.PrefixFrom(second[i], second[i].BitLen())
		if err := p.A.AddAddr(one); err != nil {
			t.Fatal(err)
		}
		if err := p.B.AddRoute(one, via); err != nil {
			t.Fatal(err)
		}
	}
	addrs := append(second, p.A.Addr4, p.A.Addr6)
	e := vethEngine(t, p.A, onload.Config{})
	for _, tt := range []struct {
		name string
		lc   onload.ListenConfig
		path string // of the socket, in part
		want func(asked netip.Addr) netip.Addr
	}{
		{"accelerated", onload.ListenConfig{ReplyFromDestination: true}, p.A.If, func(a netip.Addr) netip.Addr { return a }},
		{"the kernel's", onload.ListenConfig{ReplyFromDestination: true, Control: control([3]int{unix.SOL_SOCKET, unix.SO_PRIORITY, 5})}, "SO_PRIORITY", func(a netip.Addr) netip.Addr { return a }},
		{"without", onload.ListenConfig{}, p.A.If, func(a netip.Addr) netip.Addr {
			if a.Is4() {
				return p.A.Addr4
			}
			return p.A.Addr6
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.lc.Engine = e
			c, err := tt.lc.ListenPacket(t.Context(), "udp", ":0")
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			go echoPackets(c)
			port := c.LocalAddr().(*net.UDPAddr).Port
			for _, asked := range addrs {
				for _, from := range []*lab.NS{p.B.NS, p.A.NS} { // over the link, and by lo
					got := answerer(t, kernelSocket(t, from, ":0"), netip.AddrPortFrom(asked, uint16(port)))
					if from == p.A.NS && !tt.lc.ReplyFromDestination {
						continue // the route's choice is the kernel's business
					}
					if want := tt.want(asked); got != want {
						t.Errorf("%v was asked from %s, and %v answered, want %v", asked, from.Name, got, want)
					}
				}
			}
			if path := onload.PathOf(c).String(); !strings.Contains(path, tt.path) {
				t.Errorf("%s, want %s", path, tt.path)
			}
		})
	}
}

// echoPackets answers until c closes.
func echoPackets(c net.PacketConn) {
	b := make([]byte, 100)
	for {
		n, from, err := c.ReadFrom(b)
		if err != nil {
			return
		}
		_, _ = c.WriteTo(b[:n], from)
	}
}

// answerer asks the echo at to, and returns which address answers.
func answerer(t *testing.T, c *net.UDPConn, to netip.AddrPort) netip.Addr {
	t.Helper()
	if _, err := c.WriteToUDPAddrPort([]byte("question"), to); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 100)
	c.SetReadDeadline(time.Now().Add(patience))
	n, from, err := c.ReadFromUDPAddrPort(b)
	if err != nil || string(b[:n]) != "question" || from.Port() != to.Port() {
		t.Fatalf("%q from %v, %v", b[:n], from, err)
	}
	return from.Addr().Unmap()
}
