package vmrun

import (
	"sync"
	"time"
)

// tscKHz is the rate of the time stamp counter, which an emulated processor reads from the
// host's. A guest's kernel that measures it by itself on a busy host may be wrong by a
// factor of 10. Its clock then runs as wrong: tests time out in seconds, or stand still.
var tscKHz = sync.OnceValue(func() uint64 {
	from, start := readClocks()
	time.Sleep(50 * time.Millisecond)
	to, end := readClocks()
	return (to - from) * uint64(time.Millisecond) / uint64(end.Sub(start))
})

// readClocks reads the counter and the clock at once: the pair that took the shortest of
// some tries, as others may have had the processor in between.
func readClocks() (tsc uint64, at time.Time) {
	best := time.Hour
	for range 100 {
		before := time.Now()
		t := readTSC()
		if took := time.Since(before); took < best {
			best, tsc, at = took, t, before
		}
	}
	return tsc, at
}
