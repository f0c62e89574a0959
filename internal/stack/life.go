package stack

import (
	"errors"
	"fmt"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
)

// life has the marks and results of a stack's end. The marks are written under the
// stack lock and read without it.
type life struct {
	ending  atomic.Bool   // Close has begun: resets are its doing
	closing atomic.Bool   // nobody touches the queues any more
	down    atomic.Uint32 // errno where every device failed for good, 0: one works

	closed chan struct{} // closed by Close
	unsub  func()        // ends the kernel's notices
	once   sync.Once
	err    error // what Close returns
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
func (s *Stack) Close() error {
	s.life.once.Do(func() {
		s.life.unsub()
		wake := s.shutdown()
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
		s.life.err = errors.Join(s.closeRelinked(), s.cfg.close())
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

// shutdown resets all connections and marks the stack as closing. It returns the
// waiters whose goroutines may be parked.
func (s *Stack) shutdown() (wake []*waiter) {
	s.begin()
	defer s.end()
	s.life.ending.Store(true)
	for c := range s.demux.flows.all() {
		wake = append(wake, &c.r, &c.w)
		c.tc.Abort(s.now)
		s.touch(c)
	}
	s.finishTurn(kickNow)
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
