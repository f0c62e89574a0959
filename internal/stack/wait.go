package stack

import (
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/onload-go/onload/internal/outside"
)

// direction is what a goroutine waits for on a socket.
type direction uint8

const (
	dirRead direction = iota
	dirWrite
)

// socket is what wait knows of a waiting goroutine's socket. ready is cheap and
// lock-free, and is true also when the socket is closed or broken.
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
	noted bool                    // on Stack.turn.wakes; under the stack lock
	more  atomic.Pointer[waiting] // made by the first goroutine that parks or sets a deadline
}

// waiting is what a waiter needs while somebody waits on it.
type waiting struct {
	ch       chan bool    // true: counted in waits.woken
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

// The channel is no bubble's (testing/synctest): goroutines outside of it write to it.
var waitings = sync.Pool{New: func() any {
	p := new(waiting)
	outside.Do(func() { p.ch = make(chan bool, 1) })
	return p
}}

// forget drops what w needs only while somebody waits. Nobody waits, and no
// deadline is being set. A deadline that has passed may still be looking at its
// timer.
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

// wake resumes the goroutine that waits on w, if there is one. w belongs to a
// socket of this stack.
func (s *Stack) wake(w *waiter) (woken bool) { return s.resume(w, false) }

// resume is wake. If the goroutine was parked, it is counted until it runs.
func (s *Stack) resume(w *waiter, count bool) (woken bool) {
	switch st := w.state.Load(); {
	case st == waiterIdle || !w.state.CompareAndSwap(st, waiterIdle):
		return false
	case st == waiterParked:
		if count {
			s.waits.woken.Add(1)
		}
		w.more.Load().ch <- count // one token per parking: never blocks
	default:
		s.waits.seat.raise()
	}
	return true
}

// passed replaces a deadline once it has expired. It is smaller than any real
// deadline, so comparisons need no special case.
const passed = 1

// expired reports whether w's deadline has passed at now.
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
	var clock time.Time
	if !t.IsZero() {
		clock = time.Now()
	}
	at := deadlineAt(t, clock)
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
	if outside.Bubbled(clock) { // whose timers would wait for its goroutines
		outside.Do(func() { s.startTimer(w, p, d) })
		return
	}
	s.startTimer(w, p, d)
}

// startTimer has deadlinePassed called in d. p.mu is held.
func (s *Stack) startTimer(w *waiter, p *waiting, d time.Duration) {
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
		// It was moved meanwhile, or the timer's clock is a little ahead of ours.
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
// The waiting goroutine polls the queues itself as long as that is expected to
// pay: a goroutine that another must wake costs 20 to 70 us here, a poll
// nothing (ARCHITECTURE.md, section 4). Then it waits at the queues, asleep.
func (s *Stack) wait(k socket, d direction, w *waiter) error {
	for {
		if k.ready(d) {
			return nil
		}
		now := nanotime()
		if w.expired(now) {
			return os.ErrDeadlineExceeded
		}
		if s.pollAt(now) {
			continue
		}
		if b := s.budget(now); b > 0 {
			if s.lead() {
				if s.spinFor(k, d, w, now, b) {
					continue
				}
			} else if s.waits.successor.CompareAndSwap(nil, w) {
				s.waits.successorAt.Store(now)
			}
		}
		if s.waits.called {
			s.parkCalled(k, d, w)
			continue
		}
		if s.sit(k, d, w, now) || s.waits.spin == 0 && s.pollOnce() {
			continue
		}
		if s.waits.policy != nil && !s.waits.leader.Load() {
			s.waits.reactor.since.CompareAndSwap(0, now)
		}
		s.park(k, d, w)
	}
}

// pollAt does a poll turn if a packet is there already and nobody holds the lock.
// now was just read. It reports whether it did.
func (s *Stack) pollAt(now int64) bool {
	if s.waits.armed.Load() || !s.rxPending() {
		return false
	}
	if s.letOthersFinish() {
		return true
	}
	if !s.tryBeginAt(now) {
		return false
	}
	if s.poll() > 0 {
		s.arrived(0, false)
	}
	if s.end() > 0 {
		s.giveWay()
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
	s.kickDeferred()
	if <-p.ch {
		s.waits.woken.Add(-1)
	}
}
