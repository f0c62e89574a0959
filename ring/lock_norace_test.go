//go:build !race

package ring

import (
	"math"
	"runtime"
	"sync/atomic"
	"testing"
	"time"
)

// The holder sees all writes from before Defer, even if the work was on the list
// already: Defer orders the write before its look at the list. The plain word is
// read while it may be written, which the race detector rightly dislikes; the test
// is about the processor's store buffer.
func TestLockDeferPublishes(t *testing.T) {
	const stop, patience = math.MaxUint64, 5 * time.Second
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
		for n := uint64(1); ; n++ {
			for started.Load() < n {
			}
			if started.Load() == stop {
				return
			}
			pending.n = n
			l.Defer(&w)
			finished.Store(n)
		}
	}()
	l.Lock()
	done, lost := uint64(0), 0
	do := func(*Work) { done = pending.n }
	begin := time.Now()
	for n := uint64(1); n <= rounds; n++ {
		// Where others use the processors, a round may take a time slice.
		if n%16 == 0 && time.Since(begin) > patience {
			t.Logf("%d of %d rounds in %v", n, rounds, patience)
			break
		}
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
	started.Store(stop)
	if lost > 0 {
		t.Errorf("work lost in %d of %d rounds", lost, rounds)
	}
}
