package engine

import (
	"io"
	"net"
	"net/netip"
	"os"
	"testing"

	"go.uber.org/zap"

	"github.com/onload-go/onload/internal/lab"
	"github.com/onload-go/onload/internal/need"
	"github.com/onload-go/onload/internal/netns"
	"github.com/onload-go/onload/ring"
)

// tapEngine is an engine over a NIC with the TAP device nic0 in a namespace, and a pair
// whose end B is the kernel's at the other end of the NIC's wire.
func tapEngine(t *testing.T) (*Engine, *lab.NS, *lab.Pair, simNIC) {
	t.Helper()
	if f, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0); err != nil {
		need.Missing(t, "TAP devices: %v", err)
	} else {
		f.Close()
	}
	p, dev := kernelWire(t)
	ns, err := lab.NewNS("tap")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ns.Close() })
	c := Config{Interfaces: []string{nicName}, Static: []string{nicName + " tap nic0"}, Logger: zap.NewNop()}
	if err := c.check(); err != nil {
		t.Fatal(err)
	}
	e := newEngine(c)
	e.rest = true
	e.openNIC = func(string, *ring.Arena) (nic, error) { return dev, nil }
	if e.ns, err = netns.Open(ns.Path); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := e.openInterfaces(); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"10.0.0.1/24"}, {"fd00::1/64", "nodad"}} {
		if out, err := ns.Command("ip", append([]string{"addr", "add", "dev", "nic0"}, args...)...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v, %s", args, err, out)
		}
	}
	until(t, "the engine knows the addresses", func() bool {
		_, four := e.net.Local(netip.MustParseAddr("10.0.0.1"))
		_, six := e.net.Local(netip.MustParseAddr("fd00::1"))
		return four && six
	})
	return e, ns, p, dev
}

// TestTAP: by a TAP device the kernel is the host on the link of a NIC that it has no
// driver for. Its programs serve and connect at the same addresses as ours, each at ports
// of its own, and it answers ARP, neighbour discovery and pings.
func TestTAP(t *testing.T) {
	e, ns, p, dev := tapEngine(t)
	far, err := p.B.Listen("tcp", ":9")
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	go echoAll(far)
	kernels, err := ns.Listen("tcp", ":22") // as sshd would
	if err != nil {
		t.Fatal(err)
	}
	defer kernels.Close()
	go echoAll(kernels)
	echoPort(t, e, 7)
	talk := func(us, them string) {
		t.Helper()
		for _, port := range []string{"22", "7"} {
			c, err := p.B.Dial("tcp", net.JoinHostPort(us, port))
			if err != nil {
				t.Fatalf("to port %s: %v", port, err)
			}
			roundTrip(t, c)
		}
		far := netip.AddrPortFrom(netip.MustParseAddr(them), 9)
		c, err := dialNIC(e, far)
		if err != nil {
			t.Fatal(err)
		}
		roundTrip(t, c)
		k, err := ns.Dial("tcp", far.String())
		if err != nil {
			t.Fatal(err)
		}
		roundTrip(t, k)
		if err := p.B.Ping(netip.MustParseAddr(us)); err != nil {
			t.Error(err)
		}
		if err := ns.Ping(netip.MustParseAddr(them)); err != nil {
			t.Error(err)
		}
	}
	talk("10.0.0.1", "10.0.0.2")
	talk("fd00::1", "fd00::2")

	// The kernel sees the NIC's link.
	carrier := func() bool { l, _ := e.net.Link(e.ifs[0].Index); return l.Carrier }
	dev.SetLink(false)
	until(t, "the link is down", func() bool { return !carrier() })
	dev.SetLink(true)
	until(t, "the link is up", carrier)
	talk("10.0.0.1", "10.0.0.2")
}

// TestTAPMuch: what the kernel's programs send and receive past the stack is whole.
func TestTAPMuch(t *testing.T) {
	_, ns, p, _ := tapEngine(t)
	l, err := ns.Listen("tcp", "10.0.0.1:22")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go echoAll(l)
	c, err := p.B.Dial("tcp", "10.0.0.1:22")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	want := make([]byte, 1<<20)
	for i := range want {
		want[i] = byte(i>>3) ^ byte(i>>11)
	}
	go c.Write(want)
	got := make([]byte, len(want))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != string(want) {
		t.Errorf("something else came back, %v", err)
	}
}
