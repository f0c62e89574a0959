package stack

import "github.com/onload-go/onload/ring"

// A section is what a goroutine does between taking the stack lock and giving
// it back. It begins with one of the functions here, which read the clock once,
// and always ends with end.

// begin takes the lock and begins a section. It may have to wait for the lock.
func (s *Stack) begin() {
	s.lock.Lock()
	s.now = nanotime()
}

// tryBegin begins a section if the lock is free, and reports whether it did.
func (s *Stack) tryBegin() bool {
	if !s.lock.TryLock() {
		return false
	}
	s.now = nanotime()
	return true
}

// tryBeginAt is tryBegin for a caller that has just read the clock: now may be
// a fraction of a microsecond old.
func (s *Stack) tryBeginAt(now int64) bool {
	if !s.lock.TryLock() {
		return false
	}
	s.now = max(s.now, now)
	return true
}

// beginOrDefer begins a section if the lock is free. Otherwise it leaves w for
// the holder of the lock, and returns false.
func (s *Stack) beginOrDefer(w *ring.Work) bool {
	if !s.lock.Defer(w) {
		return false
	}
	s.now = nanotime()
	return true
}

// end ends a section and unlocks. Before that it does the work that others
// deferred, sends what has become due, and wakes the goroutines that became ready.
// It returns their number.
func (s *Stack) end() (woken int) { return s.endDeferring(kickNow) }

// endDeferring is end, except for the kick, which is deferred as d says.
//
// The caller may be a goroutine that was started for one Write, with a small
// stack: calls from here on are kept shallow (TestStackUse, in package onload).
func (s *Stack) endDeferring(d deferral) (woken int) {
	var due uint64 // stacks of the team that were given packets
	for {
		s.lock.Take(s.doWork)
		woken += s.finishTurn(d)
		if m := &s.demux.mates; m.due != 0 {
			due, m.due = due|m.due, 0
		}
		if s.unlock() {
			break
		}
		d = kickNow
	}
	if due != 0 {
		woken += s.deliver(due)
	}
	return woken
}

// unlock sets nextTimer and unlocks, unless the holder of the lock has more to do.
// It reports whether it did.
func (s *Stack) unlock() bool {
	next := min(s.wheel.Next(), s.turn.gatherUntil)
	if s.kicker.deferred.Load() > 0 {
		next = min(next, s.kicker.since+reactorTick)
	}
	if next != s.nextTimer.Load() {
		s.nextTimer.Store(next)
	}
	guarded := s.guarded()
	if !s.lock.TryUnlock() {
		return false
	}
	if guarded {
		s.wakeReactorBy(next)
	}
	return true
}
