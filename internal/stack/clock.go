package stack

import (
	"math"
	"time"
	_ "unsafe" // go:linkname
)

// nanotime is the runtime's monotonic clock. time.Since would read a fake
// clock on a goroutine inside a testing/synctest bubble, and the stack's
// timers must not depend on who happens to poll.
//
//go:linkname nanotime runtime.nanotime
func nanotime() int64

// never is a deadline that no clock reaches.
const never = math.MaxInt64

// deadlineAt puts an application's deadline on the stack's clock: 0 is none,
// and a deadline in the past is at once. One beyond the clock's end, where
// time.Until stops counting, does not come. clock is the application's, which was just
// read.
func deadlineAt(t, clock time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	now, d := nanotime(), int64(t.Sub(clock))
	if d > never-now {
		return never
	}
	return max(now+d, 1)
}
