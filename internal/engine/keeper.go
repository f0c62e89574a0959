package engine

import (
	"context"
	"errors"
	"slices"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/internal/control"
	"github.com/onload-go/onload/internal/event"
	"github.com/onload-go/onload/internal/stack"
)

// keeper takes interfaces that could not be had at the start, or were lost
// since, as soon as they are there: made again, up, or freed by another process.
// An interface that comes back joins the Stacks that lost it. Another one gets a Stack
// of its own, on which listeners and bound sockets get a shard. Queues that an
// interface gets join its Stack.
type keeper struct {
	e     *Engine
	news  chan struct{} // a link has changed
	stop  context.CancelFunc
	done  chan struct{}
	unsub func()

	// tried has the state of each link when it was last refused. A link is tried
	// again when that has changed; one that another process holds, every busyRetry.
	tried map[int]control.Link
	busy  map[int]bool
	lost  map[string]bool // interfaces whose loss has been logged
}

// busyRetry is the time between two attempts at an interface that another process
// holds: the kernel does not announce that an XDP program goes.
const busyRetry = time.Second

// tryWait bounds how long an attempt waits for what another process has just given up:
// its queues are busy for some 20 ms. Queues that came, other interfaces and Close wait
// for the attempt.
const tryWait = 200 * time.Millisecond

// growRetry is the time between two attempts at queues that came and could not be taken:
// memory may have been short, or another process had them. Nothing announces that this
// has changed.
const growRetry = 2 * time.Second

// keep starts the keeper. Until then nobody but the caller uses e.
func (e *Engine) keep() {
	ctx, stop := context.WithCancel(context.Background())
	k := &keeper{
		e: e, news: make(chan struct{}, 1), stop: stop, done: make(chan struct{}),
		tried: map[int]control.Link{}, busy: map[int]bool{}, lost: map[string]bool{},
	}
	for _, i := range e.interfaces() {
		if i.Err == nil {
			continue
		}
		k.lost[i.Name] = true // it was logged at the start
		if l, ok := e.net.Link(i.Index); ok {
			k.refused(l, i.Err)
		}
	}
	k.unsub = e.net.Subscribe(k.hear)
	e.keeper = k
	go k.run(ctx)
}

func (k *keeper) hear(c control.Change) {
	if c.Kind == control.LinkChanged || c.Kind == control.LinkGone {
		k.wake()
	}
}

func (k *keeper) wake() {
	select {
	case k.news <- struct{}{}:
	default:
	}
}

// hearLast has the keeper hear of changes after all Stacks, also those that have
// come: it asks them what is gone.
func (k *keeper) hearLast() {
	k.unsub()
	k.unsub = k.e.net.Subscribe(k.hear)
	k.wake() // a change may have come meanwhile
}

// close ends the keeper, and waits for an attempt that is under way.
func (k *keeper) close() {
	if k == nil {
		return
	}
	k.stop()
	<-k.done
	k.unsub()
}

// lookAgain has the keeper look at the interfaces, once there is one.
func (e *Engine) lookAgain() {
	select {
	case e.grown <- struct{}{}:
	default: // it is about to look
	}
}

func (k *keeper) run(ctx context.Context) {
	defer close(k.done)
	retry := time.NewTimer(busyRetry)
	defer retry.Stop()
	again := time.NewTimer(growRetry)
	again.Stop() // until queues could not be taken
	defer again.Stop()
	grow := func() {
		again.Stop()
		if !k.grow(ctx) {
			again.Reset(growRetry)
		}
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-k.news:
			grow() // drivers may change their queues without a notice of that
		case <-retry.C:
		case <-k.e.grown:
			grow()
		case <-again.C:
			grow()
			continue
		}
		k.look(ctx)
		retry.Stop()
		if len(k.busy) > 0 {
			retry.Reset(busyRetry)
		}
	}
}

// look tries the interfaces that carry nothing.
func (k *keeper) look(ctx context.Context) {
	links := k.e.net.Links()
	for n := range k.busy {
		if _, ok := k.e.net.Link(n); !ok {
			delete(k.busy, n)
			delete(k.tried, n)
		}
	}
	known := k.e.interfaces()
	for n, i := range known {
		err := i.err()
		if err == nil {
			continue
		}
		if !k.lost[i.Name] {
			k.lost[i.Name] = true
			k.e.log.Warn("interface is lost, and left to the kernel", event.InterfaceLost.Field(), zap.String("interface", i.Name), zap.Error(err))
		}
		if len(i.Stacks) > 0 && !errors.Is(err, syscall.ENODEV) && !errors.Is(err, driver.ErrGone) {
			continue // a ring was corrupt: whoever did that may do it again
		}
		k.letGo(i)
		if !i.Kernel {
			continue // a device that was lost has to be bound to vfio-pci again
		}
		if l, ok := linkNamed(links, i.Name); ok {
			k.try(ctx, n, i.Name, l, k.e.modeOf(l))
		}
	}
	if k.e.cfg.Interfaces[0] != autoInterfaces {
		return
	}
	for _, l := range links {
		if fits(l) && !slices.ContainsFunc(known, func(i *Interface) bool { return i.Index == l.Index || i.Name == l.Name }) {
			k.try(ctx, -1, l.Name, l, k.e.modeOf(l))
		}
	}
}

// refused notes that l could not be had.
func (k *keeper) refused(l control.Link, err error) {
	l.Addrs = nil // they make no difference
	k.tried[l.Index] = l
	delete(k.busy, l.Index)
	if errors.Is(err, syscall.EBUSY) {
		k.busy[l.Index] = true
	}
}

// try takes a link for the interface of that name: the engine's n-th or, if n is
// -1, another.
func (k *keeper) try(ctx context.Context, n int, name string, l control.Link, mode Mode) {
	if was, ok := k.tried[l.Index]; ok && !k.busy[l.Index] && sameLink(was, l) {
		return
	}
	i := &Interface{Name: name, Index: l.Index, Kernel: true}
	ctx, done := context.WithTimeout(ctx, tryWait)
	defer done()
	if n < 0 || !k.rejoin(ctx, i, k.e.interfaces()[n], l, mode) {
		o := opener{e: k.e, ctx: ctx, sharers: 1}
		i.Err = o.open(i, l, mode)
		o.makeStacks()
	}
	if i.Err != nil {
		i.Err, _ = nameSetting(i.Err)
		k.refused(l, i.Err)
		k.e.log.Debug("interface is left to the kernel", event.InterfaceRefused.Field(), zap.String("interface", name), zap.Error(i.Err))
	} else {
		delete(k.tried, l.Index)
		delete(k.busy, l.Index)
		delete(k.lost, name)
	}
	k.e.publish(n, i)
	if len(i.Stacks) > 0 {
		k.e.noteInterface(i)
		k.e.retap()
		k.e.openErrors()
		k.hearLast()
		k.e.bound.join(k.e)
	}
}

// letGo puts the device of an interface away that is gone. The interface may come
// back with the program of that device, if it was moved to another namespace.
func (k *keeper) letGo(i *Interface) {
	if s := i.first(); s != nil && s.Retire(i.Index) == nil {
		return
	}
	if r, ok := i.Device.(driver.Retirer); ok {
		if err := r.Detach(); err != nil {
			k.e.log.Debug("interface that is gone keeps its program", zap.String("interface", i.Name), zap.Error(err))
		}
	}
}

// rejoin opens i, which was made again, for the Stacks that lost it as was: their
// sockets go on, in the same memory. It reports whether that was tried; i.Err is why it
// failed. Where it cannot be, i gets Stacks of its own.
func (k *keeper) rejoin(ctx context.Context, i, was *Interface, l control.Link, mode Mode) bool {
	s := was.first()
	if s == nil {
		return false
	}
	dev, err := k.e.openDevice(ctx, l, mode, was.Device.Arena(), len(s.Links()))
	if err != nil {
		i.Err = err
		return !errors.Is(err, syscall.ENOBUFS)
	}
	if err = k.e.cfg.enoughQueues(dev); err != nil {
		i.Err = errors.Join(err, dev.Close())
		return true
	}
	err = s.Relink(was.Index, stack.Link{Name: dev.Name(), Index: l.Index, Queues: dev.Queues(), Steering: dev}, dev.Close)
	if err != nil {
		k.e.log.Warn("interface has a stack and memory of its own: flows of before do not go on", event.InterfaceAlone.Field(),
			zap.String("interface", l.Name), zap.Error(errors.Join(err, dev.Close())))
		return false
	}
	i.Stacks, i.Device = was.Stacks, dev
	return true
}

// grow takes the queues that interfaces have got, and reports whether none is left. It
// waits for busy queues until ctx ends.
func (k *keeper) grow(ctx context.Context) (all bool) {
	all = true
	for _, i := range k.e.interfaces() {
		g, ok := i.Device.(driver.Grower)
		if !ok || i.err() != nil {
			continue
		}
		was := g.Missing()
		err := g.Grow(ctx, i.addQueues)
		k.e.retap()
		all = all && err == nil
		if err != nil && ctx.Err() == nil && g.Missing() != was {
			k.e.log.Warn("queues that came are left to the kernel: connections whose packets come by them break", event.QueuesRefused.Field(),
				zap.String("interface", i.Name), zap.Error(err))
		}
	}
	return all
}

// sameLink reports whether nothing has changed that may let a device open.
func sameLink(a, b control.Link) bool {
	return a.Name == b.Name && a.MTU == b.MTU && a.Up == b.Up && a.Carrier == b.Carrier && a.Master == b.Master
}

// interfaces are those that the engine was told to accelerate. Neither the list nor
// its elements change.
func (e *Engine) interfaces() []*Interface {
	if p := e.published.Load(); p != nil {
		return *p
	}
	return e.ifs
}

// publish replaces the n-th interface, or adds one where n is -1. Only the keeper
// calls it.
func (e *Engine) publish(n int, i *Interface) {
	all := slices.Clone(e.interfaces())
	if n < 0 {
		all = append(all, i)
	} else {
		if old := all[n]; len(old.Stacks) > 0 && len(i.Stacks) == 0 {
			return // it says why it was lost
		}
		if !slices.Equal(all[n].Stacks, i.Stacks) {
			e.retire(all[n].Stacks)
		}
		all[n] = i
	}
	e.published.Store(&all)
}

// retire keeps Stacks that lost an interface until the engine closes: sockets are
// on them.
func (e *Engine) retire(ss []*stack.Stack) {
	e.retiredMu.Lock()
	defer e.retiredMu.Unlock()
	e.retired = appendOnce(e.retired, ss...)
}
