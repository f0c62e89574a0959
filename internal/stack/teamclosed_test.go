package stack

import (
	"net/netip"
	"testing"
	"time"
)

// TestTeamClosedMember: over a link in memory packets to a stack that has closed,
// while its team goes on, keep no sender.
func TestTeamClosedMember(t *testing.T) {
	team, peer := newTeam(t, 2, pairOptions{config: func(c *Config) { c.Called, c.Spin = true, -1 }})
	to, err := team[1].OpenUDP(netip.AddrPortFrom(addrA, 53), netip.AddrPort{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	if err := team[0].Close(); err != nil {
		t.Fatal(err)
	}
	sent := make(chan error, 1)
	go func() {
		for i := range 16 { // from ports whose hashes lead to both queues
			u, err := peer.OpenUDP(netip.AddrPortFrom(addrB, uint16(6000+i)), netip.AddrPort{}, nil)
			if err == nil {
				_, err = u.WriteTo([]byte("x"), to.LocalAddr())
				u.Close()
			}
			if err != nil {
				sent <- err
				return
			}
		}
		sent <- nil
	}()
	select {
	case err := <-sent:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(patience):
		t.Fatal("a send does not return")
	}
}
