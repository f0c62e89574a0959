package stack

import (
	"runtime"
	"time"

	"github.com/onload-go/onload/driver"
)

// The packets of a link in memory come from goroutines of this process (Config.Called,
// driver.Caller). While nobody polls, the goroutine that sends them runs the
// receiver's poll turn too, and makes the reader ready: 0.2 us, where the reactor
// takes 5 us or more to wake it.
//
// Nothing is learned there. Each end would count the processor time of the other,
// and a thread that spins would yield to the other end's.

const (
	// calledSpin is how long a goroutine spins for packets of this process. Goroutines
	// that answer each other on two processors need 10 us, a writer that waits for
	// its reader up to 100.
	calledSpin = 100 * time.Microsecond
	// After vainMost spins in vain only one of vainEvery waits spins, until one
	// finds a packet.
	vainMost  = 4
	vainEvery = 16
)

// sparing reports whether the stack spins for packets of this process as here, rather
// than as a set profile or budget says.
func (c *Config) sparing() bool { return c.Called && c.Profile == Balanced && c.Spin == 0 }

// spin is the longest spin, in ns.
func (c *Config) spin() int64 {
	if c.sparing() {
		if runtime.GOMAXPROCS(0) == 1 {
			return 0 // who spins keeps the other end from running
		}
		return int64(calledSpin)
	}
	return c.Profile.spinBudget(c.Spin)
}

// startCalled has the queues call from now on.
func (s *Stack) startCalled() {
	w := &s.waits
	w.called = true
	w.sharing.off = s.cfg.sparing()
	w.arrival.Kind = ofArrival
	for _, q := range s.queues {
		q.(driver.Caller).OnArrival(s.packetsArrived)
	}
	s.begin()
	for !s.armLocked() {
		s.poll()
	}
	s.end()
}

// calledBudget is the budget of a wait that begins.
func (s *Stack) calledBudget() int64 {
	n := s.waits.vain.Load()
	if n < vainMost || n%vainEvery == 0 {
		return s.waits.spin
	}
	s.waits.vain.Add(1)
	return 0
}

// noteSpin notes whether a spin has found what it waited for.
func (w *waits) noteSpin(hit bool) {
	if !hit {
		w.vain.Add(1)
	} else if w.vain.Load() > 0 {
		w.vain.Store(0)
	}
}

// parkCalled is park. It arms the queues before, unless somebody polls. The leader
// arms them when it leaves others parked; for an Accept it does not, since nearly
// every server has one waiting.
func (s *Stack) parkCalled(k socket, d direction, w *waiter) {
	s.arm()
	if _, accepts := k.(*TCPListener); accepts {
		s.park(k, d, w)
		return
	}
	s.waits.parked.Add(1)
	s.park(k, d, w)
	s.waits.parked.Add(-1)
}

// packetsArrived runs a poll turn, or leaves it to the holder of the lock. The caller
// may hold the lock of the stack that sent the packets.
func (s *Stack) packetsArrived() {
	if s.beginOrDefer(&s.waits.arrival) {
		s.pollArrived()
		s.end()
	}
}

// pollArrived is that poll turn. Packets that it leaves on the rings bring no other
// call, so another turn takes them before the lock is given back. end follows.
func (s *Stack) pollArrived() {
	if !s.waits.armed.Load() || s.life.closing.Load() {
		return // somebody polls meanwhile, or nobody does any more
	}
	s.poll()
	switch {
	case s.waits.spin > 0 && s.waits.vain.Load() < vainMost && len(s.turn.wakes) > 0 && int(s.waits.parked.Load()) <= len(s.turn.wakes):
		s.disarm() // who was woken will poll, and nobody else waits
	case s.rxPending():
		s.lock.Post(&s.waits.arrival)
	default:
		s.endGather(true) // nobody looks soon whether more has come
	}
}
