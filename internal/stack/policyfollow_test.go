package stack

import "testing"

// followWaits is in how many waits after a change of load the policy is in its
// last mode.
const followWaits = 10_000

// A change of load that also changes the cost by trialsChange is followed, in
// both directions.
func TestPolicyFollows(t *testing.T) {
	const phase = 6_000_000 * simUS
	seeds := uint64(4)
	if testing.Short() {
		seeds = 1
	}
	closed := load{conns: 1, gap: 15 * simUS, lasts: phase}
	for _, gap := range []int64{100, 200} {
		open := load{gap: gap * simUS, lasts: phase}
		for seed := range seeds {
			s := scenario{seed: seed, loads: []load{closed, open}, wake: wakesTried[2], service: 10 * simUS}
			d := s.told()
			r := s.start(d, nil)
			for i := range 4 {
				began := d.waits
				r.run(int64(i+1) * phase)
				if want := i%2 == 0; d.trials.home != want {
					t.Errorf("%v: eager at the end of phase %d: %v", s, i, !want)
				}
				if n := d.turned - began; n > followWaits {
					t.Errorf("%v: the mode of phase %d came after %d waits", s, i, n)
				}
			}
		}
	}
}

// Client and server both learn: each sees the other's mode in its gaps. The
// second scenario has two ways of waiting that are stable: where one end sleeps
// the other gains little by spinning. In the third spinning shows its gain only
// when it has lasted for a while.
func TestPolicyDuel(t *testing.T) {
	for _, s := range []scenario{
		{loads: []load{{conns: 1, gap: 15 * simUS}}, service: 10 * simUS},
		{loads: []load{{conns: 1, gap: 50 * simUS, shape: stalling}}, service: 50 * simUS},
		{loads: []load{{conns: 1, gap: 15 * simUS, shape: stalling}}, service: 15 * simUS, lag: 15 * simUS, wake: simWake{15_000, 6_000, 0.2}},
	} {
		for seed := range uint64(4) {
			s.seed, s.clientWaits = seed, true
			if s.wake.latency == 0 {
				s.wake = wakesTried[2]
			}
			learn, measure := s.span()
			duel := func(server, client decider) float64 {
				r := s.start(server, client)
				r.run(learn)
				before := r.tally()
				r.run(learn + measure)
				return r.tally().since(before).rate()
			}
			a, b := s.told(), s.told()
			if got := duel(a, b) / duel(fixed(1_000_000), fixed(1_000_000)); got < rateLeast {
				t.Errorf("%v: %.2f of the rate of two that always spin; eager: %v, %v", s, got, a.trials.home, b.trials.home)
			}
		}
	}
}
