package stack

import (
	"net/netip"
	"testing"
	"time"
)

// TestTeamStatsSockets: sockets with a shard on each stack count once, those of one
// stack each.
func TestTeamStatsSockets(t *testing.T) {
	team, _ := newTeam(t, 4, pairOptions{})
	listenOn(t, team, 80)
	for _, s := range team {
		for _, remote := range []netip.AddrPort{{}, netip.AddrPortFrom(addrB, 9)} {
			at := netip.AddrPortFrom(addrA, 53)
			if remote.IsValid() {
				at = netip.AddrPortFrom(addrA, 0)
			}
			u, err := s.OpenUDP(at, remote, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer u.Close()
		}
	}
	if st := TeamStats(team, 1); st.Listeners != 1 || st.UDPs != 1+len(team) {
		t.Errorf("%d listeners, %d UDP sockets; want 1 and %d", st.Listeners, st.UDPs, 1+len(team))
	}
}

// TestTeamOldSuccessor: a goroutine that waited for the leader's role long ago keeps
// nobody from polling its stack too.
func TestTeamOldSuccessor(t *testing.T) {
	team, _ := newTeam(t, 2, pairOptions{config: func(c *Config) { c.Spin = time.Hour }})
	l := listenOn(t, team, 80)
	m := &team[1].waits
	for _, tt := range []struct {
		age time.Duration
		led uint64
	}{{0, 0}, {2 * time.Hour, 1 << 1}} {
		m.successor.Store(new(waiter))
		m.successorAt.Store(nanotime() - int64(tt.age))
		led := team[0].leadMates(l)
		team[0].endMates(led, new(waiter), false)
		if m.successor.Store(nil); led != tt.led {
			t.Errorf("waiting for %v: stacks %b are led, want %b", tt.age, led, tt.led)
		}
	}
}
