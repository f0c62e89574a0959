package engine

import (
	"fmt"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/internal/stack"
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
	of := map[driver.Queue]stack.Tapped{}
	for i, d := range devices {
		// Queues may come meanwhile. Both lists begin with the same ones.
		queues, recorded := d.Queues(), taps[i].Queues()
		for n := range min(len(queues), len(recorded)) {
			of[queues[n]] = stack.Tapped{Tap: taps[i], Index: n, Queue: recorded[n]}
		}
	}
	var tapped []*stack.Stack
	stop = func() {
		for _, s := range tapped {
			_ = s.SetTap(nil) // which does not fail
		}
	}
	for _, s := range e.working() {
		if err := s.SetTap(of); err != nil {
			stop()
			return nil, fmt.Errorf("onload: tap of %s: %w", s.Name(), err)
		}
		tapped = append(tapped, s)
	}
	return stop, nil
}
