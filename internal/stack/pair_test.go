package stack

import (
	"net/netip"
	"testing"

	"github.com/onload-go/onload/driver/sim"
	"github.com/onload-go/onload/internal/control"
	"github.com/onload-go/onload/tcp"
)

var (
	addrA = netip.MustParseAddr("10.0.0.1")
	addrB = netip.MustParseAddr("10.0.0.2")
	six   = map[netip.Addr]netip.Addr{
		addrA: netip.MustParseAddr("fd00::1"),
		addrB: netip.MustParseAddr("fd00::2"),
	}
	macs = map[netip.Addr][6]byte{addrA: {2, 0, 0, 0, 0, 1}, addrB: {2, 0, 0, 0, 0, 2}}
)

// pairOptions vary newPair.
type pairOptions struct {
	profile Profile
	link    sim.LinkConfig
	nic     sim.Config
	tcp     tcp.Config
}

// newPair joins two stacks by an in-memory link. The test fails when either
// ends with frames missing.
func newPair(t testing.TB, o pairOptions) (a, b *Stack) {
	t.Helper()
	da, db, err := sim.New(o.nic, o.nic, o.link)
	if err != nil {
		t.Fatal(err)
	}
	make := func(dev *sim.Device, local, remote netip.Addr) *Stack {
		n := control.NewStatic(control.Link{
			Index: 1, Name: dev.Name(), MAC: macs[local], MTU: dev.Caps().MTU, Up: true,
			Addrs: []netip.Prefix{netip.PrefixFrom(local, 24), netip.PrefixFrom(six[local], 64)},
		})
		n.SetNeighbor(1, remote, macs[remote])
		n.SetNeighbor(1, six[remote], macs[remote])
		s, err := New(Config{Name: dev.Name(), Link: 1, Device: dev, Net: n, Profile: o.profile, TCP: o.tcp})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
		return s
	}
	return make(da, addrA, addrB), make(db, addrB, addrA)
}

// connect makes a connection from a to b.
func connect(t testing.TB, a, b *Stack, to netip.Addr) (c, s *TCPConn) {
	t.Helper()
	l, err := b.ListenTCP(netip.AddrPortFrom(to, 0), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	type result struct {
		c   *TCPConn
		err error
	}
	done := make(chan result, 1)
	go func() {
		c, _, err := l.Accept()
		done <- result{c, err}
	}()
	c, err = a.DialTCP(t.Context(), netip.AddrPort{}, l.Addr(), nil)
	if err != nil {
		t.Fatal(err)
	}
	r := <-done
	if r.err != nil {
		t.Fatal(r.err)
	}
	return c, r.c
}
