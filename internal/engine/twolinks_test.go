package engine_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/onload-go/onload/internal/lab"
	onload "github.com/onload-go/onload/net"
)

// patience bounds a hang.
const patience = time.Minute

// uplinks is a host A with two links to a router R, which has the networks
// 10.99.0.0/16 and fd99::/64 in itself, and echoes on port 7. A has no route to
// them yet.
type uplinks struct {
	A, R   *lab.NS
	a, r   [2]*lab.Link
	engine *onload.Engine
}

// newUplinks makes them, with an engine in A on those links, or on both.
func newUplinks(t *testing.T, on ...int) *uplinks {
	t.Helper()
	return makeUplinks(t, lab.Options{}, onload.Config{Frames: 2048, RingSize: 512}, on...)
}

// stackedUplinks is newUplinks for an engine of so many stacks over both links.
func stackedUplinks(t *testing.T, stacks int) *uplinks {
	t.Helper()
	return makeUplinks(t, lab.Options{Queues: stacks}, onload.Config{Frames: 2048 * stacks, RingSize: 512, Stacks: stacks})
}

// makeUplinks is newUplinks with links and an engine as described.
func makeUplinks(t *testing.T, o lab.Options, c onload.Config, on ...int) *uplinks {
	t.Helper()
	return makeUnequalUplinks(t, [2]lab.Options{o, o}, c, on...)
}

// makeUnequalUplinks is makeUplinks with two kinds of links.
func makeUnequalUplinks(t *testing.T, o [2]lab.Options, c onload.Config, on ...int) *uplinks {
	t.Helper()
	p := lab.NewPair(t, o[0])
	u := &uplinks{A: p.A, R: p.B, a: [2]*lab.Link{p.A.Link}, r: [2]*lab.Link{p.B.Link}}
	var err error
	if u.a[1], u.r[1], err = lab.Veth(p.A, p.B, o[1]); err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{"net.ipv4.ip_nonlocal_bind", "net.ipv6.ip_nonlocal_bind"} {
		if err := u.R.Sysctl(s, "1"); err != nil {
			t.Fatal(err)
		}
	}
	for _, ns := range []*lab.NS{u.A, u.R} { // answers may come by another way than the question went
		for _, l := range []string{"all", "default", u.a[0].If, u.a[1].If} {
			if err := ns.Sysctl("net.ipv4.conf."+l+".rp_filter", "0"); err != nil {
				t.Fatal(err)
			}
		}
	}
	u.ip(t, u.R, "route add local 10.99.0.0/16 dev lo")
	u.ip(t, u.R, "-6 route add local fd99::/64 dev lo")
	u.echo(t)
	for i, l := range u.a {
		if len(on) == 0 || slices.Contains(on, i) {
			c.Interfaces = append(c.Interfaces, l.If)
		}
	}
	c.NetNS, c.Logger = u.A.Path, zap.NewNop()
	u.engine, err = onload.New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { u.engine.Close() })
	return u
}

// ip runs the tool of that name in a namespace.
func (u *uplinks) ip(t *testing.T, ns *lab.NS, args string) {
	t.Helper()
	if out, err := ns.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
		t.Fatalf("ip %s: %v: %s", args, err, out)
	}
}

// echoOn echoes to all clients of l, until the test ends.
func echoOn(t *testing.T, l net.Listener) {
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			}()
		}
	}()
}

// echo serves TCP on port 7 of every address of R.
func (u *uplinks) echo(t *testing.T) {
	l, err := u.R.Listen("tcp", ":7")
	if err != nil {
		t.Fatal(err)
	}
	echoOn(t, l)
}

// echoUDP serves UDP at one address of R, and returns that.
func (u *uplinks) echoUDP(t *testing.T, a netip.Addr) string {
	t.Helper()
	c, err := u.R.ListenPacket("udp", netip.AddrPortFrom(a, 0).String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	go func() {
		b := make([]byte, 4000)
		for {
			n, from, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = c.WriteTo(b[:n], from)
		}
	}()
	return c.LocalAddr().String()
}

// far is the n-th address of R's networks.
func far(v6 bool, n int) netip.Addr {
	if v6 {
		return netip.AddrFrom16([16]byte{0: 0xfd, 1: 0x99, 15: byte(n)})
	}
	return netip.AddrFrom4([4]byte{10, 99, 0, byte(n)})
}

// ask sends a question and reads the answer of an echo.
func ask(c net.Conn) error {
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	const question = "which way?"
	if _, err := io.WriteString(c, question); err != nil {
		return err
	}
	b := make([]byte, len(question))
	if _, err := io.ReadFull(c, b); err != nil {
		return err
	}
	if string(b) != question {
		return fmt.Errorf("the answer is %q", b)
	}
	return nil
}

// serve echoes on a listener of the engine at addr.
func (u *uplinks) serve(t *testing.T, addr string) net.Listener {
	t.Helper()
	l, err := u.engine.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	echoOn(t, l)
	return l
}

// dialFrom is a connection of the kernel's in R.
func (u *uplinks) dialFrom(local netip.Addr, addr string) (c net.Conn, err error) {
	err = u.R.Do(func() (err error) {
		d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(local, 0)), Timeout: patience}
		c, err = d.Dial("tcp", addr)
		return err
	})
	return c, err
}

// from connects from an address of R to addr.
func (u *uplinks) from(local netip.Addr, addr string) error {
	c, err := u.dialFrom(local, addr)
	if err != nil {
		return err
	}
	defer c.Close()
	return ask(c)
}

// addrOf is an address of a link.
func addrOf(l *lab.Link, v6 bool) netip.Addr {
	if v6 {
		return l.Addr6
	}
	return l.Addr4
}

// TestEqualCostPaths: a route with two paths. Every destination is reached, and
// reaches us, by TCP and UDP.
func TestEqualCostPaths(t *testing.T) {
	const peers = 12
	for _, v6 := range []bool{false, true} {
		for name, weights := range map[string][2]int{"equal": {1, 1}, "weights": {3, 1}, "stacks": {1, 1}} {
			t.Run(fmt.Sprintf("v6=%v/%s", v6, name), func(t *testing.T) {
				u := stackedUplinks(t, map[bool]int{true: 2, false: 1}[name == "stacks"])
				network := "-4 route add 10.99.0.0/16"
				if v6 {
					network = "-6 route add fd99::/64"
				}
				for i, w := range weights {
					network += fmt.Sprintf(" nexthop via %s dev %s weight %d", addrOf(u.r[i], v6), u.a[i].If, w)
				}
				u.ip(t, u.A, network)
				if v6 {
					if err := u.A.Sysctl("net.ipv6.fib_multipath_hash_policy", "1"); err != nil {
						t.Fatal(err)
					}
				}
				u.await(t, far(v6, 1))
				l := u.serve(t, ":0")
				unconnected, err := u.engine.ListenPacket("udp", ":0")
				if err != nil {
					t.Fatal(err)
				}
				defer unconnected.Close()
				by := map[string]int{}
				for n := range peers {
					a := far(v6, n+1)
					c, err := u.engine.Dial("tcp", netip.AddrPortFrom(a, 7).String())
					if err != nil {
						t.Errorf("dial %v: %v", a, err)
						continue
					}
					if err := ask(c); err != nil {
						t.Errorf("%v: %v", a, err)
					}
					by[onload.PathOf(c).Interface]++
					c.Close()
					at := u.echoUDP(t, a)
					d, err := u.engine.Dial("udp", at)
					if err != nil {
						t.Errorf("dial udp %v: %v", a, err)
						continue
					}
					if err := ask(d); err != nil {
						t.Errorf("udp %v: %v", a, err)
					}
					d.Close()
					if err := askFrom(unconnected, at); err != nil {
						t.Errorf("WriteTo %v: %v", a, err)
					}
					_, port, _ := net.SplitHostPort(l.Addr().String())
					if err := u.from(a, net.JoinHostPort(addrOf(u.a[n%2], v6).String(), port)); err != nil {
						t.Errorf("from %v: %v", a, err)
					}
				}
				t.Logf("connections by interface: %v", by)
			})
		}
	}
}

// await waits until the engine carries what goes to a, from any address or from
// the one given: it hears of routes and addresses a moment after the kernel.
func (u *uplinks) await(t *testing.T, a netip.Addr, local ...netip.Addr) {
	t.Helper()
	var from *net.UDPAddr
	for _, l := range local {
		from = net.UDPAddrFromAddrPort(netip.AddrPortFrom(l, 0))
	}
	for start := time.Now(); ; time.Sleep(time.Millisecond) {
		c, err := u.engine.DialUDP("udp", from, net.UDPAddrFromAddrPort(netip.AddrPortFrom(a, 7)))
		var path onload.Path
		if err == nil {
			path = onload.PathOf(c)
			c.Close()
			if path.Accelerated {
				return
			}
		}
		if time.Since(start) > patience {
			t.Fatalf("no way to %v: %v, %v", a, path, err)
		}
	}
}

// askFrom is ask by an unconnected socket.
func askFrom(c net.PacketConn, to string) error {
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	at, err := net.ResolveUDPAddr("udp", to)
	if err != nil {
		return err
	}
	if _, err := c.WriteTo([]byte("datagram"), at); err != nil {
		return err
	}
	b := make([]byte, 100)
	switch n, from, err := c.ReadFrom(b); {
	case err != nil:
		return err
	case string(b[:n]) != "datagram" || from.String() != at.String():
		return errors.New("another's answer")
	}
	return nil
}

// TestAsymmetricReplies: a client comes by the second link, and the route back
// leads by the first: listeners on all addresses, and on one.
func TestAsymmetricReplies(t *testing.T) {
	for i, v6 := range []bool{false, true, false} {
		u := stackedUplinks(t, 1+i/2)
		u.ip(t, u.A, fmt.Sprintf("route add %s via %s dev %s", netip.PrefixFrom(far(v6, 0), map[bool]int{false: 16, true: 64}[v6]), addrOf(u.r[0], v6), u.a[0].If))
		u.await(t, far(v6, 1))
		for _, at := range []string{":0", netip.AddrPortFrom(addrOf(u.a[1], v6), 0).String()} {
			_, port, _ := net.SplitHostPort(u.serve(t, at).Addr().String())
			if err := u.from(far(v6, 1), net.JoinHostPort(addrOf(u.a[1], v6).String(), port)); err != nil {
				t.Errorf("listener on %s: %v", at, err)
			}
		}
		// The mirror image: the answers come by the second link.
		u.ip(t, u.R, fmt.Sprintf("route add %s via %s dev %s", netip.PrefixFrom(addrOf(u.a[0], v6), addrOf(u.a[0], v6).BitLen()), addrOf(u.a[1], v6), u.r[1].If))
		for _, to := range []struct{ network, addr string }{
			{"tcp", netip.AddrPortFrom(far(v6, 2), 7).String()}, {"udp", u.echoUDP(t, far(v6, 2))},
		} {
			c, err := u.engine.Dial(to.network, to.addr)
			if err != nil {
				t.Fatal(err)
			}
			if err := ask(c); err != nil {
				t.Errorf("%s: %v", to.network, err)
			}
			if p := onload.PathOf(c); !p.Accelerated || p.Interface != u.a[0].If {
				t.Errorf("%s: %v", to.network, p)
			}
			c.Close()
		}
	}
}

// TestPathMoves: the route of living flows moves to the other link and back while
// they ask, from an address of a link and from one of the host's, on lo.
func TestPathMoves(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		for i, service := range []bool{false, true, false} {
			stacks := 1 + i/2
			t.Run(fmt.Sprintf("v6=%v/service=%v/stacks=%d", v6, service, stacks), func(t *testing.T) {
				u := stackedUplinks(t, stacks)
				bits := map[bool]int{false: 16, true: 64}[v6]
				move := func(i int) {
					u.ip(t, u.A, fmt.Sprintf("route replace %s via %s dev %s", netip.PrefixFrom(far(v6, 0), bits), addrOf(u.r[i], v6), u.a[i].If))
				}
				move(0)
				local := addrOf(u.a[0], v6)
				if service {
					local = netip.MustParseAddr(map[bool]string{false: "10.98.0.1", true: "fd98::1"}[v6])
					one := netip.PrefixFrom(local, local.BitLen())
					u.ip(t, u.A, fmt.Sprintf("addr add %s dev lo", one))
					back := move
					move = func(i int) {
						back(i)
						u.ip(t, u.R, fmt.Sprintf("route replace %s via %s dev %s", one, addrOf(u.a[i], v6), u.r[i].If))
					}
					move(0)
				}
				u.await(t, far(v6, 1), local)
				c, err := u.engine.DialTCP("tcp", net.TCPAddrFromAddrPort(netip.AddrPortFrom(local, 0)), net.TCPAddrFromAddrPort(netip.AddrPortFrom(far(v6, 1), 7)))
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				if p := onload.PathOf(c); !p.Accelerated {
					t.Fatalf("%v", p)
				}
				for i := range 6 {
					move(i % 2)
					for range 50 {
						if err := ask(c); err != nil {
							t.Fatalf("after %d moves: %v (%v)", i, err, onload.PathOf(c))
						}
					}
				}
				if p := onload.PathOf(c); !p.Accelerated {
					t.Errorf("%v", p)
				}
			})
		}
	}
}
