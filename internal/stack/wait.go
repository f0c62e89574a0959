package stack

import (
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// direction is what a goroutine waits for on a socket.
type direction uint8

const (
	dirRead direction = iota
	dirWrite
)

// socket is what wait knows of those that wait: ready is cheap, lock-free,
// and true also when the socket is closed or broken.
type socket interface {
	ready(direction) bool
}

const (
	waiterIdle uint32 = iota
	waiterParked
	waiterSeated
)

// waiter is the slot on which one goroutine per direction of a socket parks.
// Data, close and deadline share it, and a wait allocates nothing after the
// first.
type waiter struct {
	state atomic.Uint32
	spin  int32                   // adaptive budget, ns; 0: not yet known
	more  atomic.Pointer[waiting] // made by who first parks or sets a deadline
}

// waiting is what a waiter needs that somebody waits on.
type waiting struct {
	ch       chan bool    // true: counted in Stack.woken
	deadline atomic.Int64 // ns, 0: none, passed: it has come

	mu    sync.Mutex
	timer *time.Timer
}

func (w *waiter) waiting() *waiting {
	if p := w.more.Load(); p != nil {
		return p
	}
	if p := waitings.Get().(*waiting); !w.more.CompareAndSwap(nil, p) {
		waitings.Put(p)
	}
	return w.more.Load()
}

var waitings = sync.Pool{New: func() any { return &waiting{ch: make(chan bool, 1)} }}

// forget gives up what w needs while somebody waits. Nobody does, and no
// deadline is being set; one that has passed may still be looking at its timer.
func (w *waiter) forget() {
	p := w.more.Swap(nil)
	if p == nil {
		return
	}
	p.deadline.Store(0)
	p.mu.Lock()
	t := p.timer
	p.mu.Unlock()
	if t == nil {
		waitings.Put(p)
		return
	}
	t.Stop()
}

// wake resumes the goroutine that waits on w, a socket's of this stack, if
// there is one.
func (s *Stack) wake(w *waiter) (woken bool) { return s.resume(w, false) }

// resume is wake. The goroutine is counted until it runs, where it was parked.
func (s *Stack) resume(w *waiter, count bool) (woken bool) {
	switch st := w.state.Load(); {
	case st == waiterIdle || !w.state.CompareAndSwap(st, waiterIdle):
		return false
	case st == waiterParked:
		if count {
			s.woken.Add(1)
		}
		w.more.Load().ch <- count // one token per parking: never blocks
	default:
		_ = s.seat.file.SetReadDeadline(past) // fails only when closed: nobody sits then
	}
	return true
}

// passed is the deadline that has come: sooner than any that is still to come.
const passed = 1

// expired tells whether w's deadline has passed at now.
func (w *waiter) expired(now int64) bool {
	p := w.more.Load()
	if p == nil {
		return false
	}
	d := p.deadline.Load()
	return d != 0 && now >= d
}

// timedOut is expired, reading the clock only when there is a deadline.
func (w *waiter) timedOut() bool {
	p := w.more.Load()
	return p != nil && p.deadline.Load() != 0 && w.expired(nanotime())
}

// over is timedOut for a call that begins. It leaves the clock to the
// deadline's timer: two readings would be a tenth of a round trip in memory.
func (w *waiter) over() bool {
	p := w.more.Load()
	return p != nil && p.deadline.Load() == passed
}

// setDeadline sets, moves or clears w's deadline, and wakes the waiting
// goroutine when it has passed.
func (s *Stack) setDeadline(w *waiter, t time.Time) {
	at := deadlineAt(t)
	if at == 0 && w.more.Load() == nil {
		return
	}
	p := w.waiting()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.deadline.Store(at)
	if at == 0 {
		if p.timer != nil {
			p.timer.Stop()
		}
		return
	}
	d := time.Duration(at - nanotime())
	if d <= 0 {
		p.deadline.Store(passed)
		s.wake(w)
		return
	}
	if p.timer == nil {
		p.timer = time.AfterFunc(d, func() { s.deadlinePassed(w, p) })
	} else {
		p.timer.Reset(d)
	}
}

func (s *Stack) deadlinePassed(w *waiter, p *waiting) {
	p.mu.Lock()
	defer p.mu.Unlock()
	at := p.deadline.Load()
	if at == 0 {
		return
	}
	if d := at - nanotime(); d > 0 {
		// Moved meanwhile, or the timer's clock is a little ahead of ours.
		p.timer.Reset(time.Duration(d))
		return
	}
	p.deadline.Store(passed)
	s.wake(w)
}

// stop releases the timer of a closed socket.
func (w *waiter) stop() {
	p := w.more.Load()
	if p == nil {
		return
	}
	p.mu.Lock()
	if p.timer != nil {
		p.timer.Stop()
	}
	p.mu.Unlock()
}

// wait returns when k is ready in direction d (nil), or when w's deadline has
// passed. At most one goroutine waits on w at a time.
//
// The waiting goroutine polls the queues itself for its spin budget: a
// goroutine that somebody else must wake costs 20 to 70 us here, a poll
// nothing (design, section 4). One that may not spin waits at the queues.
func (s *Stack) wait(k socket, d direction, w *waiter) error {
	for {
		if k.ready(d) {
			return nil
		}
		now := nanotime()
		if w.expired(now) {
			return os.ErrDeadlineExceeded
		}
		if b := s.budget(w); b > 0 {
			if s.pollAt(now) {
				continue
			}
			if s.lead() {
				if s.spinFor(k, d, w, now, b) {
					continue
				}
			} else if s.successor.CompareAndSwap(nil, w) {
				s.successorAt.Store(now)
			}
		} else if s.sit(k, d, w) || s.pollOnce() {
			continue
		}
		s.park(k, d, w)
	}
}

// pollAt does a poll turn where a packet is there already and nobody holds the
// lock; now was just read. False: it did not.
func (s *Stack) pollAt(now int64) bool {
	if s.armed.Load() || !s.rxPending() || !s.lock.TryLock() {
		return false
	}
	s.enterAt(now)
	if !s.closing.Load() {
		s.poll()
	}
	if s.leave() > 0 {
		runtime.Gosched()
		s.kickHeld()
	}
	return true
}

// park sleeps until somebody wakes w.
func (s *Stack) park(k socket, d direction, w *waiter) {
	p := w.waiting()
	w.state.Store(waiterParked)
	if k.ready(d) || w.timedOut() {
		if w.state.CompareAndSwap(waiterParked, waiterIdle) {
			return
		}
	}
	s.counters.parks.Add(1)
	s.kickHeld()
	if <-p.ch {
		s.woken.Add(-1)
	}
}

// budget is how long the owner of w may spin now, in ns.
func (s *Stack) budget(w *waiter) int64 {
	if !s.adaptive {
		return s.spin
	}
	if w.spin == 0 {
		w.spin = int32(balancedSpinMax / 2)
	}
	return min(int64(w.spin), s.spin)
}

// adapt learns from a spin: one that paid may last longer next time.
func (s *Stack) adapt(w *waiter, paid bool) {
	if !s.adaptive {
		return
	}
	if paid {
		w.spin = min(w.spin*2, int32(balancedSpinMax))
	} else {
		w.spin = max(w.spin/2, int32(balancedSpinMin))
	}
}

// lead makes the caller the stack's one spinning goroutine.
func (s *Stack) lead() bool {
	if s.leader.Load() || !s.leader.CompareAndSwap(false, true) {
		return false
	}
	if s.closing.Load() {
		// Close waits for the leader before it takes the rings away.
		s.leader.Store(false)
		return false
	}
	if s.armed.Load() && s.lock.TryLock() {
		s.enter()
		s.disarm()
		s.leave()
	}
	return true
}

const (
	// How many empty looks at the rings pass between looks at the clock, and
	// how long a spin goes on without giving way to other goroutines. A look
	// costs some nanoseconds, the clock 25 to 50, Gosched 150 to 250.
	spinLooks  = 32
	yieldEvery = int64(10 * time.Microsecond)
	// A Gosched that took longer ran somebody else: processors are not idle. Who
	// ran may have been the peer: then it has left something.
	busyYield = int64(5 * time.Microsecond)
)

// spinFor polls the queues until k is ready, w's deadline passes (true) or
// the budget ends (false). The caller leads, and does not afterwards.
func (s *Stack) spinFor(k socket, d direction, w *waiter, start, budget int64) bool {
	// The first look at the clock yields: others may be ready to run, perhaps
	// the one that the answer is to come from.
	yielded, now := start-yieldEvery, start
	fresh := true // now was read some looks ago, and none found anything since
	for i := 1; ; i++ {
		if s.rxPending() && s.lock.TryLock() {
			if fresh {
				s.enterAt(now)
				fresh = false
			} else {
				s.enter()
			}
			s.poll()
			if s.leave() > 0 {
				// Those woken run now, on this processor, instead of waiting
				// for another to be woken by an interrupt.
				runtime.Gosched()
				s.kickHeld()
			}
		}
		if k.ready(d) {
			s.counters.spinHits.Add(1)
			s.adapt(w, true)
			s.leader.Store(false)
			s.succeed(w)
			return true
		}
		if i%spinLooks != 0 {
			continue
		}
		now, fresh = nanotime(), true
		if now >= s.nextTimer.Load() && s.lock.TryLock() {
			s.enterAt(now)
			s.poll()
			s.leave()
		}
		if w.expired(now) {
			s.leader.Store(false)
			s.succeed(w)
			return true
		}
		if now-start > budget {
			break
		}
		if now-yielded >= yieldEvery {
			runtime.Gosched()
			after := nanotime()
			if s.adaptive && after-now > busyYield && !s.rxPending() && !k.ready(d) {
				break
			}
			start += after - now // others' time is not our spinning
			yielded, now = after, after
		}
	}
	s.counters.spinMisses.Add(1)
	s.adapt(w, false)
	s.leader.Store(false)
	s.arm()
	return false
}

// succeed hands the leader's role to a goroutine that parked because there
// was a leader, if its own budget is not spent yet.
func (s *Stack) succeed(w *waiter) {
	if s.successor.Load() == nil {
		return
	}
	next := s.successor.Swap(nil)
	if next != nil && next != w && nanotime()-s.successorAt.Load() < s.spin {
		s.wake(next)
	}
}

// pollOnce does one poll turn for a caller that may not spin, and tells
// whether anything was there.
func (s *Stack) pollOnce() bool {
	if !s.lead() {
		return false
	}
	n := 0
	if s.rxPending() && s.lock.TryLock() {
		s.enter()
		n = s.poll()
		s.leave()
	}
	s.leader.Store(false)
	if n == 0 {
		s.arm()
	}
	return n > 0
}
