package stack

import "testing"

// TestStatsChangesNothing: looking at the counters moves no frame, and what is
// counted as free does not depend on which frames wait in the cache or were
// offered to the queues.
func TestStatsChangesNothing(t *testing.T) {
	a, b := newPair(t, pairOptions{profile: Throughput})
	connect(t, a, b, addrB)
	a.begin()
	defer a.end()
	f, ok := a.cache.Alloc() // fills the cache
	if !ok {
		t.Fatal("no frame")
	}
	a.cache.Release(f)
	look := func() [3]int { return [3]int{a.arena.FreeFrames(), a.cache.Len(), a.queues[0].Lacks()} }
	before, free := look(), a.freeFrames()
	if got := look(); got != before || before[1] == 0 {
		t.Errorf("frames in arena and cache, and lacking: %v, were %v", got, before)
	}
	a.cache.Flush()
	a.queues[0].Refill()
	if got := a.freeFrames(); got != free || got != a.arena.FreeFrames() {
		t.Errorf("%d frames are free, with cache and queue at rest %d, in the arena %d", free, got, a.arena.FreeFrames())
	}
}
