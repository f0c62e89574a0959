package engine_test

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/onload-go/onload/internal/lab"
	onload "github.com/onload-go/onload/net"
)

// allWays are those of packets out and in.
var allWays = []ways{{0, 0}, {0, 1}, {1, 0}, {1, 1}}

// carrier opens sockets in A: the engine's, or the kernel's.
type carrier struct {
	name         string
	dial         func(network, addr string) (net.Conn, error)
	listen       func(network, addr string) (net.Listener, error)
	listenPacket func(network, addr string) (net.PacketConn, error)
}

func (u *uplinks) carriers() []carrier {
	e, k := u.engine, u.A
	return []carrier{
		{"onload", e.Dial, e.Listen, func(n, a string) (net.PacketConn, error) { return e.ListenPacket(n, a) }},
		{"kernel", func(n, a string) (c net.Conn, err error) {
			err = k.Do(func() (err error) { c, err = net.Dial(n, a); return err })
			return c, err
		}, k.Listen, k.ListenPacket},
	}
}

// flow is two ends, of which A's is the engine's or the kernel's.
type flow struct {
	name     string
	here     net.Conn // nil: a bound UDP socket
	exchange func(t *testing.T)
}

// flows opens one of each kind between A's address and a far one, by the routes that
// there are.
func (u *uplinks) flows(t *testing.T, h carrier, v6 bool) []flow {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", h.name, err)
		}
	}
	here := netip.AddrPortFrom(addrOf(u.a[0], v6), 0).String()
	pair := func(l net.Listener, dial func(addr string) (net.Conn, error)) (dialled, accepted net.Conn) {
		t.Helper()
		defer l.Close()
		d, err := dial(l.Addr().String())
		must(err)
		a, err := l.Accept()
		must(err)
		t.Cleanup(func() { d.Close(); a.Close() })
		return d, a
	}
	tcp := func(name string, c, d net.Conn) flow {
		return flow{name, c, func(t *testing.T) { u.bulk(t, c, d); u.bulk(t, d, c) }}
	}

	l, err := u.R.Listen("tcp", netip.AddrPortFrom(far(v6, 1), 0).String())
	must(err)
	dialled, peer := pair(l, func(addr string) (net.Conn, error) { return h.dial("tcp", addr) })
	l, err = h.listen("tcp", here)
	must(err)
	client, accepted := pair(l, func(addr string) (net.Conn, error) { return u.dialFrom(far(v6, 2), addr) })

	connected, err := h.dial("udp", u.echoUDP(t, far(v6, 3)))
	must(err)
	bound, err := h.listenPacket("udp", here)
	must(err)
	t.Cleanup(func() { connected.Close(); bound.Close() })
	echo := u.echoUDP(t, far(v6, 4))
	return []flow{
		tcp("dial", dialled, peer), tcp("accept", accepted, client),
		{"connected UDP", connected, func(t *testing.T) {
			echoed(t, connected, connected.Read, connected.Write)
		}},
		{"bound UDP", nil, func(t *testing.T) {
			to, err := net.ResolveUDPAddr("udp", echo)
			must(err)
			echoed(t, bound, func(b []byte) (int, error) {
				n, _, err := bound.ReadFrom(b)
				return n, err
			}, func(b []byte) (int, error) { return bound.WriteTo(b, to) })
		}},
	}
}

// echoed sends datagrams of one packet and of several, and reads them.
func echoed(t *testing.T, c interface{ SetDeadline(time.Time) error }, read, write func([]byte) (int, error)) {
	t.Helper()
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{1, 1401, 3001} {
		b := bytes.Repeat([]byte{byte(size)}, size)
		if _, err := write(b); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, size+1)
		n, err := read(got)
		if err != nil || !bytes.Equal(got[:n], b) {
			t.Fatalf("%d of %d bytes: %v", n, size, err)
		}
	}
}

// settle waits until the engine has heard of the routes that lead has set.
func (u *uplinks) settle(t *testing.T, v6 bool, w ways) {
	t.Helper()
	c, err := u.engine.Dial("udp", netip.AddrPortFrom(far(v6, 9), 7).String())
	for start := time.Now(); ; time.Sleep(time.Millisecond) {
		if err == nil {
			path := onload.PathOf(c)
			c.Close()
			if path.Accelerated == (w.out == 0) {
				return
			}
		}
		if time.Since(start) > patience {
			t.Fatalf("%v is not heard of: %v", w, err)
		}
		c, err = u.engine.Dial("udp", netip.AddrPortFrom(far(v6, 9), 7).String())
	}
}

// TestAllWays: sockets of each kind are opened, and used in both directions, whichever
// of the links their packets leave and come by. The kernel's own are, too.
func TestAllWays(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		t.Run(fmt.Sprintf("v6=%v", v6), func(t *testing.T) {
			u := newUplinks(t, 0)
			for _, w := range allWays {
				u.lead(t, v6, w)
				u.settle(t, v6, w)
				for _, h := range u.carriers() {
					for _, f := range u.flows(t, h, v6) {
						t.Run(fmt.Sprintf("%v/%s/%s", w, f.name, h.name), f.exchange)
					}
				}
			}
		})
	}
}

// TestPathsMove: flows of each kind go on when packets leave and come by another link
// in the middle, with one stack or two over the accelerated one.
func TestPathsMove(t *testing.T) {
	for i := range 4 {
		v6, stacks := i%2 == 1, i/2+1
		t.Run(fmt.Sprintf("v6=%v/stacks=%d", v6, stacks), func(t *testing.T) {
			u := makeUplinks(t, lab.Options{Queues: stacks}, onload.Config{Frames: 4096, RingSize: 512, Stacks: stacks}, 0)
			u.lead(t, v6, ways{0, 0})
			u.settle(t, v6, ways{0, 0})
			flows := u.flows(t, u.carriers()[0], v6)
			for _, w := range []ways{{0, 0}, {0, 1}, {1, 1}, {1, 0}, {0, 1}, {0, 0}, {1, 1}} {
				u.lead(t, v6, w)
				for _, f := range flows {
					if f.here != nil {
						awaitPath(t, f.here, w.out == 0)
					}
					t.Run(fmt.Sprintf("%v/%s", w, f.name), f.exchange)
				}
			}
			if s := u.engine.Stats()[u.a[0].If]; s.Inlets == 0 || s.InletErrors > 0 {
				t.Errorf("inlets %d, errors %d", s.Inlets, s.InletErrors)
			}
		})
	}
}

// TestRefusedAllWays: resets and ICMP errors are heard, whichever of the links they come
// by, as the kernel's sockets hear them.
func TestRefusedAllWays(t *testing.T) {
	u := newUplinks(t, 0)
	for _, s := range []string{"net.ipv4.icmp_ratelimit", "net.ipv6.icmp.ratelimit"} {
		if err := u.R.Sysctl(s, "0"); err != nil {
			t.Fatal(err)
		}
	}
	for _, v6 := range []bool{false, true} {
		nobody := netip.AddrPortFrom(far(v6, 5), 9).String()
		for _, w := range allWays {
			u.lead(t, v6, w)
			u.settle(t, v6, w)
			for _, k := range u.carriers() {
				if c, err := k.dial("tcp", nobody); !errors.Is(err, syscall.ECONNREFUSED) {
					t.Errorf("%v, v6=%v, %s: a dial returns %v, %v", w, v6, k.name, c, err)
				}
				c, err := k.dial("udp", nobody)
				if err != nil {
					t.Fatal(err)
				}
				if err := ask(c); !errors.Is(err, syscall.ECONNREFUSED) {
					t.Errorf("%v, v6=%v, %s: a datagram's answer is %v", w, v6, k.name, err)
				}
				c.Close()
			}
		}
	}
}
