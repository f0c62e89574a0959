package stack

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/onload-go/onload/driver/sim"
	"github.com/onload-go/onload/ip"
	"github.com/onload-go/onload/ring"
)

// TestTeamMemory: fragments of which no datagram comes together take no more of the
// memory that stacks share than one stack would let them have, or a quarter of a small
// one. Packets that wait for neighbours, or for their stack, may not take more either.
func TestTeamMemory(t *testing.T) {
	for _, n := range []int{1, 2, 4} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			team, _ := newTeam(t, n, pairOptions{nic: sim.Config{Frames: 8192, RxRing: 256}})
			arena := team[0].arena
			alone, _ := fragLimits(arena, 1)
			var fragments, parked int
			for _, s := range team {
				locked(s, func() { floodFragments(t, s, alone/arena.FrameSize()) })
				locked(s, func() {
					fragments += s.fragments.Held()
					parked += s.parkedFrames()
					s.fragments.Flush()
				})
			}
			if most := max(alone, len(arena.Mem())/4); fragments == 0 || fragments > most {
				t.Errorf("%d bytes of fragments, want %d at most", fragments, most)
			}
			if most := team[0].host.Reserve; parked == 0 || parked > most {
				t.Errorf("%d frames may wait for neighbours, want %d at most", parked, most)
			}
			if all := n * inboxFrames(arena.Frames(), n); all > arena.Frames()/8 {
				t.Errorf("%d frames in inboxes", all)
			}
		})
	}
}

// floodFragments gives s so many fragments, of datagrams and peers of their own.
func floodFragments(t *testing.T, s *Stack, frames int) {
	t.Helper()
	for i := range frames {
		f, ok := s.cache.Alloc()
		if !ok {
			t.Fatal("no frame")
		}
		src := netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)})
		p := ip.Packet{Src: src, Dst: addrA, Proto: ip.ProtoUDP,
			Fragment: true, MoreFrags: true, FragOff: 8, FragID: uint32(i), NetOff: 14, L4Off: 34, L4Len: 800}
		s.fragments.Add(&p, []ring.Desc{{Frame: f, Off: 100, Len: 800}}, 0, s.now)
	}
}

// TestTeamDescriptors: the stacks of a team reserve no more ports together than one
// stack, as each takes a descriptor of the process.
func TestTeamDescriptors(t *testing.T) {
	one := newPortTable(new(fewPorts), noSteering{}, 1)
	for _, n := range []int{2, 4, 64} {
		part := newPortTable(new(fewPorts), noSteering{}, n)
		if n*part.most > one.most || n*part.enough > one.most/2 {
			t.Errorf("%d stacks reserve %d ports each and keep %d, one %d and %d", n, part.most, part.enough, one.most, one.enough)
		}
	}
}

// TestTeamICMPRate: the limit on ICMP errors is the host's, whichever queues what they
// answer comes by.
func TestTeamICMPRate(t *testing.T) {
	team, _ := newTeam(t, 4, pairOptions{})
	allowed := 0
	for _, s := range team {
		locked(s, func() {
			for range 10 * icmpBurst {
				if s.icmp.Allow(s.now) {
					allowed++
				}
			}
		})
	}
	if allowed == 0 || allowed > 2*icmpBurst+len(team) { // each costs half of its price at least
		t.Errorf("%d errors at once, of a burst of %d", allowed, icmpBurst)
	}
}
