package stack

import (
	"fmt"
	"net/netip"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/driver/sim"
	"github.com/onload-go/onload/internal/control"
	"github.com/onload-go/onload/ip"
)

// newRouted is newPair with the network that a sees.
func newRouted(t testing.TB, o pairOptions) (a, b *Stack, net *control.Static) {
	t.Helper()
	o.config = func(c *Config) {
		if net == nil {
			net = c.Net.(*control.Static)
		}
	}
	a, b = newPair(t, o)
	return a, b, net
}

// TestUDPNoRoute: while there is no route every write of a connected socket
// says so, and a reader does not hear of it, as on Linux.
func TestUDPNoRoute(t *testing.T) {
	for _, to := range []netip.Addr{addrB, six[addrB]} {
		a, b, net := newRouted(t, pairOptions{})
		c := udpPair(t, a, b, to, nil)
		c.SetDeadline(time.Now().Add(patience))
		read := make(chan error, 1)
		go func() {
			n, _, _, _, err := c.ReadFrom(make([]byte, 4))
			if err == nil && n != 4 {
				err = fmt.Errorf("read %d bytes", n)
			}
			read <- err
		}()
		for c.r.state.Load() == waiterIdle {
			time.Sleep(time.Millisecond)
		}
		link, _ := net.Link(1)
		down := link
		down.Up = false
		net.SetLink(down)
		for range 3 {
			if _, err := c.WriteTo([]byte("lost"), netip.AddrPort{}); err != syscall.ENETUNREACH {
				t.Errorf("%v: write without a route: %v", to, err)
			}
		}
		if u, err := a.OpenUDP(netip.AddrPort{}, c.RemoteAddr(), nil); err != syscall.ENETUNREACH {
			t.Errorf("%v: opened without a route: %v, %v", to, u, err)
		}
		net.SetLink(link)
		if _, err := c.WriteTo([]byte("back"), netip.AddrPort{}); err != nil {
			t.Errorf("%v: write: %v", to, err)
		}
		if err := <-read; err != nil {
			t.Errorf("%v: read: %v", to, err)
		}
	}
}

// TestUDPTooBigIsAnError: a connected socket learns that its datagram was too
// large for the path, once (RFC 1122, 4.1.3.3; Linux with IP_PMTUDISC_WANT).
func TestUDPTooBigIsAnError(t *testing.T) {
	for _, to := range []netip.Addr{addrB, six[addrB]} {
		a, b := newPair(t, pairOptions{nic: sim.Config{TakeAll: true}})
		c := udpPair(t, a, b, to, nil)
		quote := packetOf(c.LocalAddr().Addr(), to, ip.ProtoUDP, udpOf(c.LocalAddr(), c.RemoteAddr(), make([]byte, 1400)))[14:600]
		m := icmpOf(to, c.LocalAddr().Addr(), 2, 0, 1300, quote)
		if to.Is4() {
			m = icmpOf(to, c.LocalAddr().Addr(), 3, 4, 1300, quote)
		}
		a.cfg.Links[0].Steering.(*sim.Device).Inject(0, m)
		c.SetDeadline(time.Now().Add(patience))
		if _, _, _, _, err := c.ReadFrom(make([]byte, 1)); err != syscall.EMSGSIZE {
			t.Errorf("%v: %v", to, err)
		}
		if _, err := c.WriteTo([]byte{1}, netip.AddrPort{}); err != nil {
			t.Errorf("%v: write: %v", to, err)
		}
		if _, _, _, _, err := c.ReadFrom(make([]byte, 1)); err != nil {
			t.Errorf("%v: read: %v", to, err)
		}
	}
}

// TestNextHopChanged: once the route leads to another gateway, the old one gets
// nothing, also while the new one is still asked for.
func TestNextHopChanged(t *testing.T) {
	far := netip.MustParsePrefix("172.16.0.0/16")
	old, new := netip.MustParseAddr("10.0.0.3"), netip.MustParseAddr("10.0.0.4")
	oldMAC, newMAC := [6]byte{2, 0, 0, 0, 0, 3}, [6]byte{2, 0, 0, 0, 0, 4}
	var toOld, toNew atomic.Int64
	a, _, net := newRouted(t, pairOptions{link: sim.LinkConfig{Tap: func(d sim.Dir, f []byte) {
		switch {
		case d != sim.AtoB:
		case [6]byte(f) == oldMAC:
			toOld.Add(1)
		case [6]byte(f) == newMAC:
			toNew.Add(1)
		}
	}}})
	a.begin()
	net.OnResolve = func(int, netip.Addr) {}
	a.end()
	net.SetNeighbor(1, old, oldMAC)
	net.AddRoute(control.StaticRoute{Dst: far, Link: 1, Gateway: old})
	u, err := a.OpenUDP(netip.AddrPort{}, netip.MustParseAddrPort("172.16.0.1:9"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	write := func() {
		t.Helper()
		if _, err := u.WriteTo([]byte{1}, netip.AddrPort{}); err != nil {
			t.Fatal(err)
		}
	}
	write()
	net.AddRoute(control.StaticRoute{Dst: netip.MustParsePrefix("172.16.0.1/32"), Link: 1, Gateway: new})
	write()
	net.SetNeighbor(1, new, newMAC)
	write()
	if toOld.Load() != 1 || toNew.Load() != 2 {
		t.Errorf("the old gateway got %d packets, the new one %d; want 1 and 2", toOld.Load(), toNew.Load())
	}
}

// TestHoldEnds: packets do not wait for a neighbour for ever whom the kernel,
// asked for too many, never speaks of.
func TestHoldEnds(t *testing.T) {
	a, _, net := newRouted(t, pairOptions{})
	a.begin()
	net.OnResolve = func(int, netip.Addr) {}
	a.end()
	u, err := a.OpenUDP(netip.AddrPortFrom(addrA, 0), netip.AddrPort{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	for i := range 100 {
		if _, err := u.WriteTo([]byte{1}, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(100 + i)}), 9)); err != nil {
			t.Fatal(err)
		}
	}
	for _, wait := range []int64{resolveMost - 1e9, resolveMost + 1e9} {
		a.begin()
		a.now += wait
		a.wheel.Advance(a.now, a.fire)
		if early := wait < resolveMost; early != (a.dests.parked > 0) || early != (len(a.dests.all) > 2) {
			t.Errorf("after %v %d frames wait, for %d destinations", time.Duration(wait), a.dests.parked, len(a.dests.all))
		}
		a.now = nanotime()
		a.end()
	}
	if n := a.Stats().TxUnresolved; n != 100 {
		t.Errorf("%d packets dropped while they waited", n)
	}
}

// TestLinkDownMany: a link that goes down with many connections on it is a
// matter of one pass over them: eight times as many cost eight times as much, not
// 64 times. Caches and neighbours of the processor make it more at times, but not
// each time.
func TestLinkDownMany(t *testing.T) {
	const n = 20000
	for range 5 {
		few, many := linkDown(t, n/8), linkDown(t, n)
		t.Logf("%d connections took %v, %d %v", n/8, few, n, many)
		if many <= 24*few {
			return
		}
	}
	t.Error("too long")
}

// linkDown returns how much time of the processor it takes that n connections
// hear of a link that went down.
func linkDown(t *testing.T, n int) time.Duration {
	t.Helper()
	a, _, net := newRouted(t, pairOptions{nic: sim.Config{Frames: 8192}})
	net.AddRoute(control.StaticRoute{Dst: netip.MustParsePrefix("172.16.0.0/12"), Link: 1, Gateway: addrB})
	for i := range n {
		to := netip.AddrPortFrom(netip.AddrFrom4([4]byte{172, 16, byte(i >> 8), byte(i)}), 9)
		if _, _, err := a.open(netip.AddrPortFrom(addrA, 1000), to, nil, &TCPOptions{PortHeld: true}); err != nil {
			t.Fatal(err)
		}
	}
	link, _ := net.Link(1)
	link.Up = false
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	start := threadTime(t)
	net.SetLink(link)
	d := threadTime(t) - start
	if s := a.Stats(); s.Conns != 0 {
		t.Errorf("%d connections are left in SYN-SENT without a route", s.Conns)
	}
	return d
}

// threadTime is how long this thread has run.
func threadTime(t *testing.T) time.Duration {
	t.Helper()
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
		t.Fatal(err)
	}
	return time.Duration(ts.Nano())
}

// TestUDPSource: a socket on all addresses sends from the one that the route
// prefers at the time, or that the caller names for this datagram alone.
func TestUDPSource(t *testing.T) {
	a, b, net := newRouted(t, pairOptions{})
	other := netip.MustParseAddr("10.0.0.5")
	link, _ := net.Link(1)
	link.Addrs = append(link.Addrs, netip.PrefixFrom(other, 24))
	net.SetLink(link)
	u, err := a.OpenUDP(netip.AddrPort{}, netip.AddrPort{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	peer, err := b.OpenUDP(netip.AddrPortFrom(addrB, 0), netip.AddrPort{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	for _, size := range []int{1, 1000} { // both ways of sending
		send := func(src, want netip.Addr) {
			t.Helper()
			if _, err := u.WriteFrom(make([]byte, size), src, peer.LocalAddr()); err != nil {
				t.Fatal(err)
			}
			peer.SetReadDeadline(time.Now().Add(patience))
			if _, _, from, _, err := peer.ReadFrom(nil); from.Addr() != want || err != nil {
				t.Errorf("%d bytes from %v, %v; want %v", size, from, err, want)
			}
		}
		send(netip.Addr{}, addrA)
		send(other, other)
		send(netip.Addr{}, addrA)
		host := netip.PrefixFrom(addrB, 32)
		net.AddRoute(control.StaticRoute{Dst: host, Link: 1, Src: other})
		send(netip.Addr{}, other)
		net.DelRoute(host)
		send(netip.Addr{}, addrA)
	}
}

// TestStaleNeighbour: a neighbour that is known no more is asked for when there
// is something to send, and no more than once a second (RFC 1122, 2.3.2.1), not
// for ever on behalf of sockets that are idle.
func TestStaleNeighbour(t *testing.T) {
	a, b, net := newRouted(t, pairOptions{})
	var asked atomic.Int64
	a.begin()
	net.OnResolve = func(int, netip.Addr) { asked.Add(1) }
	a.end()
	c := udpPair(t, a, b, addrB, nil)
	for range 10 {
		net.FailNeighbor(1, addrB) // as often as the kernel gives up
	}
	if n := asked.Load(); n != 0 {
		t.Errorf("idle: asked %d times", n)
	}
	c.SetDeadline(time.Now().Add(patience))
	for _, size := range []int{1, 1000, 4000} {
		if _, err := c.WriteTo(make([]byte, size), netip.AddrPort{}); err != nil {
			t.Fatal(err)
		}
		if n, _, _, _, err := c.ReadFrom(make([]byte, size)); n != size || err != nil {
			t.Fatal(n, err) // the address of before is good still
		}
	}
	if n := asked.Load(); n != 1 {
		t.Errorf("asked %d times, want once", n)
	}
	net.SetNeighbor(1, addrB, macs[addrB])
	if a.begin(); c.dst.stale {
		t.Error("still stale")
	}
	a.end()
}

// TestUDPNoSource: a host without an address of the family sends nothing: it was
// a packet of the other one.
func TestUDPNoSource(t *testing.T) {
	var sent atomic.Int64
	a, _, net := newRouted(t, pairOptions{link: sim.LinkConfig{Tap: func(d sim.Dir, _ []byte) {
		if d == sim.AtoB {
			sent.Add(1)
		}
	}}})
	link, _ := net.Link(1)
	link.Addrs = link.Addrs[1:]
	net.SetLink(link)
	net.AddRoute(control.StaticRoute{Dst: netip.MustParsePrefix("10.0.0.0/24"), Link: 1})
	if u, err := a.OpenUDP(netip.AddrPort{}, netip.AddrPortFrom(addrB, 9), nil); err != syscall.EADDRNOTAVAIL {
		t.Errorf("%v, %v", u, err)
	}
	u, err := a.OpenUDP(netip.AddrPort{}, netip.AddrPort{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	u.WriteTo([]byte{1}, netip.AddrPortFrom(addrB, 9))
	if n := sent.Load(); n != 0 {
		t.Errorf("sent %d packets", n)
	}
}
