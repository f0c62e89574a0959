package stack

import "testing"

// The goals are worth something only if a broken policy misses them.
func TestPolicyMutants(t *testing.T) {
	cases := []scenario{
		policyCases[0].with(0, 1),   // a closed loop
		policyCases[11].with(11, 0), // an open loop
		policyCases[10].with(10, 1), // an open loop, uneven
		policyCases[21].with(21, 1), // another thread
	}
	best := make([]hindsight, len(cases))
	for i, s := range cases {
		best[i] = s.hindsight()
	}
	for name, bend := range map[string]func(*driven){
		"as it is":           func(*driven) {},
		"always eager":       func(d *driven) { d.bend = func() { d.eager, d.trials.home = true, true } },
		"always thrifty":     func(d *driven) { d.bend = func() { d.eager, d.trials.home = false, false } },
		"gaps an octave off": func(d *driven) { d.scale = 0.5 },
		"sharing ignored":    func(d *driven) { d.deaf = true },
	} {
		t.Run(name, func(t *testing.T) {
			var missed goal
			for i, s := range cases {
				d := s.told()
				bend(d)
				v := s.judge(d, best[i])
				t.Logf("%.3f, misses %v: %v", v, v.missed(), s)
				missed |= v.missed()
			}
			if (missed == 0) != (name == "as it is") {
				t.Errorf("misses %q", missed)
			}
		})
	}
}
