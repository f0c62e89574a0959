package stack

import (
	"math"
	"math/rand/v2"
	"testing"
)

func TestGapBuckets(t *testing.T) {
	for _, c := range []struct {
		gap    int64
		bucket int
	}{
		{-1, 0}, {0, 0}, {511, 0}, {512, 1}, {767, 1}, {768, 2}, {1023, 2}, {1024, 3}, {1535, 3}, {1536, 4}, {2048, 5},
		{1 << 20, 23}, {1<<20 + 1<<19, 24}, {1 << 21, 25}, {1 << 40, 25}, {math.MaxInt64, 25},
	} {
		if got := gapBucket(c.gap); got != c.bucket {
			t.Errorf("gapBucket(%d) = %d, want %d", c.gap, got, c.bucket)
		}
	}
	// Each bucket ends where the next begins.
	for i := range gapBuckets - 1 {
		edge := gapEdge(i)
		if gapBucket(edge-1) != i || gapBucket(edge) != i+1 {
			t.Errorf("edge %d of bucket %d: %d is in %d, %d in %d", edge, i, edge-1, gapBucket(edge-1), edge, gapBucket(edge))
		}
	}
}

func TestGapsForget(t *testing.T) {
	var g gaps
	for range 10 * gapsMost {
		g.add(1_000)
	}
	for range 2 * gapsMost {
		g.add(100_000)
	}
	if old, now := g.count[gapBucket(1_000)], g.count[gapBucket(100_000)]; 8*old > now {
		t.Errorf("%d gaps of the past count beside %d of now", old, now)
	}
	total := uint32(0)
	for i, n := range g.count {
		total += n
		if n == 0 && g.sum[i] != 0 {
			t.Errorf("bucket %d is empty, and sums up to %d", i, g.sum[i])
		}
	}
	if total != g.total || total >= gapsMost {
		t.Errorf("%d gaps, total is %d", total, g.total)
	}
}

// costOf is what all gaps cost with a spin of b, an edge of a bucket.
func costOf(all []int64, b, price int64) (cost int64) {
	for _, gap := range all {
		if b > 0 && gap < b {
			cost += gap
		} else {
			cost += b + price
		}
	}
	return cost
}

// The budget is the cheapest of all, found by brute force.
func TestGapsBest(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for range 2_000 {
		var g gaps
		all := make([]int64, r.IntN(gapsMost))
		mean := math.Exp(5 + 10*r.Float64())
		for i := range all {
			all[i] = shape(r.IntN(int(shapes))).draw(int64(mean), r)
			g.add(all[i])
		}
		price := 1 + r.Int64N(400_000)
		best, least := int64(0), costOf(all, 0, price)
		for i := range gapBuckets - 1 {
			if c := costOf(all, gapEdge(i), price); c < least {
				best, least = gapEdge(i), c
			}
		}
		if got := g.best(price); got != best {
			t.Fatalf("a spin of %d costs %d; one of %d costs %d", got, costOf(all, got, price), best, least)
		}
	}
}

// epochOf runs an epoch of events gap ns apart, each of work bytes and cpu ns.
func epochOf(e *epoch, at *int64, gap, work, cpu int64, trial bool) (c cost, ok bool) {
	for {
		*at += gap
		if e.event(*at, trial, false) {
			if c, ok = e.end(*at, *at/gap*work, *at/gap*cpu, 0); ok || !e.started {
				return c, ok
			}
		}
	}
}

func TestEpoch(t *testing.T) {
	var e epoch
	at := int64(1_000_000)
	c, ok := epochOf(&e, &at, 50_000, 200, 10_000, false)
	if !ok {
		t.Fatal("no epoch")
	}
	if got := math.Exp(c.time); math.Abs(got-50_000/200) > 1 {
		t.Errorf("%v ns a byte, want 250", got)
	}
	if got := math.Exp(c.cpu); math.Abs(got-10_000/200) > 0.1 {
		t.Errorf("%v ns of the processor a byte, want 50", got)
	}

	// Fast events: it lasts for epochMin, a trial for epochLong.
	for _, c := range []struct {
		trial bool
		least int64
	}{{false, epochMin}, {true, epochLong}} {
		began := at
		if _, ok = epochOf(&e, &at, 1_000, 200, 500, c.trial); !ok || at-began < c.least || at-began > 2*c.least {
			t.Errorf("an epoch of %d ns, %v; a trial: %v", at-began, ok, c.trial)
		}
	}
	// Spinning that has just begun is not measured.
	began := at
	e.rise(at)
	c, ok = epochOf(&e, &at, 50_000, 200, 10_000, true)
	if events := int((at - began) / 50_000); !ok || at-began < epochSteady+epochLong || c.events != events {
		t.Errorf("an epoch of %d ns after sleep, %v; %d events of %d", at-began, ok, c.events, events)
	}
	// Too long says nothing, and neither does one in which nothing was done.
	if _, ok = epochOf(&e, &at, 2*epochMax/epochEvents, 200, 500, false); ok {
		t.Error("an epoch longer than epochMax counts")
	}
	if _, ok = epochOf(&e, &at, 50_000, 0, 500, false); ok {
		t.Error("an epoch without work counts")
	}
	// Measurements from before void do not count.
	e.event(at, false, false)
	if e.void(); e.started || e.events != 0 {
		t.Error("void leaves something")
	}
}

// Time beyond what waiting explains does not count.
func TestEpochStrays(t *testing.T) {
	const gap, more = int64(100_000), int64(60_000)
	span := func(longer ...int64) int64 {
		e := epoch{}
		now := int64(0)
		for range epochSettle {
			e.event(now, false, false)
		}
		e.end(now, 0, 0, more)
		for i := range int64(epochEvents) {
			now += gap
			if i%8 == 0 && int(i/8) < len(longer) {
				now += longer[i/8]
			}
			e.event(now, false, false)
		}
		return e.span(now, more)
	}
	usual := span()
	if usual != gap*epochEvents {
		t.Errorf("%d ns of %d", usual, gap*epochEvents)
	}
	const most = (strayTimes-1)*gap + more
	for _, c := range []struct {
		longer []int64
		counts int64
	}{
		{[]int64{50_000}, 50_000},
		{[]int64{5_000_000}, most},
		{[]int64{1_000_000, 5_000_000, 2_000_000, 1_000_000}, 4 * most},
		// So many are the load's.
		{[]int64{1_000_000, 1_000_000, 1_000_000, 1_000_000, 1_000_000}, 5_000_000},
	} {
		if got := span(c.longer...) - usual; got != c.counts {
			t.Errorf("%v: %d ns longer, not %d", c.longer, got, c.counts)
		}
	}
}

func TestTrials(t *testing.T) {
	for _, c := range []struct {
		name           string
		thrifty, eager cost
		noise          float64
		want           bool
	}{
		{"a closed loop", cost{time: 5, cpu: 2}, cost{time: 4, cpu: 3}, 0.05, true},
		{"a closed loop that varies", cost{time: 5, cpu: 2}, cost{time: 4.3, cpu: 3}, 0.1, true},
		{"an open loop", cost{time: 5, cpu: 2}, cost{time: 5, cpu: 3}, 0.05, false},
		{"an open loop that varies", cost{time: 5, cpu: 2}, cost{time: 5, cpu: 4}, 0.1, false},
		{"in doubt, for nothing", cost{time: 5, cpu: 2}, cost{time: 4.97, cpu: 2}, 0.1, true},
	} {
		for seed := range uint64(20) {
			var tr trials
			tr.init(seed)
			r := rand.New(rand.NewPCG(seed, 4))
			const n = 2_000
			eager, away := true, 0
			for i := range n {
				cost := c.thrifty
				if eager {
					cost = c.eager
				}
				cost.time += c.noise * r.NormFloat64()
				if i >= n/2 && tr.trying {
					away++
				}
				eager = tr.next(cost)
			}
			if tr.home != c.want {
				t.Errorf("%s, seed %d: eager is %v", c.name, seed, tr.home)
			}
			if away == 0 || away > n/2/10 {
				t.Errorf("%s, seed %d: %d of %d epochs are trials", c.name, seed, away, n/2)
			}
		}
	}
}

// The first distances between trials differ at the two ends of a connection.
func TestTrialsApart(t *testing.T) {
	const n = 1_000
	for seed := range uint64(20) {
		var a, b trials
		a.init(seed)
		b.init(seed + 1_000_000)
		same := 0
		for range n {
			a.wait()
			b.wait()
			if a.left == b.left {
				same++
			}
		}
		if same < n/3 || same > 2*n/3 {
			t.Errorf("seed %d: %d of the first distances are the same at both ends, of %d", seed, same, n)
		}
	}
}

// While another thread wants the processor no wait spins, and longer each time
// that it still does.
func TestPolicyShared(t *testing.T) {
	p := newPolicy(6_000, 30_000, 1)
	now := int64(1_000_000_000)
	for want := sharedMin; want <= sharedMax; want *= 2 {
		p.shared(now)
		if p.sharedUntil != now+want {
			t.Fatalf("for %d, want %d", p.sharedUntil-now, want)
		}
		if p.budget(p.sharedUntil-1) != 0 || p.spins(p.sharedUntil-1) {
			t.Error("spins all the same")
		}
		if now = p.sharedUntil; p.budget(now) == 0 || !p.spins(now) {
			t.Error("does not spin again")
		}
	}
	if p.shared(now); p.sharedUntil != now+sharedMax {
		t.Errorf("for %d, want %d", p.sharedUntil-now, sharedMax)
	}
	now = p.sharedUntil + 3*sharedMax
	if p.shared(now); p.sharedUntil != now+sharedMin {
		t.Errorf("after a long time without others for %d, want %d", p.sharedUntil-now, sharedMin)
	}
}

// With a quota no wait spins for the sake of latency, where it is tight.
func TestPolicyLimited(t *testing.T) {
	p := newPolicy(6_000, 30_000, 1)
	now := int64(1_000_000_000)
	if p.limited(now, 2, 0); !p.spins(now) {
		t.Error("does not spin with a quota of two processors")
	}
	if p.limited(now, 2, 1); p.spins(now) || p.budget(now) != p.budgets[0] {
		t.Error("spins though it was throttled")
	}
	if !p.spins(now + scarceFor) {
		t.Error("does not spin long after it was throttled")
	}
	if p.limited(now, 0.5, 1); p.spins(now) {
		t.Error("spins with half a processor")
	}
}
