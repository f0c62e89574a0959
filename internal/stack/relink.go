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

// Relink puts l in the place of the interface with index was, which was deleted: the
// sockets that used that one go on, and its device gives its frames to those of l,
// which carry the stack's arena. The stack closes the device of l by closeDevice.
// Where Relink fails, l stays the caller's.
func (s *Stack) Relink(was int, l Link, closeDevice func() error) error {
	old, err := s.relink(was, &l, closeDevice)
	if err != nil {
		return err
	}
	s.reseat()
	return s.ports.resteer(old, l.Steering)
}

func (s *Stack) relink(was int, l *Link, closeDevice func() error) (old driver.Steering, err error) {
	s.begin()
	defer s.end()
	from := s.linkOf(was)
	switch {
	case s.life.ending.Load():
		return nil, errClosed
	case from == nil || !from.gone.Load():
		return nil, syscall.ENODEV
	case s.cfg.team != nil || s.shared() || !covers(commonCaps(l.Queues), s.caps):
		return nil, errors.ErrUnsupported
	case len(l.Queues) > s.room()+bits.OnesCount64(from.mask):
		return nil, syscall.ENOSPC
	}
	device, ok := from.steering.(driver.Retirer)
	if !ok {
		return nil, errors.ErrUnsupported
	}
	if err := device.Retire(); err != nil {
		s.cfg.Log.Debug("stack: the device of an interface that is gone", zap.String("interface", from.name), zap.Error(err))
	}
	k := newLink(l)
	s.free |= from.mask
	if err := s.takeQueues(k, l.Queues); err != nil {
		s.free &^= from.mask
		return nil, err
	}
	before := s.cfg.Close
	s.cfg.Close = func() error { return errors.Join(closeDevice(), before()) }
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

// covers reports whether queues with those capabilities can send what connections
// make for others.
func covers(c, others *driver.Caps) bool {
	return c.MaxFrags >= others.MaxFrags && c.TSO >= others.TSO && c.TSOFrags >= others.TSOFrags && (c.TxCsum || !others.TxCsum)
}
