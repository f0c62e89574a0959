package stack

import (
	"context"
	"net/netip"
	"testing"
	"time"

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

// patience bounds what would hang. No verdict depends on how fast the machine is.
const patience = time.Minute

// pairOptions vary newPair.
type pairOptions struct {
	profile Profile
	link    sim.LinkConfig
	nic     sim.Config
	tcp     tcp.Config
	config  func(*Config)
}

// newPair joins two stacks by an in-memory link.
func newPair(t testing.TB, o pairOptions) (a, b *Stack) {
	t.Helper()
	a, b, err := makePair(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, s := range []*Stack{a, b} {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
	})
	return a, b
}

func makePair(o pairOptions) (a, b *Stack, err error) {
	da, db, err := sim.New(o.nic, o.nic, o.link)
	if err != nil {
		return nil, nil, err
	}
	if a, err = simStack(da, addrA, addrB, o); err != nil {
		db.Close()
		return nil, nil, err
	}
	if b, err = simStack(db, addrB, addrA, o); err != nil {
		a.Close()
	}
	return a, b, err
}

// simStack makes a stack at local that knows its neighbour remote.
func simStack(dev *sim.Device, local, remote netip.Addr, o pairOptions) (*Stack, error) {
	n := control.NewStatic(control.Link{
		Index: 1, Name: dev.Name(), MAC: macs[local], MTU: dev.Caps().MTU, Up: true,
		Addrs: []netip.Prefix{netip.PrefixFrom(local, 24), netip.PrefixFrom(six[local], 64)},
	})
	n.SetNeighbor(1, remote, macs[remote])
	n.SetNeighbor(1, six[remote], macs[remote])
	c := Config{Net: n, Profile: o.profile, TCP: o.tcp}
	c.Over(1, dev)
	if o.config != nil {
		o.config(&c)
	}
	return New(c)
}

// locked calls f in a section: fields of s that the reactor also touches are read
// and written there only.
func locked(s *Stack, f func()) {
	s.begin()
	defer s.end()
	f()
}

// takeAll returns when s has processed all that its queues held.
func takeAll(s *Stack) {
	for more := true; more; {
		s.pollOnce()
		// The lock tells: its holder may have some packets in hand.
		locked(s, func() { more = s.rxPending() })
	}
}

// connect makes a connection from a to b.
func connect(t testing.TB, a, b *Stack, to netip.Addr) (c, s *TCPConn) {
	t.Helper()
	c, s, err := makeConn(t.Context(), a, b, to)
	if err != nil {
		t.Fatal(err)
	}
	return c, s
}

func makeConn(ctx context.Context, a, b *Stack, to netip.Addr) (c, s *TCPConn, err error) {
	l, err := b.ListenTCP(netip.AddrPortFrom(to, 0), nil)
	if err != nil {
		return nil, nil, err
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
	if c, err = a.DialTCP(ctx, netip.AddrPort{}, l.Addr(), nil); err != nil {
		return nil, nil, err
	}
	r := <-done
	return c, r.c, r.err
}
