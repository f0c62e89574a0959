package engine

import (
	"fmt"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/internal/stack"
)

// Tap has the packets of all accelerated interfaces pass through taps, until
// stop. It fails where nothing is accelerated, and with EBUSY where there are
// taps.
func (e *Engine) Tap(open driver.OpenTaps) (stop func(), err error) {
	var stacks []*stack.Stack
	var devices []driver.Device
	for _, i := range e.ifs {
		if i.err() == nil {
			stacks, devices = append(stacks, i.Stack), append(devices, i.Device)
		}
	}
	if len(stacks) == 0 {
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
	var tapped []*stack.Stack
	stop = func() {
		for _, s := range tapped {
			_ = s.SetTap(nil) // which does not fail
		}
	}
	for i, s := range stacks {
		if err := s.SetTap(taps[i]); err != nil {
			stop()
			return nil, fmt.Errorf("onload: tap of %s: %w", devices[i].Name(), err)
		}
		tapped = append(tapped, s)
	}
	return stop, nil
}
