package stack

import (
	"errors"
	"math/bits"
	"slices"
	"syscall"

	"go.uber.org/zap"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/internal/control"
)

// Retire puts the device of an interface away that was deleted: its frames are free,
// and the interface, which may live on in another namespace, is free for another
// device. It returns ENODEV where the interface is there, and ErrUnsupported where
// others use the device too.
func (s *Stack) Retire(index int) error {
	if err := s.retire(index); err != nil {
		return err
	}
	s.reseat()
	return nil
}

func (s *Stack) retire(index int) error {
	s.begin()
	defer s.end()
	k := s.linkOf(index)
	switch {
	case s.life.ending.Load():
		return errClosed
	case k == nil || !errors.Is(k.err(), syscall.ENODEV) && !errors.Is(k.err(), driver.ErrGone):
		return syscall.ENODEV
	case s.cfg.team != nil || s.shared():
		return errors.ErrUnsupported
	case k.put:
		return nil
	}
	device, ok := k.steering.(driver.Retirer)
	if !ok {
		return errors.ErrUnsupported
	}
	s.linkGone(k)
	err := device.Retire()
	if c := s.closers[k]; c != nil {
		err = errors.Join(err, c()) // the arena is another's
		delete(s.closers, k)
	}
	if err != nil {
		s.cfg.Log.Debug("stack: the device of an interface that is gone", zap.String("interface", k.name), zap.Error(err))
	}
	k.put = true
	same := slices.Clone(s.queues)
	s.visible.Store(&same) // another list, so the seat is opened anew: it has a descriptor of the device
	return nil
}

// Relink puts l in the place of the interface with index was, which Retire has put
// away: the sockets that used that one go on. The device of l carries the stack's
// arena, and the stack closes it by closeDevice. Where Relink fails, l stays the
// caller's.
func (s *Stack) Relink(was int, l Link, closeDevice func() error) error {
	old, err := s.relink(was, &l, closeDevice)
	if err != nil {
		return err
	}
	s.reseat()
	if err := s.ports.resteer(old, l.Steering); err != nil {
		s.cfg.Log.Warn("stack: some ports are the kernel's on an interface that came back",
			zap.String("interface", l.Name), zap.Error(err))
	}
	return nil
}

func (s *Stack) relink(was int, l *Link, closeDevice func() error) (old driver.Steering, err error) {
	s.begin()
	defer s.end()
	from := s.linkOf(was)
	switch {
	case s.life.ending.Load():
		return nil, errClosed
	case from == nil || !from.put:
		return nil, syscall.ENODEV
	case commonCaps(l.Queues).MaxFrags < s.caps.MaxFrags:
		return nil, errors.ErrUnsupported
	case len(l.Queues) > s.room()+bits.OnesCount64(from.mask):
		return nil, syscall.ENOSPC
	}
	k := newLink(l)
	s.free |= from.mask
	if err := s.takeQueues(k, l.Queues); err != nil {
		s.free &^= from.mask
		return nil, err
	}
	if s.closers == nil {
		s.closers = map[*link]func() error{}
	}
	s.closers[k] = closeDevice
	all := slices.Clone(s.links())
	all[slices.Index(all, from)] = k
	s.shown.Store(&all)
	s.life.down.Store(0)
	s.learnLinks()
	s.rx.repeat.Forget()
	for _, d := range s.dests.all {
		s.applyChange(d, control.Change{Kind: control.RouteChanged})
	}
	s.tell()
	return from.steering, nil
}

// closeRelinked closes the devices that Relink brought.
func (s *Stack) closeRelinked() error {
	var errs []error
	for _, c := range s.closers {
		errs = append(errs, c())
	}
	return errors.Join(errs...)
}
