//go:build !race

package ring

import (
	"runtime"
	"sync/atomic"
	"testing"
)

// What was written before Defer is seen by the holder, also when the work was
// on the list already: Defer orders the write before its look at the list.
// The plain word is read while it may be written, which the race detector
// rightly does not like; the test is about the processor's store buffer.
func TestLockDeferPublishes(t *testing.T) {
	l := NewLock()
	var w Work
	var pending struct {
		_ [64]byte
		n uint64
		_ [64]byte
	}
	var started, finished atomic.Uint64
	rounds := uint64(tortureRounds()) * 20
	if runtime.GOMAXPROCS(0) == 1 {
		rounds = 100 // one store buffer: nothing to see
	}
	go func() {
		for n := uint64(1); n <= rounds; n++ {
			for started.Load() < n {
			}
			pending.n = n
			l.Defer(&w)
			finished.Store(n)
		}
	}()
	l.Lock()
	done, lost := uint64(0), 0
	do := func(*Work) { done = pending.n }
	for n := uint64(1); n <= rounds; n++ {
		l.Post(&w)
		started.Store(n)
		for range n % 200 {
			_ = started.Load() // let the other come to its write
		}
		l.Take(do)
		for finished.Load() < n {
		}
		l.Take(do)
		if done != n {
			lost++
		}
	}
	if lost > 0 {
		t.Errorf("work lost in %d of %d rounds", lost, rounds)
	}
}
