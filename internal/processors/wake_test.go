package processors

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func TestWakeCost(t *testing.T) {
	cost, err := WakeCost()
	t.Log(cost)
	if err != nil || cost <= 0 {
		t.Errorf("%v, %v", cost, err)
	}
}

// The cost approaches the median of the observations, whatever the outliers.
func TestWake(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, start := range []time.Duration{time.Microsecond, 20 * time.Microsecond, time.Millisecond} {
		var w Wake
		w.Set(start)
		var seen []time.Duration
		for n := range 2000 {
			cost := time.Duration(20_000 + r.IntN(10_000))
			if r.IntN(10) == 0 {
				cost = 4 * time.Millisecond // preempted
			}
			w.Observe(cost)
			if n >= 1000 {
				seen = append(seen, w.Cost())
			}
		}
		slices.Sort(seen)
		if m := seen[len(seen)/2]; m < 23*time.Microsecond || m > 28*time.Microsecond {
			t.Errorf("from %v: %v, want about 25 us", start, m)
		}
	}
}

func TestWakeMoves(t *testing.T) {
	var w Wake
	if w.Cost() != 0 {
		t.Errorf("%v before any observation", w.Cost())
	}
	w.Observe(30 * time.Microsecond)
	if w.Cost() != 30*time.Microsecond {
		t.Errorf("%v after the first of 30 us", w.Cost())
	}
	for range 12 {
		w.Observe(time.Second)
	}
	if w.Cost() < 60*time.Microsecond {
		t.Errorf("%v: not doubled by 12 observations", w.Cost())
	}
	for range 1000 {
		w.Observe(0)
	}
	for range 200 {
		w.Observe(50 * time.Microsecond)
	}
	if w.Cost() < 45*time.Microsecond {
		t.Errorf("%v: does not come back from the floor", w.Cost())
	}
}
