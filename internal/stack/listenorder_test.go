package stack

import (
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/driver/sim"
)

// newsSteering tells of each port that has just been steered, before AddPort returns.
type newsSteering struct {
	driver.Steering
	steered func(proto uint8, local netip.AddrPort)
}

func (n *newsSteering) AddPort(proto uint8, local netip.AddrPort) error {
	err := n.Steering.AddPort(proto, local)
	if n.steered != nil {
		n.steered(proto, local)
	}
	return err
}

// TestSteerLast: from the moment on that a port is steered, nobody who asks for it is
// refused, since the kernel may have served the port before.
func TestSteerLast(t *testing.T) {
	da, db, err := sim.New(sim.Config{}, sim.Config{}, sim.LinkConfig{})
	if err != nil {
		t.Fatal(err)
	}
	news := &newsSteering{}
	b, err := simStack(db, addrB, addrA, pairOptions{config: func(c *Config) {
		news.Steering = c.Links[0].Steering
		c.Links[0].Steering = news
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	a, err := simStack(da, addrA, addrB, pairOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	asked := 0
	ask := func(local netip.AddrPort) {
		asked++
		c, err := a.DialTCP(t.Context(), netip.AddrPort{}, netip.AddrPortFrom(addrB, local.Port()), nil)
		if err != nil {
			t.Errorf("dialing port %v as soon as it is steered: %v", local, err)
			return
		}
		c.Close()
	}
	send := func(from, local netip.AddrPort) {
		asked++
		u, err := a.OpenUDP(from, netip.AddrPortFrom(addrB, local.Port()), nil)
		if err != nil {
			t.Error(err)
			return
		}
		defer u.Close()
		if _, err := u.WriteTo([]byte("x"), netip.AddrPort{}); err != nil {
			t.Error(err)
		}
	}
	receive := func(u *UDPConn, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		defer u.Close()
		if err := u.SetReadDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		if _, _, _, _, err := u.ReadFrom(make([]byte, 1)); err != nil {
			t.Fatalf("a datagram sent as soon as %v is steered: %v", u.LocalAddr(), err)
		}
	}
	for _, at := range []netip.Addr{{}, netip.IPv4Unspecified(), addrB} {
		for _, o := range []TCPOptions{{}, {Shared: true}, {PortHeld: true}} {
			news.steered = func(_ uint8, local netip.AddrPort) { ask(local) }
			l, err := b.ListenTCP(netip.AddrPortFrom(at, 80), &o)
			if err != nil {
				t.Fatal(err)
			}
			l.Close()
			from := netip.AddrPortFrom(addrA, 1234)
			news.steered = func(_ uint8, local netip.AddrPort) { send(from, local) }
			receive(b.OpenUDP(netip.AddrPortFrom(at, 80), netip.AddrPort{}, &UDPOptions{Shared: o.Shared, PortHeld: o.PortHeld}))
			receive(b.OpenUDP(netip.AddrPortFrom(at, 80), from, &UDPOptions{Shared: o.Shared, PortHeld: o.PortHeld}))
		}
	}
	if asked != 27 {
		t.Errorf("%d ports were steered, want 27", asked)
	}
	news.steered = nil
}

// refusingSteering has no room left.
type refusingSteering struct{ driver.Steering }

func (refusingSteering) AddPort(uint8, netip.AddrPort) error { return syscall.ENOSPC }

// TestSteerFails: a port that cannot be steered is free again.
func TestSteerFails(t *testing.T) {
	a, _ := newPair(t, pairOptions{})
	device := a.ports.device
	local := netip.AddrPortFrom(addrA, 80)
	a.ports.device = refusingSteering{device}
	if _, err := a.ListenTCP(local, nil); err != syscall.ENOSPC {
		t.Errorf("listening: %v", err)
	}
	for _, peer := range []netip.AddrPort{{}, netip.AddrPortFrom(addrB, 53)} {
		if _, err := a.OpenUDP(local, peer, nil); err != syscall.ENOSPC {
			t.Errorf("UDP to %v: %v", peer, err)
		}
	}
	if _, err := a.DialTCP(t.Context(), local, netip.AddrPortFrom(addrB, 80), nil); err != syscall.ENOSPC {
		t.Errorf("dialing: %v", err)
	}
	a.ports.device = device
	l, err := a.ListenTCP(local, nil)
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	u, err := a.OpenUDP(local, netip.AddrPort{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	u.Close()
	if n := len(a.ports.steered); n != 0 {
		t.Errorf("%d ports are steered for nobody", n)
	}
}
