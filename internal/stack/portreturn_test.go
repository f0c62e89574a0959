package stack

import (
	"net/netip"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/driver/sim"
)

// whereSteering notes from where ports are given back.
type whereSteering struct {
	driver.Steering
	where chan string
}

func (w whereSteering) RemovePort(proto uint8, local netip.AddrPort) error {
	w.where <- string(debug.Stack())
	return w.Steering.RemovePort(proto, local)
}

// TestPortReturns: a connection that ends under the stack lock makes no system
// call there, and its port can be had again at once.
func TestPortReturns(t *testing.T) {
	where := make(chan string, 16)
	da, db, err := sim.New(sim.Config{}, sim.Config{}, sim.LinkConfig{})
	if err != nil {
		t.Fatal(err)
	}
	a, err := simStack(da, addrA, addrB, pairOptions{config: func(c *Config) { c.Links[0].Steering = whereSteering{c.Links[0].Steering, where} }})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	b, err := simStack(db, addrB, addrA, pairOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	l, err := b.ListenTCP(netip.AddrPortFrom(addrB, 0), nil)
	if err != nil {
		t.Fatal(err)
	}
	local := netip.AddrPortFrom(addrA, 7777)
	for range 8 {
		c, err := a.DialTCP(t.Context(), local, l.Addr(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.SetLinger(0); err != nil { // no TIME-WAIT
			t.Fatal(err)
		}
		c.Close()
		if stack := <-where; strings.Contains(stack, "bury") {
			t.Fatalf("a system call under the stack lock:\n%s", stack)
		}
	}
	u, err := a.OpenUDP(local, netip.AddrPort{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	k, err := a.ListenTCP(local, nil)
	if err != nil {
		t.Fatal(err)
	}
	u.Close()
	k.Close()
}
