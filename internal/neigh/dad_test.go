package neigh

import (
	"errors"
	"net/netip"
	"testing"
	"time"
)

// TestAddressIsFree: an address that nobody has is ours within two seconds, and then
// announced; nothing uses it before.
func TestAddressIsFree(t *testing.T) {
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			w := new(wire)
			a, b := w.join(1, false, f.a), w.join(2, true, f.b)
			b.Resolve(f.addrA, w.now)
			w.run(50 * time.Millisecond)
			if _, ok := b.known[f.addrA]; ok {
				t.Error("a tentative address answers")
			}
			w.run(2 * time.Second)
			if err, ok := a.state[f.addrA]; !ok || err != nil {
				t.Fatalf("state %v", a.state)
			}
			if b.known[f.addrA] != mac(1) {
				t.Errorf("the neighbour waits for the address, and does not hear of it: %v", b.known)
			}
		})
	}
}

// TestAddressIsTaken: an address that another host has is not ours, and the other
// one keeps it undisturbed.
func TestAddressIsTaken(t *testing.T) {
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			w := new(wire)
			b, peer := w.join(2, true, f.b), w.join(3, true, f.c)
			w.run(10 * time.Second)
			peer.Resolve(f.addrB, w.now)
			w.deliver()
			a := w.join(1, false, f.b)
			w.run(time.Minute)
			if !errors.Is(a.state[f.addrB], ErrDuplicate) || a.visitor != mac(2) {
				t.Fatalf("state %v, because of %x", a.state, a.visitor)
			}
			if b.state[f.addrB] != nil || peer.known[f.addrB] != mac(2) {
				t.Errorf("the owner has %v, the peer knows %v", b.state, peer.known)
			}
			a.Resolve(netip.MustParsePrefix(f.c).Addr(), w.now)
			w.run(10 * time.Second)
			if peer.known[f.addrB] != mac(2) {
				t.Error("the duplicate address is used")
			}
		})
	}
}

// TestBothProbe: of two hosts that take an address at the same time not both get it.
func TestBothProbe(t *testing.T) {
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			w := new(wire)
			a, b := w.join(1, false, f.a), w.join(2, false, f.a)
			w.run(time.Minute)
			got := 0
			for _, e := range []*end{a, b} {
				if err, ok := e.state[f.addrA]; !ok {
					t.Error("no end")
				} else if err == nil {
					got++
				}
			}
			if got > 1 {
				t.Error("both have the address")
			}
		})
	}
}

// TestDefence: an address that is ours is defended, not more than once in ten
// seconds: two hosts that have one address do not flood the link.
func TestDefence(t *testing.T) {
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			w := new(wire)
			a := w.join(1, true, f.a)
			w.run(10 * time.Second)
			a.sent = nil
			b := w.join(2, true, f.a) // configured twice
			for range 100 {
				b.announce(b.own[0])
				w.deliver()
			}
			if len(a.sent) != 1 {
				t.Errorf("%d frames in defence", len(a.sent))
			}
			if !errors.Is(a.state[f.addrA], ErrDuplicate) || a.Counters().Conflicts < 100 {
				t.Errorf("state %v, %+v", a.state, a.Counters())
			}
			w.run(time.Minute)
			if n := len(a.sent) + len(b.sent); n > 110 {
				t.Errorf("%d frames: the hosts answer each other", n)
			}
		})
	}
}
