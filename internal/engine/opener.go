package engine

import (
	"context"
	"errors"
	"slices"
	"syscall"

	"go.uber.org/zap"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/internal/control"
	"github.com/onload-go/onload/internal/event"
	"github.com/onload-go/onload/internal/stack"
	"github.com/onload-go/onload/ring"
)

// opener opens the interfaces of an engine, and makes one Stack of all that can
// share one.
type opener struct {
	e       *Engine
	ctx     context.Context // ends waits for what others have
	sharers int             // interfaces that are to be opened
	groups  []*group
}

// group is interfaces whose devices share an arena: one team of stacks is to span
// them.
type group struct {
	ifs    []*Interface
	queues int
	fewest int // queues of an interface
}

// openFunc opens a device that shares an arena, nil for one of its own, which is to be
// for so many devices.
type openFunc func(arena *ring.Arena, sharers int) (driver.Device, error)

// mostSharers bounds the interfaces for which an arena is made: most of those that
// ONLOAD_INTERFACES=auto tries are refused.
const mostSharers = 8

// open opens the device of i, one link of the kernel's.
func (o *opener) open(i *Interface, l control.Link, mode Mode) error {
	return o.openAs(i, func(arena *ring.Arena, sharers int) (driver.Device, error) {
		return o.e.openDevice(o.ctx, l, mode, arena, sharers)
	})
}

// openAs has fn open the device of i. It joins the interfaces before it if it can share
// their arena. The limit on locked memory counts the arena again for each device, and a
// Stack has at most stack.MaxQueues queues.
func (o *opener) openAs(i *Interface, fn openFunc) error {
	fn = o.enough(fn)
	if n := len(o.groups); n > 0 {
		g := o.groups[n-1]
		dev, err := fn(g.arena(), o.sharers)
		switch {
		case err == nil && g.queues+len(dev.Queues()) <= stack.MaxQueues:
			i.Device = dev
			g.add(i)
			return nil
		case err == nil:
			if err := dev.Close(); err != nil {
				return err
			}
		case !errors.Is(err, syscall.ENOBUFS):
			return err
		}
		o.e.log.Warn("interface has a stack and memory of its own: its flows do not move to others' links, nor theirs to it", event.InterfaceAlone.Field(),
			zap.String("interface", i.Name), zap.Error(err))
	}
	dev, err := fn(nil, min(o.sharers, mostSharers))
	if err != nil {
		return err
	}
	i.Device = dev
	g := &group{}
	g.add(i)
	o.groups = append(o.groups, g)
	return nil
}

// enough has fn open a device with queues for all stacks.
func (o *opener) enough(fn openFunc) openFunc {
	return func(arena *ring.Arena, sharers int) (driver.Device, error) {
		d, err := fn(arena, sharers)
		if err != nil {
			return nil, err
		}
		if err := o.e.cfg.enoughQueues(d); err != nil {
			return nil, errors.Join(err, d.Close())
		}
		return d, nil
	}
}

func (g *group) add(i *Interface) {
	g.ifs = append(g.ifs, i)
	n := len(i.Device.Queues())
	if g.queues += n; g.fewest == 0 || n < g.fewest {
		g.fewest = n
	}
}

func (g *group) arena() *ring.Arena { return g.ifs[0].Device.Arena() }

// makeStacks makes a team over each group. If that fails, the group's interfaces
// are closed, and say why.
func (o *opener) makeStacks() {
	for _, g := range o.groups {
		c := o.e.stackConfig()
		c.Flows = o.e.guard.flows(o.e)
		for _, i := range g.ifs {
			c.Over(i.Index, i.Device)
			link := &c.Links[len(c.Links)-1]
			if link.NoKernel = !i.Kernel; i.host != nil {
				link.Host = i.host.frame
			}
		}
		team, err := stack.NewTeam(c, o.e.cfg.teamOf(g.fewest))
		for _, i := range g.ifs {
			if err != nil {
				i.Device, i.Err = nil, err
				continue
			}
			i.Stacks = team
			if o.e.log.Core().Enabled(zap.DebugLevel) {
				for _, a := range o.e.advice(i) {
					o.e.log.Debug("advice", zap.String("interface", i.Name), zap.String("is", a))
				}
			}
		}
	}
}

// stacks are those of all interfaces, also lost ones, each once.
func (e *Engine) stacks() (l []*stack.Stack) {
	e.retiredMu.Lock()
	l = slices.Clone(e.retired)
	e.retiredMu.Unlock()
	for _, i := range e.interfaces() {
		l = appendOnce(l, i.Stacks...)
	}
	return l
}

// working are the stacks that nothing has broken, each once.
func (e *Engine) working() (l []*stack.Stack) {
	for _, i := range e.interfaces() {
		if i.err() == nil {
			l = appendOnce(l, i.Stacks...)
		}
	}
	return l
}

// appendOnce appends those of ss that are not there.
func appendOnce(l []*stack.Stack, ss ...*stack.Stack) []*stack.Stack {
	for _, s := range ss {
		if !slices.Contains(l, s) {
			l = append(l, s)
		}
	}
	return l
}
