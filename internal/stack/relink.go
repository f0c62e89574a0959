package stack

import (
	"errors"
	"math/bits"
	"slices"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/internal/control"
)

// hold takes the locks of stacks, in the order of the team: whoever has one of them
// waits for none. It returns what gives them back.
func hold(team []*Stack) (release func()) {
	for _, s := range team {
		s.begin()
	}
	return func() {
		for _, s := range team {
			s.end()
		}
	}
}

// Retire puts the device of an interface away that was deleted: its frames are free,
// and the interface, which may live on in another namespace, is free for another
// device. So it is for all stacks of the team. It returns ENODEV where the interface is
// there, and ErrUnsupported where others use the device too.
func (s *Stack) Retire(index int) error {
	team := s.team()
	device, left, err := retire(team, index)
	if err != nil || device == nil {
		return err
	}
	for _, m := range team {
		m.reseat()
	}
	// Nobody waits for what takes long.
	for end := nanotime() + retireWait; left > 0 && nanotime() < end; {
		time.Sleep(time.Millisecond)
		release := hold(team)
		left = device.Retire()
		release()
	}
	if left > 0 {
		s.cfg.Log.Warn("stack: frames of an interface that is gone are in use for good",
			zap.String("interface", s.linkOf(index).name), zap.Int("frames", left))
	}
	steering := s.linkOf(index).steering
	if err := errors.Join(device.Release(), s.brought.close(steering)); err != nil { // the arena is another's
		s.cfg.Log.Debug("stack: the device of an interface that is gone", zap.Error(err))
	}
	return nil
}

// retireWait bounds the time in which frames may come back that were on their way when
// the interface went, ns. A receiver on this machine takes them within milliseconds.
const retireWait = int64(300 * time.Millisecond)

// retire is Retire as far as it needs the locks. device is nil where it was done before.
func retire(team []*Stack, index int) (device driver.Retirer, left int, err error) {
	defer hold(team)()
	gone, put := false, false
	for _, s := range team {
		k := s.linkOf(index)
		if s.life.ending.Load() {
			return nil, 0, errClosed
		}
		if k == nil {
			return nil, 0, syscall.ENODEV
		}
		gone = gone || errors.Is(k.err(), syscall.ENODEV) || errors.Is(k.err(), driver.ErrGone)
		put = k.put
	}
	s := team[0]
	device, ok := s.linkOf(index).steering.(driver.Retirer)
	switch {
	case !gone:
		return nil, 0, syscall.ENODEV
	case !s.hasDevices() || !ok:
		return nil, 0, errors.ErrUnsupported
	case put:
		return nil, 0, nil
	}
	for _, s := range team {
		k := s.linkOf(index)
		s.linkGone(k)
		k.put = true
		same := slices.Clone(s.queues)
		s.visible.Store(&same) // another list, so the seat is opened anew: it has a descriptor of the device
	}
	return device, device.Retire(), nil
}

// hasDevices reports whether nobody but the stack, or its team, uses the devices.
func (s *Stack) hasDevices() bool {
	if t := s.cfg.team; t != nil {
		return t.close != nil
	}
	return s.cfg.Close != nil
}

// Relink puts l in the place of the interface with index was, which Retire has put
// away: the sockets that used that one go on. Each stack of the team gets a part of the
// queues. The device of l carries the stack's arena, and is closed by closeDevice with
// the stack, or when it is retired. Where Relink fails, l stays the caller's.
func (s *Stack) Relink(was int, l Link, closeDevice func() error) error {
	team := s.team()
	old, err := relink(team, was, &l)
	if err != nil {
		return err
	}
	s.brought.add(l.Steering, closeDevice)
	if t := s.cfg.team; t != nil {
		t.spreadOver(l)
	}
	for _, m := range team {
		m.reseat()
		if err := m.ports.resteer(old, l.Steering); err != nil {
			s.cfg.Log.Warn("stack: some ports are the kernel's on an interface that came back",
				zap.String("interface", l.Name), zap.Error(err))
		}
	}
	return nil
}

func relink(team []*Stack, was int, l *Link) (old driver.Steering, err error) {
	if err := l.enough(len(team)); err != nil {
		return nil, err
	}
	defer hold(team)()
	for i, s := range team {
		part := l.part(i, len(team))
		if err := s.mayRelink(was, &part); err != nil {
			return nil, err
		}
	}
	for i, s := range team { // nothing fails behind this
		if err := s.readyQueues(l.part(i, len(team)).Queues); err != nil {
			return nil, err
		}
	}
	old = team[0].linkOf(was).steering
	for i, s := range team {
		part := l.part(i, len(team))
		s.replace(s.linkOf(was), &part)
	}
	return old, nil
}

// mayRelink returns why l cannot take the place of another link, or nil. The lock is
// held.
func (s *Stack) mayRelink(was int, l *Link) error {
	from := s.linkOf(was)
	switch {
	case s.life.ending.Load():
		return errClosed
	case from == nil || !from.put:
		return syscall.ENODEV
	case commonCaps(l.Queues).MaxFrags < s.caps.MaxFrags:
		return errors.ErrUnsupported
	case len(l.Queues) > s.room()+bits.OnesCount64(from.mask):
		return syscall.ENOSPC
	}
	return nil
}

// replace puts l, whose queues are ready, in the place of a link. The lock is held.
func (s *Stack) replace(from *link, l *Link) {
	k := newLink(l)
	s.free |= from.mask
	s.addReady(k, l.Queues)
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
}
