package engine

import (
	"fmt"
	"slices"
	"sync"

	"go.uber.org/zap"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/internal/event"
	"github.com/onload-go/onload/internal/stack"
)

// taps record the packets of the engine's stacks.
type taps struct {
	mu     sync.Mutex
	open   []*tapping
	points map[driver.Queue]*driver.TapPoint // of all queues that were met
	names  []string                          // of the interfaces, by their number
}

// tapping is one who records, with a Tap for each stack.
type tapping struct {
	open driver.OpenTap
	of   map[*stack.Stack]driver.Tap // nil: it could not be opened
}

// Tap has the packets of all accelerated interfaces recorded by taps, until stop: also of
// interfaces and queues that come meanwhile. It fails if nothing is accelerated.
func (e *Engine) Tap(open driver.OpenTap) (stop func(), err error) {
	t := &e.taps
	t.mu.Lock()
	defer t.mu.Unlock()
	stacks := e.working()
	if len(stacks) == 0 {
		why := e.none
		if why == "" {
			why = e.whyNone()
		}
		return nil, fmt.Errorf("onload: no packets to see: %s", why)
	}
	t.points = t.meet(e.interfaces())
	g := &tapping{open: open, of: map[*stack.Stack]driver.Tap{}}
	for _, s := range stacks {
		if g.of[s], err = open(t.names); err != nil {
			return nil, fmt.Errorf("onload: %w", err)
		}
	}
	t.open = append(t.open, g)
	e.setTaps()
	return sync.OnceFunc(func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.open = slices.DeleteFunc(t.open, func(o *tapping) bool { return o == g })
		e.setTaps()
	}), nil
}

// retap has the taps record what has come: stacks, interfaces, queues.
func (e *Engine) retap() {
	e.taps.mu.Lock()
	defer e.taps.mu.Unlock()
	if len(e.taps.open) > 0 {
		e.setTaps()
	}
}

// setTaps tells all stacks of the taps. e.taps.mu is held.
func (e *Engine) setTaps() {
	t := &e.taps
	t.points = t.meet(e.interfaces())
	for _, s := range e.stacks() {
		var all []driver.Tap
		for _, g := range t.open {
			tap, met := g.of[s]
			if !met {
				var err error
				if tap, err = g.open(t.names); err != nil {
					e.log.Warn("packets of an interface that came are not recorded", event.TapMissing.Field(), zap.Error(err))
				}
				g.of[s] = tap
			}
			if tap != nil {
				all = append(all, tap)
			}
		}
		s.SetTaps(t.points, all)
	}
}

// meet numbers interfaces, and names their queues.
func (t *taps) meet(interfaces []*Interface) map[driver.Queue]*driver.TapPoint {
	points := map[driver.Queue]*driver.TapPoint{}
	for _, i := range interfaces {
		if len(i.Stacks) == 0 || i.Device == nil {
			continue
		}
		name := i.Device.Name()
		number := slices.Index(t.names, name)
		if number < 0 {
			number = len(t.names)
			t.names = append(t.names, name)
		}
		for n, q := range i.Device.Queues() {
			if p := t.points[q]; p != nil && p.Number == number {
				points[q] = p
				continue
			}
			points[q] = &driver.TapPoint{Interface: name, Number: number, Queue: n, Arena: i.Device.Arena()}
		}
	}
	return points
}
