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
)

// seat is where one goroutine that may not spin waits for packets itself: in
// the runtime's netpoller, on a descriptor that reports each arrival. The
// thread that the packet wakes then runs the reader at once. The way over the
// reactor costs a second goroutine and, where processors are idle, the wake-up
// of a second thread.
//
// While somebody sits the queues are not armed and the reactor sleeps until
// the next timer.
type seat struct {
	file *os.File
	conn syscall.RawConn
	look func(uintptr) bool

	taken atomic.Pointer[waiter] // who sits; nil: nobody
	bad   atomic.Bool            // the descriptor failed: nobody sits any more
}

// openSeat makes the seat of a stack whose goroutines never spin. Those that
// do would be told of each packet that they have long seen.
func (s *Stack) openSeat() error {
	if s.spin > 0 {
		return nil
	}
	var fds []int
	for _, q := range s.queues {
		fd := q.EdgeFD()
		if fd < 0 {
			return nil
		}
		fds = append(fds, fd)
	}
	fd, err := joinEdges(fds)
	if err != nil {
		return err
	}
	t := &seat{file: os.NewFile(uintptr(fd), "onload-seat")}
	// The runtime forgets an edge that came before it was asked to wait: so
	// look at the rings, each time.
	t.look = func(uintptr) bool { return s.rxPending() }
	if t.conn, err = t.file.SyscallConn(); err != nil {
		t.file.Close()
		return err
	}
	if err := t.file.SetReadDeadline(time.Time{}); err != nil {
		t.file.Close()
		return fmt.Errorf("the runtime cannot poll the queues' descriptor: %w", err)
	}
	s.seat = t
	return nil
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

// closeSeat waits for who sits to rise, and releases the descriptor. The
// stack is closing, so nobody sits down any more.
func (s *Stack) closeSeat() {
	t := s.seat
	if t == nil {
		return
	}
	for w := t.taken.Load(); w != nil; w = t.taken.Load() {
		s.wake(w)
		runtime.Gosched()
	}
	t.file.Close()
}

// seated tells whether somebody sits.
func (s *Stack) seated() bool { return s.seat != nil && s.seat.taken.Load() != nil }

// past is a deadline that makes who sits rise.
var past = time.Unix(1, 0)

// sitTurns is how often in a row who sits polls for others only, before it
// leaves the seat to them and parks.
const sitTurns = 4

// sit waits at the queues until k is ready, w's deadline passes or somebody
// wakes w, and polls when packets come. false: the seat is not to be had, or
// better left to others; the caller parks.
func (s *Stack) sit(k socket, d direction, w *waiter) bool {
	t := s.seat
	if t == nil || t.bad.Load() || !t.taken.CompareAndSwap(nil, w) {
		return false
	}
	if s.closing.Load() {
		// Close waits for who sits before it takes the rings away.
		t.taken.Store(nil)
		return false
	}
	s.counters.sits.Add(1)
	others := 0
	if s.armed.Load() && s.lock.TryLock() {
		// Who answers quickly has answered while we were transmitting.
		if s.seatTurn(k, d, &others) {
			return true
		}
	}
	for others < sitTurns {
		s.kickHeld()
		w.state.Store(waiterSeated)
		if k.ready(d) || w.timedOut() {
			w.state.Store(waiterIdle)
			break
		}
		err := t.conn.Read(t.look)
		if !w.state.CompareAndSwap(waiterSeated, waiterIdle) {
			break // somebody woke us
		}
		if err != nil {
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				t.bad.Store(true)
				s.rise()
				return false
			}
			// Meant for one who sat before us. Whoever wakes us from here on
			// finds us seated again, and sets the deadline after this.
			_ = t.file.SetReadDeadline(time.Time{})
			continue
		}
		s.lock.Lock()
		if s.seatTurn(k, d, &others) {
			return true
		}
	}
	s.rise()
	return others < sitTurns
}

// seatTurn is a poll turn of who sits; the lock is held, and released. true:
// k is ready, and the seat free. others counts the turns in a row that were
// good for others only.
func (s *Stack) seatTurn(k socket, d direction, others *int) (risen bool) {
	s.enter()
	if s.closing.Load() {
		s.leave()
		s.seat.taken.Store(nil)
		return true
	}
	if s.rxPending() || !s.armed.Load() {
		s.poll()
	}
	if risen = k.ready(d); risen {
		s.seat.taken.Store(nil)
		if !s.armLocked() {
			s.poll()
			s.armLocked()
		}
	} else {
		s.disarm()
		if !s.rxPending() {
			s.endGather(true) // we are about to sleep
		}
	}
	woken := s.leave()
	if risen {
		if !s.armed.Load() {
			s.wakeReactorBy(nanotime() + reactorTick)
		}
		return true
	}
	if woken == 0 {
		*others = 0
		return false
	}
	*others++
	runtime.Gosched() // who was woken runs on this processor
	return false
}

// rise gives up the seat. The queues are armed: the reactor looks after the
// packets from now on.
func (s *Stack) rise() {
	s.seat.taken.Store(nil)
	s.arm()
	if !s.armed.Load() {
		s.wakeReactorBy(nanotime() + reactorTick)
	}
}

// guarded tells whether packets wake somebody: the reactor need not tick.
func (s *Stack) guarded() bool { return s.armed.Load() || s.seated() }
