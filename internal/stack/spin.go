package stack

// budget returns how long a wait that begins at now may spin, in ns.
func (s *Stack) budget(now int64) int64 {
	if s.waits.policy == nil {
		if s.waits.sharing.off {
			return s.calledBudget()
		}
		return s.waits.spin
	}
	if now < s.waits.sharedUntil.Load() {
		return 0
	}
	return s.waits.spinNow.Load()
}

// lead makes the caller the stack's one spinning goroutine.
func (s *Stack) lead() bool {
	if s.waits.leader.Load() || !s.waits.leader.CompareAndSwap(false, true) {
		return false
	}
	if s.life.closing.Load() {
		// Close waits for the leader before it takes the rings away.
		s.waits.leader.Store(false)
		return false
	}
	if s.seated() {
		s.unseat() // it would be told of each packet that we poll
	}
	s.waits.reactor.forget()
	if (s.waits.armed.Load() || s.waits.seat != nil && s.waits.seat.open() != s.waits.seat.wanted.Load()) && s.tryBegin() {
		s.disarm()
		_ = s.settleSeat() // if it fails nobody sits
		s.end()
	}
	return true
}

const (
	// spinLooks is how many empty looks at the rings pass between looks at the
	// clock. A look costs some nanoseconds, the clock 25 to 50.
	spinLooks = 32
	// yieldEvery is how long a spin goes on before it lets other goroutines
	// run. That costs 0.2 us, or 1.2 us where the netpoller is asked too.
	yieldEvery = int64(10_000)
	// othersRan is how long a yield takes, in ns, if other goroutines ran.
	othersRan = int64(1_000)
	// leadTurns is how often in a row a leader polls only for others, before it
	// leaves the role to them.
	leadTurns = 64
)

// spinFor polls the queues. It returns true when k is ready or w's deadline passes,
// false when no packet has come for the budget. The caller is the leader, and gives
// up the role.
func (s *Stack) spinFor(k socket, d direction, w *waiter, start, budget int64) bool {
	began := start
	if s.demux.mates.team != nil {
		s.waits.led = s.leadMates(k)
	}
	hit := s.spinUntil(k, d, w, start, budget)
	if s.waits.led != 0 {
		s.endMates(s.waits.led, w, hit)
		s.waits.led = 0
	}
	if now := nanotime(); s.waits.sharing.end(now - began) {
		s.noteShared(now)
	}
	s.endLead(w, hit)
	return hit
}

// endLead gives up the leader's role. hit says that a packet ended the wait of w.
func (s *Stack) endLead(w *waiter, hit bool) {
	s.waits.leader.Store(false)
	if s.waits.called {
		s.waits.noteSpin(hit)
	}
	if hit {
		s.succeed(w)
		if s.waits.seat != nil && s.waits.seat.mustArm() || s.waits.parked.Load() > 0 {
			s.arm()
		}
	} else if s.waits.seat == nil || !s.waits.seat.open() {
		s.arm()
	}
}

func (s *Stack) spinUntil(k socket, d direction, w *waiter, start, budget int64) bool {
	// The first look at the clock yields: other goroutines may be ready to run,
	// perhaps the one that will send the answer.
	yielded, now := start-yieldEvery, start
	first := true
	fresh := true // the clock was read some looks ago, and none has found anything since
	others := 0
	h := &s.waits.sharing
	h.begin(start)
	for i := 1; ; i++ {
		if s.rxPending() && (fresh && s.tryBeginAt(now) || !fresh && s.tryBegin()) {
			fresh = false
			if s.poll() > 0 {
				s.arrived(s.now-start, false)
				start = s.now
			}
			if s.end() > 0 {
				s.giveWay()
				if others++; others > leadTurns && !k.ready(d) {
					return false
				}
			}
			h.looked, h.base = 0, -1
		}
		if s.waits.led != 0 {
			s.waits.led = s.pollMates(s.waits.led, w)
		}
		if k.ready(d) {
			s.counters.spinHits.Add(1)
			return true
		}
		if i%spinLooks != 0 {
			continue
		}
		now, fresh = nanotime(), true
		if now >= s.nextTimer.Load() && s.tryBeginAt(now) {
			s.poll()
			s.end()
			h.looked = 0
		}
		if w.expired(now) {
			return true
		}
		if now-start > budget {
			break
		}
		shared := h.look(now)
		if now-yielded >= yieldEvery {
			more := false
			if first {
				more, first = s.waits.breath.first(now), false
			} else {
				s.waits.away.Store(true)
				s.waits.breath.take(now)
				s.waits.away.Store(false)
			}
			after := nanotime()
			if yielded = after; more && after-now > othersRan {
				yielded -= yieldEvery
			}
			start += after - now // the others' time is not our spinning
			now = after
			h.looked, h.base = now, -1
		}
		if now >= h.next {
			shared = h.yield() || shared
			now = h.looked
		}
		if shared {
			if s.noteShared(now); s.waits.policy != nil {
				break
			}
		}
	}
	s.counters.spinMisses.Add(1)
	s.waits.reactor.since.Store(start)
	return false
}

// succeed hands the leader's role to a goroutine that parked because there
// was a leader, if its own budget is not spent yet.
func (s *Stack) succeed(w *waiter) {
	if s.waits.successor.Load() == nil {
		return
	}
	next := s.waits.successor.Swap(nil)
	if next != nil && next != w && nanotime()-s.waits.successorAt.Load() < s.waits.spin {
		s.wake(next)
	}
}

// succeeded reports whether a goroutine waits for the leader's role. It forgets one that
// has waited for longer than it would spin: it was woken since, or sleeps on.
func (s *Stack) succeeded() bool {
	next := s.waits.successor.Load()
	if next == nil {
		return false
	}
	if nanotime()-s.waits.successorAt.Load() < s.waits.spin {
		return true
	}
	s.waits.successor.CompareAndSwap(next, nil)
	return false
}

// pollOnce does one poll turn for a caller that may not spin, and reports
// whether anything was there.
func (s *Stack) pollOnce() bool {
	if !s.lead() {
		return false
	}
	n := 0
	if s.rxPending() && s.tryBegin() {
		n = s.poll()
		s.end()
	}
	s.waits.leader.Store(false)
	if n == 0 {
		s.arm()
	}
	return n > 0
}
