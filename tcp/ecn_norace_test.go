//go:build !race

// One goroutine runs all of this, see throughput_norace_test.go.

package tcp

import "testing"

// ecnFlows has two flows, the second 5 s late, share a bottleneck that marks
// from a queue of mark bytes on, or only drops. It returns what each got in a
// minute, and what was lost and marked.
func ecnFlows(t *testing.T, cc string, mark int) (got [2]float64, lost, marked int, rate float64) {
	hs := newPathHosts(t, 32<<10)
	p := newPath(t, 5)
	p.rate, p.delay, p.buffer, p.mark = tableRate, 10*ms, 400e3, mark
	cfg := Config{Congestion: cc, ECN: ECNOn}
	x, y := p.add(hs, &cfg, 0), p.add(hs, &cfg, 5*sec)
	p.run(20 * sec)
	x.got, y.got = 0, 0
	p.run(60 * sec)
	for _, f := range []*flow{x, y} {
		if mark > 0 && f.left.c.ecn&ecnECT == 0 {
			t.Errorf("%s: no ECN", cc)
		}
	}
	lost, marked = x.lost+y.lost, x.marked+y.marked
	got = [2]float64{float64(x.got), float64(y.got)}
	p.close()
	return got, lost, marked, (got[0] + got[1]) / 60 / tableRate
}

// RFC 3168 section 6.1.2, RFC 8511 section 3.1: where the bottleneck marks,
// two flows lose nothing, share it fairly and keep it busy.
func TestRFC8511MarkingBottleneck(t *testing.T) {
	for _, cc := range CongestionNames() {
		got, lost, marked, rate := ecnFlows(t, cc, 30e3)
		x, y := got[0], got[1]
		jain := (x + y) * (x + y) / (2 * (x*x + y*y))
		t.Logf("%-8s %.2f and %.2f Mbit/s, Jain %.3f, %.1f%% of the rate, %d lost, %d marked", cc, x*8/60e6, y*8/60e6, jain, 100*rate, lost, marked)
		if lost != 0 {
			t.Errorf("%s: %d packets lost", cc, lost)
		}
		if marked == 0 {
			t.Errorf("%s: nothing was marked", cc)
		}
		if jain < 0.95 {
			t.Errorf("%s: Jain's index %.3f", cc, jain)
		}
		if rate < 0.9 {
			t.Errorf("%s: %.1f%% of the bottleneck", cc, 100*rate)
		}
	}
}
