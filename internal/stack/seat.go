package stack

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/driver"
)

// seat is where one goroutine waits for packets itself, asleep: in the
// runtime's netpoller, on a descriptor that reports each arrival. The thread
// that the packet wakes then runs the reader at once. The way over the reactor
// costs a second goroutine and, where processors are idle, the wake-up of a
// second thread.
//
// While somebody sits the queues are not armed and the reactor sleeps until
// the next timer.
type seat struct {
	desc atomic.Pointer[place] // nil: the seat is closed
	look func(uintptr) bool

	taken atomic.Pointer[waiter] // the goroutine that sits; nil: nobody
	bad   atomic.Bool            // the descriptor failed: nobody sits any more

	wanted atomic.Bool  // whether the seat is to be open; changed under the lock
	spins  bool         // whether goroutines were to spin when that was decided; under the lock
	absent atomic.Int32 // waits that are yet to arm the queues when they end, though packets are frequent
}

// place is the seat's descriptor in the runtime's netpoller.
type place struct {
	file *os.File
	conn syscall.RawConn
	over *[]driver.Queue // the queues that it hears of
}

// moving holds the seat while it is opened or closed.
var moving waiter

func (t *seat) open() bool { return t.desc.Load() != nil && !t.bad.Load() }

// mustArm reports whether the wait that ends must arm the queues, although the next
// packet is expected soon.
func (t *seat) mustArm() bool {
	n := t.absent.Load()
	return n > 0 && t.absent.CompareAndSwap(n, n-1)
}

// raise makes the goroutine that sits rise.
func (t *seat) raise() {
	if p := t.desc.Load(); p != nil {
		_ = p.file.SetReadDeadline(past) // fails only when closed: nobody sits then
	}
}

// makeSeat makes the seat of a stack whose goroutines do not always spin.
func (s *Stack) makeSeat() {
	if s.waits.spin > 0 && s.waits.policy == nil || s.cfg.Called {
		return
	}
	t := &seat{}
	// The runtime forgets an edge that came before it was asked to wait. So look at
	// the rings each time.
	t.look = func(uintptr) bool { return s.rxPending() }
	s.waits.seat = t
}

// setSeat opens or closes the seat, as the way of waiting wants. While it is
// closed, no packet wakes an idle thread of the runtime beside a goroutine that
// spins. With one processor no thread is idle then, so the seat stays open. The
// lock is held.
func (s *Stack) setSeat() error {
	t := s.waits.seat
	if t == nil {
		return nil
	}
	t.spins = s.waits.policy != nil && s.waits.policy.spins(s.now)
	t.wanted.Store(!t.spins || runtime.GOMAXPROCS(0) == 1 && s.Caps().EdgesFree)
	return s.settleSeat()
}

// settleSeat opens or closes the seat if that is wanted and nobody sits. The lock
// is held.
func (s *Stack) settleSeat() error {
	t := s.waits.seat
	if t == nil {
		return nil
	}
	wanted := t.wanted.Load()
	if t.settled(s.visible.Load()) || t.bad.Load() || !t.taken.CompareAndSwap(nil, &moving) {
		return nil
	}
	defer t.taken.Store(nil)
	if p := t.desc.Swap(nil); p != nil {
		if !wanted {
			s.noEdges()
		}
		if err := p.file.Close(); err != nil || !wanted {
			return err
		}
	}
	var fds []int
	for i, q := range s.queues {
		if s.broken>>i&1 != 0 {
			continue // its device may be closed
		}
		fd := q.EdgeFD()
		if fd < 0 {
			t.bad.Store(true)
			return nil // the device cannot
		}
		fds = append(fds, fd)
	}
	fd, err := joinEdges(fds)
	if err != nil {
		t.bad.Store(true)
		return err
	}
	p := &place{file: os.NewFile(uintptr(fd), "onload-seat"), over: s.visible.Load()}
	if p.conn, err = p.file.SyscallConn(); err == nil {
		err = p.file.SetReadDeadline(time.Time{})
	}
	if err != nil {
		t.bad.Store(true)
		p.file.Close()
		return fmt.Errorf("the runtime cannot poll the queues' descriptor: %w", err)
	}
	t.desc.Store(p)
	return nil
}

// settled reports whether the seat is as it is wanted over those queues.
func (t *seat) settled(all *[]driver.Queue) bool {
	p := t.desc.Load()
	if !t.wanted.Load() {
		return p == nil
	}
	return p != nil && p.over == all
}

// reseat opens the seat anew, over the queues that the stack has now. The lock is
// not held. Whoever sits rises.
func (s *Stack) reseat() {
	t := s.waits.seat
	for t != nil && !s.life.closing.Load() {
		s.unseat()
		s.begin()
		err := s.settleSeat()
		done := err != nil || t.bad.Load() || t.settled(s.visible.Load())
		s.end()
		if done {
			return
		}
		runtime.Gosched()
	}
}

// joinEdges returns a descriptor of ours that reports the edges of all fds.
func joinEdges(fds []int) (fd int, err error) {
	if len(fds) == 1 {
		if fd, err = unix.FcntlInt(uintptr(fds[0]), unix.F_DUPFD_CLOEXEC, 0); err != nil {
			return -1, fmt.Errorf("fcntl: %w", err)
		}
	} else {
		if fd, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
			return -1, fmt.Errorf("epoll_create1: %w", err)
		}
		for _, m := range fds {
			ev := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET, Fd: int32(m)}
			if err := unix.EpollCtl(fd, unix.EPOLL_CTL_ADD, m, &ev); err != nil {
				unix.Close(fd)
				return -1, fmt.Errorf("epoll_ctl: %w", err)
			}
		}
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func (s *Stack) noEdges() {
	for i, q := range s.queues {
		if s.broken>>i&1 == 0 {
			q.NoEdges()
		}
	}
}

// closeSeat waits until nobody sits, and releases the descriptor. The stack is
// closing, so nobody sits down any more.
func (s *Stack) closeSeat() {
	t := s.waits.seat
	if t == nil {
		return
	}
	for !t.taken.CompareAndSwap(nil, &moving) {
		s.unseat()
		runtime.Gosched()
	}
	if p := t.desc.Swap(nil); p != nil {
		p.file.Close()
	}
}

// seated reports whether a goroutine sits.
func (s *Stack) seated() bool {
	if s.waits.seat == nil {
		return false
	}
	w := s.waits.seat.taken.Load()
	return w != nil && w != &moving
}

// unseat wakes the goroutine that sits, if there is one.
func (s *Stack) unseat() {
	if w := s.waits.seat.taken.Load(); w != nil {
		s.wake(w)
	}
}

// past is a deadline that makes the goroutine that sits rise.
var past = time.Unix(1, 0)

const (
	// sitTurns is how often in a row the goroutine that sits polls only for others,
	// before it leaves the seat to them and parks.
	sitTurns = 16
	// denseGap is a time between packets, in ns. Below it a goroutine that rises
	// with data does not arm the queues: it will most likely be back soon, and
	// arming and disarming cost two system calls. If it is not, the reactor notices
	// within a tick.
	denseGap = int64(200_000)
	// absentFor is how many waits arm the queues all the same after the reactor
	// found packets that nobody had polled for a tick. The goroutines that waited
	// had finished, as clients do between their requests.
	absentFor = 1024
)

// sit waits at the queues until k is ready, w's deadline passes or somebody wakes
// w, and polls when packets come. The wait began at start. It returns false if the
// seat is taken, or better left to others; then the caller parks.
func (s *Stack) sit(k socket, d direction, w *waiter, start int64) bool {
	t := s.waits.seat
	if t == nil || !t.open() || s.waits.leader.Load() || !t.taken.CompareAndSwap(nil, w) {
		return false
	}
	p := t.desc.Load()
	if s.life.closing.Load() || s.waits.leader.Load() || p == nil || p.over != s.visible.Load() {
		// Close waits for the seat before it takes the rings away, and reseat
		// before it opens the seat over more of them.
		t.taken.Store(nil)
		return false
	}
	s.counters.sits.Add(1)
	s.waits.reactor.forget()
	others := 0
	if s.waits.armed.Load() && s.tryBegin() {
		// A quick peer may have answered while we were transmitting.
		if s.seatTurn(k, d, &start, &others) {
			return true
		}
	}
	for others < sitTurns {
		s.kickDeferred()
		w.state.Store(waiterSeated)
		if k.ready(d) || w.timedOut() || s.waits.leader.Load() {
			w.state.Store(waiterIdle)
			break
		}
		err := p.conn.Read(t.look)
		if !w.state.CompareAndSwap(waiterSeated, waiterIdle) {
			s.rise(w.over()) // somebody woke us: others poll, unless it was the deadline
			return true
		}
		if err != nil {
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				t.bad.Store(true)
				s.rise(true)
				return false
			}
			// The deadline was meant for an earlier goroutine on this seat. A
			// goroutine that wakes us from here on finds us seated again, and sets
			// the deadline after this.
			_ = p.file.SetReadDeadline(time.Time{})
			continue
		}
		s.begin()
		if s.seatTurn(k, d, &start, &others) {
			return true
		}
	}
	s.rise(true)
	return others < sitTurns
}

// seatTurn is a poll turn of the goroutine that sits. It is called with the lock
// held, and releases it. It returns true if k is ready; the seat is free then.
// start is when the last packet came or the wait began, and is updated. others
// counts the turns in a row that helped only others.
func (s *Stack) seatTurn(k socket, d direction, start *int64, others *int) (risen bool) {
	t := s.waits.seat
	if s.life.closing.Load() {
		s.end()
		t.taken.Store(nil)
		return true
	}
	gap := s.now - *start
	if s.rxPending() || !s.waits.armed.Load() {
		if s.poll() > 0 {
			s.arrived(gap, true)
			*start = s.now
		}
	}
	if risen = k.ready(d); risen {
		t.taken.Store(nil)
		_ = s.settleSeat() // if it fails nobody sits any more
		if t.mustArm() || gap > denseGap {
			if !s.armLocked() {
				s.poll()
				s.armLocked()
			}
		}
	} else {
		s.disarm()
		if !s.rxPending() {
			s.endGather(true) // we are about to sleep
		}
	}
	woken := s.end()
	if risen {
		if !s.waits.armed.Load() {
			s.wakeReactorBy(nanotime() + reactorTick)
		}
		return true
	}
	if woken == 0 {
		*others = 0
		return false
	}
	*others++
	s.giveWay()
	return false
}

// rise gives up the seat. With arm the reactor waits for packets from now on.
// Without it others will, and the reactor only checks that within a tick.
func (s *Stack) rise(arm bool) {
	s.waits.seat.taken.Store(nil)
	if s.waits.seat.mustArm() || arm {
		s.arm()
	}
	if !s.waits.armed.Load() {
		s.wakeReactorBy(nanotime() + reactorTick)
	}
}

// guarded reports whether packets wake somebody, so that the reactor need not tick.
func (s *Stack) guarded() bool { return s.waits.armed.Load() || s.seated() }
