package stack

import (
	"github.com/onload-go/onload/driver"
)

// poll is one turn: receive from every queue, run due timers. It returns the
// number of Descs received. The lock is held.
//
// A closing stack does nothing: end would leave the answers on the rings.
func (s *Stack) poll() (n int) {
	s.mustHold()
	if s.life.closing.Load() {
		return 0
	}
	starved, idle := false, false
	for i, q := range s.wire {
		k := s.receive(i, q)
		n += k
		idle = idle || k == 0
		if q.Lacks() >= s.rx.refillAt {
			starved = s.refill(q) || starved
		}
	}
	if len(s.turn.blocked) > 0 || len(s.turn.udpWait) > 0 {
		s.unblock()
	}
	s.kicker.due |= s.kicker.again
	s.kicker.again = 0
	if s.now >= s.nextTimer.Load() && s.caughtUp() {
		s.wheel.Advance(s.now, s.fire)
	}
	if s.now >= s.turn.gatherUntil {
		s.endGather(false)
	}
	if starved { // this comes after Advance, which may just have fired this timer
		s.setTimer(&s.turn.retry, s.now+rxRetry)
	}
	if idle { // a broken queue gives nothing
		s.checkQueues()
	}
	s.turns.Add(1)
	if n == 0 {
		s.counters.emptyPolls.Add(1)
	}
	return n
}

// rxRetry is when a queue that lacks frames is offered some again, in ns. A queue
// without any receives nothing, so only the clock brings us back to it.
const rxRetry = int64(1_000_000)

// refillMost is how many frames a queue may lack before it is offered some.
// Offering a batch costs hardly more than offering one.
const refillMost = 32

// refillAt is refillMost, or less for small rings.
func refillAt(rx, frames, queues int) int {
	return max(min(refillMost, rx/8, frames/queues/16), 1)
}

// refill gives a queue the frames that it lacks. It reports whether the queue still
// lacks so many that refill should be tried again.
func (s *Stack) refill(q driver.Queue) bool {
	q.Refill()
	if q.Lacks() < s.rx.refillAt {
		return false
	}
	s.cache.Flush() // the last free frames may be there
	q.Refill()
	return q.Lacks() >= s.rx.refillAt && q.Err() == nil // a broken queue takes none
}

// lateTurns is how many turns timers wait for the rings to be read.
const lateTurns = 8

// caughtUp reports whether timers may fire. After a pause of ours the
// acknowledgement that a retransmission timer waits for may still be on a ring.
func (s *Stack) caughtUp() bool {
	if s.turn.late < lateTurns && s.rxPending() {
		s.turn.late++
		return false
	}
	s.turn.late = 0
	return true
}
