package stack

import (
	"hash/maphash"
	"net/netip"
	"syscall"
	"testing"
	"time"
)

// TestReusePortFlows: the sockets of a group share flows out evenly, and only
// those of one that leaves move.
func TestReusePortFlows(t *testing.T) {
	const flows = 4000
	b := boundTable[int]{}
	keys := portKeys(netip.AddrPortFrom(netip.Addr{}, 80))
	seed := maphash.MakeSeed()
	local := netip.AddrPortFrom(addrB, 80)
	who := func(i int) int { return b.find(keys[0], seed, local, netip.AddrPortFrom(addrA, uint16(1000+i))) }
	for v := 1; v <= 4; v++ {
		if !b.add(keys, v, true) {
			t.Fatal("refused")
		}
	}
	if b.add(keys[1:], 5, false) {
		t.Error("one that does not share has the port too")
	}
	var before [flows]int
	var n [5]int
	for i := range before {
		before[i] = who(i)
		n[before[i]]++
	}
	for v := 1; v <= 4; v++ {
		if n[v] < flows/4*8/10 || n[v] > flows/4*12/10 {
			t.Errorf("%d flows of %d are of socket %d", n[v], flows, v)
		}
	}
	b.remove(keys, 2)
	for i := range before {
		if v := who(i); v == 2 || before[i] != 2 && v != before[i] {
			t.Fatalf("flow %d moved from %d to %d", i, before[i], v)
		}
	}
	for _, v := range []int{1, 3, 4} {
		b.remove(keys, v)
	}
	if len(b) != 0 || who(0) != 0 {
		t.Error("something is left")
	}
}

// TestReusePort: listeners, and UDP sockets, with SO_REUSEPORT share what comes
// in; one that leaves leaves it to the others.
func TestReusePort(t *testing.T) {
	a, b := newPair(t, pairOptions{})
	shared := &TCPOptions{Shared: true}
	one, err := b.ListenTCP(netip.AddrPortFrom(addrB, 0), shared)
	if err != nil {
		t.Fatal(err)
	}
	two, err := b.ListenTCP(one.Addr(), shared)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.ListenTCP(one.Addr(), nil); err != syscall.EADDRINUSE {
		t.Errorf("a listener that does not share: %v", err)
	}
	dial := func(n int) {
		t.Helper()
		for range n {
			c, err := a.DialTCP(t.Context(), netip.AddrPort{}, one.Addr(), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
		}
	}
	wait := func(what string, done func() bool) {
		t.Helper()
		for limit := time.Now().Add(patience); !done(); time.Sleep(time.Millisecond) {
			if time.Now().After(limit) {
				t.Fatal("not in time:", what)
			}
		}
	}
	dial(64)
	wait("64 connections", func() bool { return one.queued.Load()+two.queued.Load() == 64 })
	if n, m := one.queued.Load(), two.queued.Load(); n+m != 64 || n < 10 || m < 10 {
		t.Errorf("%d and %d connections", n, m)
	}
	one.Close()
	two.Close()
	if one, err = b.ListenTCP(one.Addr(), shared); err != nil {
		t.Fatal(err)
	}
	if two, err = b.ListenTCP(one.Addr(), shared); err != nil {
		t.Fatal(err)
	}
	one.Close()
	dial(8)
	wait("8 connections", func() bool { return two.queued.Load() == 8 })
	// A connection from the listeners' port, as peers do that punch holes.
	l, err := a.ListenTCP(netip.AddrPortFrom(addrA, 0), nil)
	if err != nil {
		t.Fatal(err)
	}
	c, err := b.DialTCP(t.Context(), two.Addr(), l.Addr(), shared)
	if err != nil {
		t.Fatal(err)
	}
	if c.LocalAddr() != two.Addr() {
		t.Errorf("from %v", c.LocalAddr())
	}
	two.Close()
	s, _, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if n, err := s.Read(make([]byte, 9)); n != 1 || err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
	c.SetLinger(0)
	c.Close()
	s.Close()
	l.Close()

	u1, err := b.OpenUDP(netip.AddrPortFrom(addrB, 0), netip.AddrPort{}, &UDPOptions{Shared: true})
	if err != nil {
		t.Fatal(err)
	}
	u2, err := b.OpenUDP(u1.LocalAddr(), netip.AddrPort{}, &UDPOptions{Shared: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.OpenUDP(u1.LocalAddr(), netip.AddrPort{}, nil); err != syscall.EADDRINUSE {
		t.Errorf("a socket that does not share: %v", err)
	}
	for range 64 {
		u, err := a.OpenUDP(netip.AddrPort{}, u1.LocalAddr(), nil)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 { // a flow stays with one
			if _, err := u.WriteTo([]byte("x"), netip.AddrPort{}); err != nil {
				t.Fatal(err)
			}
		}
		u.Close()
	}
	count := func(u *UDPConn) (n int) {
		for u.ready(dirRead) {
			if _, _, _, _, err := u.ReadFrom(make([]byte, 9)); err != nil {
				t.Fatal(err)
			}
			n++
		}
		return n
	}
	wait("128 datagrams", func() bool { return b.Stats().UDPIn == 128 })
	if n, m := count(u1), count(u2); n+m != 128 || n%2 != 0 || n < 20 || m < 20 {
		t.Errorf("%d and %d datagrams", n, m)
	}
	u1.Close()
	u2.Close()
	if z := b.sizes(); z.listeners != 0 || z.udps != 0 || z.ports != 0 && z.flows+z.timeWaits == 0 {
		t.Errorf("left: %+v", z)
	}
}
