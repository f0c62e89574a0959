package ip

import "testing"

// burst counts what a full limiter lets pass at once.
func burst(l *Limiter, now int64) (n int) {
	for l.Allow(now) {
		n++
	}
	return n
}

func TestLimiter(t *testing.T) {
	var l Limiter
	l.Init(0, 1000, 50, [32]byte{1})
	seen := map[int]int{}
	now := int64(0)
	for range 2000 {
		n := burst(&l, now)
		if n < 15 || n > 75 {
			t.Fatalf("a burst of %d", n)
		}
		seen[n]++
		now += 1e9 // long enough to be full again
	}
	// The oracle: a prober that knows the size of the bucket learns from a burst
	// how much of it others used.
	for n, times := range seen {
		if times > 200 {
			t.Errorf("%d of 2000 bursts are of %d: to be foreseen", times, n)
		}
	}
	// In the long run it is the rate.
	n := 0
	for range 100_000 {
		now += 1e5 // 10,000 a second are asked for
		if l.Allow(now) {
			n++
		}
	}
	if n < 9_500 || n > 10_500 {
		t.Errorf("%d in 10 s, at 1000 a second", n)
	}
	now -= 1e12 // a clock that goes back gives nothing away
	if n := burst(&l, now); n > 2 {
		t.Errorf("%d after the clock went back", n)
	}
	if n := testing.AllocsPerRun(100, func() { l.Allow(now); now += 1e6 }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// Two hosts with different seeds behave differently, with the same alike.
func TestLimiterSeed(t *testing.T) {
	trace := func(seed byte) (s string) {
		var l Limiter
		l.Init(0, 100, 20, [32]byte{seed})
		for i := range int64(300) {
			if l.Allow(i * 5e6) {
				s += "x"
			} else {
				s += "."
			}
		}
		return s
	}
	one, again := trace(1), trace(1)
	if one != again || one == trace(2) {
		t.Error("does not depend on the seed alone")
	}
}
