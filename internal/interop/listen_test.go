package interop

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"testing"

	"github.com/onload-go/onload/internal/lab"
	onload "github.com/onload-go/onload/net"
)

// neighbours is a host with an accelerated interface towards near and one of
// the kernel's towards far.
type neighbours struct {
	host, near, far *lab.NS
	plain           *lab.Link // of host, towards far
	e               *onload.Engine
}

func newNeighbours(t *testing.T) *neighbours {
	t.Helper()
	pair := lab.NewPair(t, lab.Options{})
	far, err := lab.NewNS("far")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { far.Close() })
	n := &neighbours{host: pair.A, near: pair.B, far: far}
	if n.plain, _, err = lab.Veth(pair.A, far, lab.Options{Net: 8}); err != nil {
		t.Fatal(err)
	}
	n.e = engine(t, pair.A)
	return n
}

// client is a host that can reach the address addr.
type client struct {
	name        string
	addr        func(n *neighbours) (v4, v6 netip.Addr)
	accelerated bool
}

var clients = []client{
	{"near", func(n *neighbours) (v4, v6 netip.Addr) { return n.host.Addr4, n.host.Addr6 }, true},
	{"far", func(n *neighbours) (v4, v6 netip.Addr) { return n.plain.Addr4, n.plain.Addr6 }, false},
	{"local", func(*neighbours) (v4, v6 netip.Addr) {
		return netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback()
	}, false},
	{"local to the accelerated address", func(n *neighbours) (v4, v6 netip.Addr) { return n.host.Addr4, n.host.Addr6 }, false},
}

func (n *neighbours) of(c client) *lab.NS {
	switch c.name {
	case "near":
		return n.near
	case "far":
		return n.far
	}
	return n.host
}

// visit has c connect to port of the host, once per family, and checks by
// which way l accepts.
func (n *neighbours) visit(t *testing.T, c client, l net.Listener, is4, is6 bool) {
	t.Helper()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	v4, v6 := c.addr(n)
	for _, f := range []struct {
		addr netip.Addr
		use  bool
	}{{v4, is4}, {v6, is6}} {
		if !f.use {
			continue
		}
		d, err := n.of(c).Dial("tcp", net.JoinHostPort(f.addr.String(), port))
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		defer d.Close()
		s, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			defer s.Close()
			b := make([]byte, 1)
			if _, err := s.Read(b); err == nil {
				_, _ = s.Write(b)
			}
		}()
		if err := pingPong(d, hung); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if p := onload.PathOf(s); p.Accelerated != c.accelerated || p.Accelerated == (p.Reason != "") {
			t.Errorf("%s: %v, want accelerated: %v", c.name, p, c.accelerated)
		}
		// The addresses are those of the two ends, whichever way the packets take.
		if s.LocalAddr().String() != d.RemoteAddr().String() || s.RemoteAddr().String() != d.LocalAddr().String() {
			t.Errorf("%s: the server sees %v -> %v, the client %v -> %v", c.name,
				s.RemoteAddr(), s.LocalAddr(), d.LocalAddr(), d.RemoteAddr())
		}
	}
}

// TestListenWildcard: one Accept for accelerated clients and all others.
func TestListenWildcard(t *testing.T) {
	n := newNeighbours(t)
	for _, tt := range []struct {
		network, addr string
		is4, is6      bool
	}{
		{"tcp", ":0", true, true}, {"tcp4", ":0", true, false}, {"tcp6", ":0", false, true},
		{"tcp", "0.0.0.0:0", true, false}, {"tcp", "[::]:0", true, true},
	} {
		t.Run(tt.network+" "+tt.addr, func(t *testing.T) {
			l, err := n.e.Listen(tt.network, tt.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			k, err := n.host.Listen(tt.network, tt.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer k.Close()
			if got, want := mask(l.Addr().String()), mask(k.Addr().String()); got != want {
				t.Errorf("Addr is %s, net's %s", got, want)
			}
			// Package net defines which families are served.
			_, port, _ := net.SplitHostPort(k.Addr().String())
			for _, f := range []struct {
				addr string
				use  *bool
			}{{"127.0.0.1", &tt.is4}, {"::1", &tt.is6}} {
				c, err := n.host.Dial("tcp", net.JoinHostPort(f.addr, port))
				if *f.use = err == nil; err == nil {
					c.Close()
				}
			}
			for _, c := range clients {
				n.visit(t, c, l, tt.is4, tt.is6)
			}
		})
	}
}

// TestListenAddress: a listener on the accelerated address serves its network
// by the queues, and the same host over lo; nobody by another address.
func TestListenAddress(t *testing.T) {
	n := newNeighbours(t)
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			l := listenOn(t, n.e, f.addr(n.host))
			if !onload.PathOf(l).Accelerated {
				t.Error(onload.PathOf(l))
			}
			for _, c := range []client{clients[0], clients[3]} {
				n.visit(t, c, l, f.name == "v4", f.name == "v6")
			}
			_, port, _ := net.SplitHostPort(l.Addr().String())
			if c, err := n.far.Dial("tcp", net.JoinHostPort(n.plain.Addr4.String(), port)); err == nil {
				c.Close()
				t.Error("served by an address that it was not bound to")
			}
		})
	}
	t.Run("kernel's address", func(t *testing.T) {
		l := listenOn(t, n.e, n.plain.Addr4)
		if p := onload.PathOf(l); p.Accelerated || p.Reason == "" {
			t.Error(p)
		}
		n.visit(t, clients[1], l, true, false)
	})
}

// TestListenPortZero: the kernel's choice, and never one twice.
func TestListenPortZero(t *testing.T) {
	pair := lab.NewPair(t, lab.Options{})
	e := engine(t, pair.A)
	seen := map[string]bool{}
	for i := range 50 {
		var h host = e
		if i%2 == 1 {
			h = pair.A
		}
		l := listenOn(t, h, pair.A.Addr4)
		a := l.Addr().String()
		if _, port, _ := net.SplitHostPort(a); port == "0" || seen[a] {
			t.Fatalf("listener %d: %s", i, a)
		}
		seen[a] = true
	}
}

// TestPacketWildcard: a UDP socket bound to all addresses gets datagrams of
// all interfaces, and answers from the address that each was sent to.
func TestPacketWildcard(t *testing.T) {
	n := newNeighbours(t)
	pc, err := n.e.ListenPacket("udp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	go echoPackets(pc)
	_, port, _ := net.SplitHostPort(pc.LocalAddr().String())
	for _, c := range clients {
		v4, v6 := c.addr(n)
		for _, a := range []netip.Addr{v4, v6} {
			t.Run(fmt.Sprint(c.name, " ", a), func(t *testing.T) {
				// Connected: an answer from another address is not taken.
				d, err := n.of(c).Dial("udp", net.JoinHostPort(a.String(), port))
				if err != nil {
					t.Fatal(err)
				}
				defer d.Close()
				for _, size := range []int{0, 1, 1000} {
					ask(t, size, d.Write, d.Read, d)
				}
			})
		}
	}
	if err := pc.Close(); err != nil {
		t.Error(err)
	}
	if err := pc.Close(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("second Close: %v", err)
	}
	if _, _, err := pc.ReadFrom(nil); !errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("ReadFrom after Close: %v", err)
	}
}
