package stack

import "math/bits"

// A goroutine that waits on a socket with shards, in Accept or for a datagram, polls
// for all stacks of its team while it spins: what it waits for may come by any of
// their queues. It is the leader of those that have none. Goroutines that wait on a
// socket of one of them get that role back as soon as they want it.

// wide is a socket that packets to any stack of the team may make ready.
type wide interface{ wide() bool }

func (l *TCPListener) wide() bool { return true }

func (u *UDPConn) wide() bool { return !u.remote.IsValid() }

// leadMates makes the caller, who leads s and waits on k, the leader of the team's
// other stacks that have none. It returns their indices, a bit each.
//
//go:noinline
func (s *Stack) leadMates(k socket) (led uint64) {
	if x, ok := k.(wide); !ok || !x.wide() {
		return 0
	}
	for i, m := range s.team() {
		if m != s && !m.succeeded() && m.lead() {
			led |= 1 << i
		}
	}
	return led
}

// pollMates does a poll turn of each stack in led that has a packet, and leaves the
// role to goroutines that want it. It returns those that are still led.
//
//go:noinline
func (s *Stack) pollMates(led uint64, w *waiter) uint64 {
	for left := led; left != 0; left &= left - 1 {
		i := bits.TrailingZeros64(left)
		m := s.demux.mates.team.mate(i)
		if m.waits.successor.Load() != nil || m.life.closing.Load() {
			m.endLead(w, true)
			led &^= 1 << i
			continue
		}
		if m.rxPending() && m.tryBegin() {
			m.poll()
			if m.end() > 0 {
				s.giveWay()
			}
		}
	}
	return led
}

// endMates gives up the role for the stacks in led. hit says that the caller will
// most likely be back soon.
//
//go:noinline
func (s *Stack) endMates(led uint64, w *waiter, hit bool) {
	for ; led != 0; led &= led - 1 {
		s.demux.mates.team.mate(bits.TrailingZeros64(led)).endLead(w, hit)
	}
}
