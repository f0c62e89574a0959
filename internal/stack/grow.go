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
	k, err := s.mayGrow(index, len(qs))
	if err != nil {
		return err
	}
	was := k.tso
	if err := s.takeQueues(k, qs); err != nil {
		return err
	}
	if k.tso != was {
		s.dests.resized(k)
		s.tell()
	}
	return nil
}

// MayGrow returns why AddQueues refuses n more queues of the interface with that index,
// or nil.
func (s *Stack) MayGrow(index, n int) error {
	s.begin()
	defer s.end()
	_, err := s.mayGrow(index, n)
	return err
}

func (s *Stack) mayGrow(index, n int) (*link, error) {
	k := s.linkOf(index)
	switch {
	case s.life.ending.Load():
		return nil, errClosed
	case k == nil || k.down != 0:
		return nil, syscall.ENODEV
	case n > s.room():
		return nil, fmt.Errorf("a stack has at most %d queues: %w", MaxQueues, syscall.ENOSPC)
	}
	return k, nil
}

// takeQueues gives a link queues. The lock is held.
func (s *Stack) takeQueues(k *link, qs []driver.Queue) error {
	if err := s.readyQueues(qs); err != nil {
		return err
	}
	s.addReady(k, qs)
	return nil
}

// readyQueues has the stack hear of queues. Where it fails, or they are not added then,
// closing them undoes it.
func (s *Stack) readyQueues(qs []driver.Queue) error {
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
	return nil
}

// addReady adds what readyQueues has made ready.
func (s *Stack) addReady(k *link, qs []driver.Queue) {
	for _, q := range qs {
		q.Refill()
	}
	places := s.wiring.add(k, qs)
	s.kicker.due &^= places
	s.kicker.again &^= places
	s.rx.virtual &^= places
	if qs[0].Caps().Virtual {
		s.rx.virtual |= places
	}
	s.rx.refillAt = refillAt(s.caps.RxRing, s.arena.Frames(), len(s.queues))
}
