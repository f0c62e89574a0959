package engine_test

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/onload-go/onload/internal/lab"
	onload "github.com/onload-go/onload/net"
)

func lifeEngine(t *testing.T, ns *lab.NS, stacks int, names ...string) *onload.Engine {
	t.Helper()
	e, err := onload.New(onload.Config{Stacks: stacks, NetNS: ns.Path, Interfaces: names, Fallback: true, Frames: 1024, RingSize: 256, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

// waitTaken waits until the n-th interface is accelerated, or is not.
func waitTaken(t *testing.T, e *onload.Engine, n int, want bool) {
	t.Helper()
	for start := time.Now(); ; time.Sleep(time.Millisecond) {
		st := e.Status()[n]
		if st.Err == nil == want && st.Path.Accelerated == want {
			return
		}
		if time.Since(start) > patience {
			t.Fatalf("interface %d: %+v, want taken: %v", n, st, want)
		}
	}
}

// accept has ns's kernel dial l at the address, and returns both ends.
func accept(t *testing.T, ns *lab.NS, l net.Listener, at netip.Addr) (near, far net.Conn) {
	t.Helper()
	port := l.Addr().(*net.TCPAddr).Port
	far, err := ns.Dial("tcp", netip.AddrPortFrom(at, uint16(port)).String())
	if err != nil {
		t.Fatal(err)
	}
	if near, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	return near, far
}

// TestInterfaceLife: an interface that is not there at the start is taken when it
// is made, and again after it was deleted. Listeners and bound sockets from
// before serve its peers, accelerated, each time.
func TestInterfaceLife(t *testing.T) {
	for i, queues := range []int{1, 2, 4, 2} {
		stacks := 1 + i/3
		t.Run(fmt.Sprintf("queues=%d/stacks=%d", queues, stacks), func(t *testing.T) {
			p := lab.NewPair(t, lab.Options{Queues: queues})
			e := lifeEngine(t, p.A, stacks, p.A.If, "fast0")
			waitTaken(t, e, 0, true)
			waitTaken(t, e, 1, false)
			l, u := bindAll(t, e, ":0")
			for range 2 {
				near, far, err := lab.Veth(p.A, p.B, lab.Options{Queues: queues})
				if err != nil {
					t.Fatal(err)
				}
				if err := near.AddAltName("fast0"); err != nil {
					t.Fatal(err)
				}
				waitTaken(t, e, 1, true)
				served(t, e, p.B, l, u, near, far)
				c, k := accept(t, p.B, l, near.Addr4)
				if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
					t.Fatal(err)
				}
				if err := near.Delete(); err != nil {
					t.Fatal(err)
				}
				if _, err := c.Read(make([]byte, 1)); err == nil || err.(net.Error).Timeout() {
					t.Errorf("a connection by the deleted interface: %v", err)
				}
				waitTaken(t, e, 1, false)
				if path := onload.PathOf(c); path.Accelerated {
					t.Errorf("path of a lost connection: %v", path)
				}
				c.Close()
				k.Close()
			}
			c, k := accept(t, p.B, l, p.A.Addr4)
			if path := onload.PathOf(c); !path.Accelerated {
				t.Errorf("the other interface: %v", path)
			}
			c.Close()
			k.Close()
		})
	}
}

// bindAll opens a TCP listener at addr and a UDP socket at all addresses, for the
// time of the test.
func bindAll(t *testing.T, e *onload.Engine, addr string) (net.Listener, net.PacketConn) {
	t.Helper()
	l, err := e.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	u, err := e.ListenPacket("udp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { u.Close() })
	return l, u
}

// served looks whether l, u and dials use the link.
func served(t *testing.T, e *onload.Engine, peer *lab.NS, l net.Listener, u net.PacketConn, near, far *lab.Link) {
	t.Helper()
	for start := time.Now(); ; time.Sleep(time.Millisecond) { // until the shards are there
		c, k := accept(t, peer, l, near.Addr4)
		path := onload.PathOf(c)
		c.Close()
		k.Close()
		if path.Accelerated && path.Interface == near.If {
			break
		}
		if time.Since(start) > time.Minute {
			t.Fatalf("accepted by %v", path)
		}
	}
	back, err := peer.Listen("tcp", netip.AddrPortFrom(far.Addr4, 0).String())
	if err != nil {
		t.Fatal(err)
	}
	defer back.Close()
	c, err := e.Dial("tcp", back.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if path := onload.PathOf(c); !path.Accelerated || path.Interface != near.If {
		t.Errorf("dialed by %v", path)
	}
	c.Close()
	d, err := peer.Dial("udp", netip.AddrPortFrom(near.Addr4, uint16(u.LocalAddr().(*net.UDPAddr).Port)).String())
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	b := make([]byte, 10)
	for _, c := range []interface{ SetDeadline(time.Time) error }{u, d} {
		if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := d.Write([]byte("ping")); err != nil {
		t.Fatal(err)
	}
	n, from, err := u.ReadFrom(b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := u.WriteTo(b[:n], from); err != nil {
		t.Fatal(err)
	}
	if n, err = d.Read(b); err != nil || string(b[:n]) != "ping" {
		t.Errorf("answer %q, %v", b[:n], err)
	}
}

// TestRollingRestart: an interface that another engine holds at the start is
// taken when that one ends.
func TestRollingRestart(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	old := lifeEngine(t, p.A, 1, p.A.If)
	waitTaken(t, old, 0, true)
	e := lifeEngine(t, p.A, 1, p.A.If)
	waitTaken(t, e, 0, false)
	if err := old.Close(); err != nil {
		t.Fatal(err)
	}
	waitTaken(t, e, 0, true)
	l, err := e.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, k := accept(t, p.B, l, p.A.Addr4)
	if path := onload.PathOf(c); !path.Accelerated {
		t.Errorf("accepted by %v", path)
	}
	c.Close()
	k.Close()
}
