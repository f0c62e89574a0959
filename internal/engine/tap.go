package engine

import (
	"fmt"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/internal/stack"
	"github.com/onload-go/onload/ring"
)

// Tap has the packets of all accelerated interfaces pass through taps, until stop.
// It fails if nothing is accelerated, and with EBUSY if there are taps already.
func (e *Engine) Tap(open driver.OpenTaps) (stop func(), err error) {
	var devices []driver.Device
	for _, i := range e.interfaces() {
		if i.err() == nil {
			devices = append(devices, i.Device)
		}
	}
	if len(devices) == 0 {
		why := e.none
		if why == "" {
			why = e.whyNone()
		}
		return nil, fmt.Errorf("onload: no packets to see: %s", why)
	}
	taps, err := open(devices)
	if err != nil {
		return nil, fmt.Errorf("onload: %w", err)
	}
	of := map[driver.Device]driver.Tap{}
	for i, d := range devices {
		of[d] = taps[i]
	}
	var tapped []*stack.Stack
	stop = func() {
		for _, s := range tapped {
			_ = s.SetTap(nil) // which does not fail
		}
	}
	for _, s := range e.working() {
		if err := s.SetTap(e.tapOf(s, of)); err != nil {
			stop()
			return nil, fmt.Errorf("onload: tap of %s: %w", s.Name(), err)
		}
		tapped = append(tapped, s)
	}
	return stop, nil
}

// tapOf is one tap of all of a stack's devices. A broken device has none.
func (e *Engine) tapOf(s *stack.Stack, of map[driver.Device]driver.Tap) *stackTap {
	t := &stackTap{}
	for _, i := range e.interfaces() {
		if i.Stack != s {
			continue
		}
		tap, queues := of[i.Device], i.Device.Queues()
		if tap != nil {
			queues = tap.Queues()
		}
		for n, q := range queues {
			t.queues = append(t.queues, q)
			t.at = append(t.at, tapQueue{tap, n})
		}
	}
	return t
}

// stackTap joins the taps of a stack's devices: its queues are those of all links,
// in the order of the interfaces.
type stackTap struct {
	queues []driver.Queue
	at     []tapQueue // of each queue
}

type tapQueue struct {
	tap   driver.Tap // nil: none
	queue int        // its number there
}

// of is where a queue of the stack's is recorded: nowhere where it came later.
func (t *stackTap) of(queue int) tapQueue {
	if queue >= len(t.at) {
		return tapQueue{}
	}
	return t.at[queue]
}

// Queues implements driver.Tap.
func (t *stackTap) Queues() []driver.Queue { return t.queues }

// Dropped implements driver.Tap.
func (t *stackTap) Dropped(queue int, f ring.Frame, why string) {
	if a := t.of(queue); a.tap != nil {
		a.tap.Dropped(a.queue, f, why)
	}
}

// Done implements driver.Tap.
func (t *stackTap) Done(queue int) {
	if a := t.of(queue); a.tap != nil {
		a.tap.Done(a.queue)
	}
}
