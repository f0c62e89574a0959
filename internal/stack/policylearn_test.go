package stack

import (
	"slices"
	"testing"
)

// learnMost is the processor time, as a ratio to always sleeping, that an open
// loop may take in the first half second, and laterMost what it may take in the
// second. Both are medians: where arrivals are uneven one run in ten or so turns
// eager by chance, and takes some trials to turn back.
const (
	learnMost = 1.3
	laterMost = 1.15
)

// While the policy learns that an open loop gains nothing by spinning it takes
// little for its trials. The arrivals are those of real programs at 10 % of what
// they can do, and one each millisecond.
func TestPolicyLearns(t *testing.T) {
	const half = 500_000 * simUS
	seeds := 9
	if testing.Short() {
		seeds = 3
	}
	for _, l := range []load{
		{gap: 1000 * simUS},
		{gap: 500 * simUS, shape: exponential},
		{gap: 350 * simUS, shape: exponential},
		{gap: 200 * simUS, shape: exponential},
		{gap: 100 * simUS, shape: exponential},
	} {
		for _, w := range []simWake{{20_000, 6_000, 0.2}, {30_000, 6_000, 0.2}, {40_000, 6_000, 0.2}} {
			var firsts, seconds []float64
			for seed := range uint64(seeds) {
				s := scenario{seed: seed, loads: []load{l}, wake: w, service: 30 * simUS}
				halves := func(d decider) (a, b float64) {
					r := s.start(d, nil)
					r.run(half)
					before := r.tally()
					r.run(2 * half)
					return before.each(), r.tally().since(before).each()
				}
				a, b := halves(s.told())
				leastA, leastB := halves(fixed(0))
				firsts, seconds = append(firsts, a/leastA), append(seconds, b/leastB)
			}
			slices.Sort(firsts)
			slices.Sort(seconds)
			first, second := firsts[seeds/2], seconds[seeds/2]
			t.Logf("%v, wake %d us: %.2f, then %.2f", l, w.latency/simUS, first, second)
			if first > learnMost || second > laterMost {
				t.Errorf("%v, wake %d us: %.2f of the processor time in the first half second, %.2f in the second", l, w.latency/simUS, first, second)
			}
		}
	}
}

// There is no hope where the gaps are long beside a wake-up.
func TestPolicyHopeless(t *testing.T) {
	const used = 30_000
	for _, c := range []struct {
		name  string
		gap   int64
		each  float64
		eager bool
		used  float64
		want  bool
		lost  bool
	}{
		{"a closed loop, asleep", 50_000, 80_000, false, used, false, false},
		{"a closed loop, awake", 20_000, 50_000, true, 50_000, false, false},
		{"one each millisecond, asleep", 970_000, 1_000_000, false, used, true, false},
		{"500 us, asleep", 470_000, 500_000, false, used, true, false},
		// A spin of 300 us is too short.
		{"300 us, awake", 270_000, 300_000, true, 300_000, true, true},
		{"several busy processors", 50_000, 80_000, false, 120_000, false, false},
	} {
		p := newPolicy(6_000, 30_000, 1)
		p.eager = c.eager
		for range budgetEvery {
			p.arrived(1, c.gap, false)
		}
		lost, hopeless := p.hopeless(cost{each: c.each, used: c.used, events: epochTrial})
		if hopeless != c.want || lost > 0 != c.lost {
			t.Errorf("%s: hopeless %v, lost %v ns", c.name, hopeless, lost)
		}
	}
}

// Trials that lose wait until their share of the processor time allows them.
func TestTrialsCredit(t *testing.T) {
	var tr trials
	tr.init(1)
	thrifty := cost{time: 5, cpu: 2, each: 200_000, used: 30_000, events: epochEvents}
	eager := cost{time: 5, cpu: 3.6, each: 200_000, used: 150_000, events: epochTrial}
	lost, used, mode := 0.0, 0.0, true
	for range 2_000 {
		c := thrifty
		if mode {
			c = eager
			lost += (eager.used - thrifty.used) * float64(c.events)
		}
		used += thrifty.used * float64(c.events)
		mode = tr.next(c)
	}
	once := (eager.used - thrifty.used) * epochTrial
	if most := trialsCredit + trialsShare*used + 2*once; tr.home || lost == 0 || lost > most {
		t.Errorf("eager: %v; trials lost %.0f ns, %.0f may be", tr.home, lost, most)
	}
}
