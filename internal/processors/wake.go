package processors

import (
	"sync/atomic"
	"time"
)

// Wake keeps a wake-up's cost current by the wake-ups that happen anyway: a
// goroutine that wakes another leaves the time and the woken one takes the
// difference, or the difference to when its timer was due. That is two looks at
// the clock beside a wake-up of tens of microseconds.
//
// It is a running median: each observation moves it by a 16th of itself, up or
// down, so that neither a preempted thread nor a goroutine that was woken
// before it had slept counts for more than one. It halves or doubles within 12
// observations.
type Wake struct{ ns atomic.Int64 }

// minWake bounds the running median from below, so that it can rise again.
const minWake = 100 // ns

// Set starts from a measured cost.
func (w *Wake) Set(cost time.Duration) { w.ns.Store(max(int64(cost), minWake)) }

// Cost is the running median; 0 before there is any.
func (w *Wake) Cost() time.Duration { return time.Duration(w.ns.Load()) }

// Observe adds a wake-up. Of two at the same time one may be lost.
func (w *Wake) Observe(cost time.Duration) {
	now := w.ns.Load()
	if now == 0 {
		w.Set(cost)
		return
	}
	step := max(now/16, 1)
	if int64(cost) < now {
		step = -step
	}
	w.ns.Store(max(now+step, minWake))
}
