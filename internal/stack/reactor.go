package stack

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/driver"
)

// reactor keeps the protocol moving when no application goroutine polls. It
// is in one of three states:
//
//   - armed: the queues wake it at the next packet, the deadline at the next
//     timer;
//   - seated: a reader waits for packets itself; only the deadline wakes us;
//   - ticking: somebody polls, or did within the last tick. The queues are
//     disarmed, so that no packet pays for a wake-up, and the reactor merely
//     checks every tick that turns are being made.
type reactor struct {
	file *os.File // epoll descriptor over the queues' WaitFDs
	conn syscall.RawConn

	mu      sync.Mutex   // orders changes of sleepAt with those of the deadline
	sleepAt atomic.Int64 // when the reactor wakes at the latest, ns
	done    chan struct{}

	// since is when, in ns, a goroutine began to wait that has left the next packet
	// to the reactor, after a spin in vain or none at all. 0: there is none.
	since atomic.Int64
}

// reactorTick is the longest time without progress when a goroutine has polled and
// then turned to other work.
const reactorTick = int64(time.Millisecond)

func (s *Stack) startReactor() error {
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return fmt.Errorf("epoll_create1: %w", err)
	}
	if err := hearOf(ep, s.queues); err != nil {
		unix.Close(ep)
		return err
	}
	if err := unix.SetNonblock(ep, true); err != nil {
		unix.Close(ep)
		return err
	}
	s.waits.reactor.file = os.NewFile(uintptr(ep), "onload-reactor")
	if s.waits.reactor.conn, err = s.waits.reactor.file.SyscallConn(); err != nil {
		s.waits.reactor.file.Close()
		return err
	}
	if err := s.waits.reactor.file.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
		s.waits.reactor.file.Close()
		return fmt.Errorf("the runtime cannot poll the queues' descriptor: %w", err)
	}
	s.waits.reactor.done = make(chan struct{})
	go s.react()
	return nil
}

// hearOf adds the WaitFDs of queues to an epoll descriptor.
func hearOf(ep int, qs []driver.Queue) error {
	for _, q := range qs {
		fd := q.WaitFD()
		if fd < 0 {
			continue
		}
		ev := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET, Fd: int32(fd)}
		if err := unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, fd, &ev); err != nil {
			return fmt.Errorf("epoll_ctl: %w", err)
		}
	}
	return nil
}

func (s *Stack) stopReactor() {
	s.waits.reactor.file.Close()
	<-s.waits.reactor.done
}

// react is the reactor's goroutine.
func (s *Stack) react() {
	defer close(s.waits.reactor.done)
	events := make([]unix.EpollEvent, 16)
	// The runtime calls look before it waits, and when the descriptor became
	// readable. It forgets an edge that came before. So look each time.
	look := func(fd uintptr) bool {
		for {
			n, err := unix.EpollWait(int(fd), events, 0)
			if err != unix.EINTR {
				return n > 0
			}
		}
	}
	var turns uint64
	for !s.life.closing.Load() {
		s.scheduleReactor()
		err := s.waits.reactor.conn.Read(look)
		if errors.Is(err, os.ErrClosed) {
			return
		}
		packet := err == nil
		if !packet {
			s.waits.limits.woken(s.waits.reactor.sleepAt.Load(), nanotime())
		}
		s.counters.reactorWakes.Add(1)
		if t := s.turns.Load(); !packet && !s.waits.armed.Load() && (t != turns || s.seated()) && !s.timerDue() {
			turns = t // somebody polls
			continue
		}
		s.reactOnce(packet)
		turns = s.turns.Load()
	}
}

func (s *Stack) timerDue() bool { return nanotime() >= s.nextTimer.Load() }

// reactTurns bounds how long the reactor holds on to the queues before it
// arms them again and sleeps.
const reactTurns = 64

func (s *Stack) reactOnce(packet bool) {
	s.begin()
	if packet {
		s.disarm()
	}
	for i := 0; ; i++ {
		n := s.poll()
		if n > 0 && !packet && s.waits.seat != nil {
			s.waits.seat.absent.Store(absentFor) // nobody polled for a tick, though somebody was to
		}
		if n > 0 && s.waits.policy != nil {
			s.outlasted(packet)
		}
		woken := s.end()
		if woken > 0 {
			s.giveWay()
		}
		if s.life.closing.Load() {
			return
		}
		s.begin()
		if n > 0 && i < reactTurns || s.waits.leader.Load() {
			if s.waits.leader.Load() {
				s.end()
				return
			}
			continue
		}
		if s.guarded() || s.armLocked() {
			s.end()
			return
		}
	}
}

// outlasted tells the policy how long a packet took that was left to the reactor
// and woke it. If the policy heard only of spins that end well, it would never
// shorten the others. The lock is held.
func (s *Stack) outlasted(woken bool) {
	at := s.waits.reactor.since.Load()
	if at != 0 && s.waits.reactor.since.CompareAndSwap(at, 0) && woken {
		s.arrived(s.now-at, true)
	}
}

// forget is called by a goroutine that polls from now on: the next packet will find
// it.
func (r *reactor) forget() {
	if r.since.Load() != 0 {
		r.since.Store(0)
	}
}

// scheduleReactor sets when the reactor wakes at the latest.
func (s *Stack) scheduleReactor() {
	r := &s.waits.reactor
	r.mu.Lock()
	defer r.mu.Unlock()
	for s.guarded() {
		at := s.nextTimer.Load()
		r.set(at)
		// A goroutine that stops guarding, or sets an earlier timer, looks at
		// sleepAt afterwards. So one of us sees the other.
		if s.guarded() && s.nextTimer.Load() >= at {
			return
		}
	}
	now := nanotime()
	// If a timer is due while others hold the lock, they run it.
	r.set(max(min(s.nextTimer.Load(), now+reactorTick), now+reactorTick/4))
}

// wakeReactorBy makes sure that the reactor wakes at the given time or before.
func (s *Stack) wakeReactorBy(at int64) {
	r := &s.waits.reactor
	if at >= r.sleepAt.Load() {
		return
	}
	r.mu.Lock()
	if at < r.sleepAt.Load() {
		r.set(at)
	}
	r.mu.Unlock()
}

func (r *reactor) set(at int64) {
	r.sleepAt.Store(at)
	if at == never {
		r.file.SetReadDeadline(time.Time{})
		return
	}
	r.file.SetReadDeadline(time.Now().Add(time.Duration(at - nanotime())))
}

// arm makes the queues wake the reactor at the next packet. If the lock is taken,
// the reactor's next tick does it.
func (s *Stack) arm() {
	for !s.guarded() && !s.waits.leader.Load() && s.tryBegin() {
		if s.life.closing.Load() {
			s.end()
			return
		}
		if !s.armLocked() {
			s.poll()
		}
		s.end()
	}
}

// armLocked arms every queue, also those that are armed. If a packet is there
// already, it arms none and returns false, and the caller must poll. end follows.
func (s *Stack) armLocked() bool {
	s.endGather(true)
	for i, q := range s.queues {
		if s.broken>>i&1 == 0 && q.Arm() {
			for _, q := range s.queues {
				q.Disarm()
			}
			s.waits.armed.Store(false)
			return false
		}
	}
	s.waits.armed.Store(true)
	s.counters.arms.Add(1)
	return true
}

// disarm ends the armed state, because the caller polls from now on.
func (s *Stack) disarm() {
	if !s.waits.armed.Load() {
		return
	}
	for _, q := range s.queues {
		q.Disarm()
	}
	s.waits.armed.Store(false)
	if !s.seated() {
		s.wakeReactorBy(s.now + reactorTick)
	}
}
