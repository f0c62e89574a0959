package stack

import (
	"errors"
	"fmt"
	"syscall"

	"github.com/onload-go/onload/driver"
)

// AddQueues gives the interface with that index more queues, of the device that
// it has. They receive nothing before AddQueues returns. Where it fails they stay
// the caller's.
func (s *Stack) AddQueues(index int, qs []driver.Queue) error {
	if err := s.addQueues(index, qs); err != nil {
		return err
	}
	s.reseat()
	return nil
}

func (s *Stack) addQueues(index int, qs []driver.Queue) error {
	s.begin()
	defer s.end()
	k := s.linkOf(index)
	switch {
	case s.life.ending.Load():
		return errClosed
	case k == nil || k.down != 0:
		return syscall.ENODEV
	case len(s.queues)+len(qs) > MaxQueues:
		return fmt.Errorf("a stack has at most %d queues: %w", MaxQueues, syscall.ENOSPC)
	}
	var err error
	if e := s.waits.reactor.conn.Control(func(ep uintptr) { err = hearOf(int(ep), qs) }); e != nil {
		return e
	}
	if err != nil {
		return err // closing a descriptor takes it out of an epoll descriptor
	}
	for _, q := range qs {
		if s.waits.armed.Load() && q.Arm() {
			return errors.Join(q.Err(), errors.New("a new queue has packets"))
		}
	}
	for i, q := range qs {
		q.Refill()
		if q.Caps().Virtual {
			s.rx.virtual |= 1 << (len(s.queues) + i)
		}
	}
	s.wiring.add(k, qs)
	s.wire = append(s.wire[:len(s.wire):len(s.wire)], qs...)
	if s.taps != nil {
		s.taps = append(s.taps, make([]Tapped, len(qs))...)
	}
	s.rx.refillAt = refillAt(s.caps.RxRing, s.arena.Frames(), len(s.queues))
	return nil
}
