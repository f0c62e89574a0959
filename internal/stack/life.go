package stack

import (
	"errors"
	"fmt"
	"net"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
)

// life has the marks and results of a stack's end. The marks are written under the
// stack lock and read without it.
type life struct {
	ending  atomic.Bool   // Close has begun: resets are its doing
	left    atomic.Bool   // no connections are left, and packets go to the kernel
	closing atomic.Bool   // nobody touches the queues any more
	down    atomic.Uint32 // errno where every device failed for good, 0: one works

	closed        chan struct{} // closed by Close
	unsub         func()        // ends the kernel's notices
	wake          []*waiter     // those of the connections that leave has reset
	leaving, once sync.Once
	err           error // what Close returns
}

var errGone = fmt.Errorf("the interface was deleted: %w", syscall.ENODEV)

// ErrClosed is the error of a closed socket or stack: net.ErrClosed.
var ErrClosed = net.ErrClosed

var errClosed = ErrClosed

// refusal returns why a socket cannot be opened: err, or errClosed if the stack is
// closing. nil stays nil.
func (s *Stack) refusal(err error) error {
	if err != nil && s.life.ending.Load() {
		return errClosed
	}
	return err
}

// Close resets every connection, releases every port and closes the device.
// Calls blocked on sockets of the stack return net.ErrClosed.
func (s *Stack) Close() error { return CloseAll(s) }

// CloseAll closes stacks, which may share devices. First all of them leave their packets
// to the kernel, and only when the packets on the rings have been read they stop reading:
// a client that comes meanwhile is answered by the kernel, or by another process that
// shares the port.
func CloseAll(stacks ...*Stack) error {
	for _, s := range stacks {
		s.leave()
	}
	if slices.ContainsFunc(stacks, (*Stack).returns) {
		settleXDP()
		for _, s := range stacks {
			s.readRings()
		}
	}
	var errs []error
	for _, s := range stacks {
		errs = append(errs, s.close())
	}
	return errors.Join(errs...)
}

// leave resets every connection and releases every port.
func (s *Stack) leave() {
	s.life.leaving.Do(func() {
		s.begin()
		s.life.ending.Store(true)
		s.life.wake = s.abortAll()
		s.life.left.Store(true)
		s.end()
		s.ports.close()
	})
}

// returns reports whether the kernel gets packets back that are its own.
func (s *Stack) returns() bool { return s.fragments.Return != nil }

// readRings reads what is on the rings, unless more comes all the time.
func (s *Stack) readRings() {
	s.begin()
	defer s.end()
	for range closeTurns {
		if s.poll() == 0 {
			break
		}
	}
}

// closeTurns is how many batches of each queue are read before a stack closes: more than
// a ring holds.
const closeTurns = 256

func (s *Stack) close() error {
	s.life.once.Do(func() {
		s.life.unsub()
		wake := append(s.shutdown(), s.life.wake...)
		for _, w := range wake {
			s.wake(w)
		}
		s.stopReactor()
		close(s.life.closed)
		for s.waits.leader.Load() {
			runtime.Gosched()
		}
		s.closeSeat()
		s.waits.breath.close()
		s.ports.close()
		// A goroutine that takes the lock from now on finds the stack closing,
		// and touches no queue.
		s.begin()
		s.fragments.Flush() // the kernel gets what may be its
		if s.shared() {
			s.giveBack()
		}
		if s.cfg.team == nil { // else the last stack of the team closes them
			s.life.err = s.brought.closeAll()
		}
		s.life.err = errors.Join(s.life.err, s.cfg.close())
		s.waits.limits.watcher.Close()
		s.waits.limits.watcher = nil
		s.end()
	})
	return s.life.err
}

// shared reports whether others use the stack's arena, also after Close.
func (s *Stack) shared() bool {
	return s.cfg.Close == nil || s.cfg.team != nil && !s.cfg.team.closed.Load()
}

// giveBack returns the frames that the stack holds, except those of sockets.
func (s *Stack) giveBack() {
	for _, d := range s.dests.all {
		s.dests.drop(d)
	}
	s.cache.Flush()
}

// closeKicks is how often Close kicks a queue again that has taken only a part,
// since no later turn does.
const closeKicks = 64

// abortAll resets all connections, and returns their waiters, whose goroutines may be
// parked. The lock is held.
func (s *Stack) abortAll() (wake []*waiter) {
	for c := range s.demux.flows.all() {
		wake = append(wake, &c.r, &c.w)
		c.tc.Abort(s.now)
		s.touch(c)
	}
	s.finishTurn(kickNow)
	return wake
}

// shutdown resets the connections that were made since leave and marks the stack as
// closing. It returns the waiters whose goroutines may be parked.
func (s *Stack) shutdown() (wake []*waiter) {
	s.begin()
	defer s.end()
	wake = s.abortAll()
	for range closeKicks {
		if s.kicker.again == 0 {
			break
		}
		s.kicker.due, s.kicker.again = s.kicker.again, 0
		s.flush(kickNow)
	}
	for _, l := range s.demux.listeners {
		for _, x := range l {
			wake = append(wake, &x.socket.w)
		}
	}
	for _, l := range s.demux.udps {
		for _, x := range l {
			wake = append(wake, &x.socket.r, &x.socket.w)
		}
	}
	for _, u := range s.demux.udpFlows {
		wake = append(wake, &u.r, &u.w)
	}
	s.life.closing.Store(true)
	return wake
}
