package tcp

import (
	"math"
	"testing"
	"time"
)

// lossModel runs a saturated flow that loses one segment in every n and
// returns its mean window in segments, the deterministic model of RFC 9438
// section 5.1.
func lossModel(name string, rtt time.Duration, n int) float64 {
	m := newModel(name, rtt)
	m.cc.SetCwnd(10 * segSize)
	m.cc.EnterRecovery()
	m.cc.ExitRecovery()
	left := n
	var area, span float64
	for loss := 0; loss < 24; {
		w := m.cc.Cwnd() / segSize
		start := m.now
		for i := range w {
			m.now = start + m.rtt*int64(i+1)/int64(w)
			m.ack(segSize, true)
			if left--; left == 0 {
				left = n
				loss++
				m.cc.EnterRecovery()
				m.cc.ExitRecovery()
				break
			}
		}
		if loss >= 12 { // settled
			dt := float64(m.now - start)
			area += float64(w) * dt
			span += dt
		}
	}
	return area / span
}

// RFC 9438 section 5.1, equation 6, for RTTs and rates of loss where the
// cubic region rules.
func TestCubicResponse(t *testing.T) {
	for _, c := range []struct {
		rtt time.Duration
		n   int
	}{
		{100 * time.Millisecond, 1e4}, {100 * time.Millisecond, 1e5}, {100 * time.Millisecond, 1e6},
		{200 * time.Millisecond, 1e5}, {50 * time.Millisecond, 1e5},
	} {
		p := 1 / float64(c.n)
		want := math.Pow(cubicC*(3+cubicBeta)/(4*(1-cubicBeta)), 0.25) * math.Pow(c.rtt.Seconds(), 0.75) / math.Pow(p, 0.75)
		got := lossModel("cubic", c.rtt, c.n)
		if got < 0.85*want || got > 1.2*want {
			t.Errorf("RTT %v, loss %g: mean window %.0f, RFC says %.0f", c.rtt, p, got, want)
		}
	}
}

// RFC 9438 section 4.3: where Reno would be faster (short round trips, many
// losses), CUBIC is as fast: sqrt(1.5/p) segments.
func TestCubicRenoFriendly(t *testing.T) {
	for _, n := range []int{500, 2000, 10000} {
		want := math.Sqrt(1.5 * float64(n))
		reno, cubic := lossModel("newreno", time.Millisecond, n), lossModel("cubic", time.Millisecond, n)
		if reno < 0.85*want || reno > 1.15*want {
			t.Errorf("loss 1/%d: NewReno's mean window %.1f, theory %.1f", n, reno, want)
		}
		if cubic < 0.8*reno || cubic > 1.25*reno {
			t.Errorf("loss 1/%d: CUBIC's mean window %.1f, NewReno's %.1f", n, cubic, reno)
		}
	}
}

// The curve of section 4.2: after a loss at W_max it is back there at K, flat
// around it, and grows beyond.
func TestCubicCurve(t *testing.T) {
	m := newModel("cubic", 100*time.Millisecond)
	m.cc.SetCwnd(1000 * segSize)
	m.cc.EnterRecovery()
	m.cc.ExitRecovery()
	if got := m.cc.Cwnd(); got != 700*segSize {
		t.Fatalf("cwnd %d after a loss at 1000 segments, want 700", got)
	}
	begin := m.now
	k := math.Cbrt(1000 * (1 - cubicBeta) / cubicC) // 9.09 s
	var half, atK, beyond float64
	for {
		m.round(2, true)
		w := float64(m.cc.Cwnd()) / segSize
		switch s := float64(m.now-begin) / 1e9; {
		case s < k/2:
			half = w
		case s < k:
			atK = w
		case s < 1.5*k:
			beyond = w
		default:
			if half < 950 || half > 975 { // 1000 - 300/8
				t.Errorf("half way: %.0f segments, want 962", half)
			}
			if atK < 990 || atK > 1003 {
				t.Errorf("at K: %.0f segments, want 1000", atK)
			}
			if beyond < 1025 || beyond > 1050 { // 1000 + 300/8
				t.Errorf("half as long again: %.0f segments, want 1037", beyond)
			}
			return
		}
	}
}

// Section 4.3: W_est grows like Reno's window with a backoff of 0.7, and like
// Reno's own once it is where the last loss was.
func TestCubicRenoFriendlyGrowth(t *testing.T) {
	m := newModel("cubic", time.Millisecond) // so short that the curve does not matter
	m.cc.SetCwnd(20 * segSize)
	m.cc.EnterRecovery()
	m.cc.ExitRecovery()
	grow := func(rounds int) float64 {
		was := m.cc.remember().cubic.wEst
		if was == 0 {
			was = 14
		}
		for range rounds {
			m.round(1, true)
		}
		return (m.cc.remember().cubic.wEst - was) / float64(rounds)
	}
	if got := grow(8); got < 0.45 || got > 0.56 {
		t.Errorf("below the last loss: %.2f segments a round, want 0.53", got)
	}
	for m.cc.Cwnd() < 22*segSize {
		m.round(1, true)
	}
	if got := grow(8); got < 0.9 || got > 1.05 {
		t.Errorf("beyond it: %.2f segments a round, want 1", got)
	}
}

// Section 4.4: at most half a window more in a round trip, wherever the curve
// has got to.
func TestCubicTargetBound(t *testing.T) {
	m := newModel("cubic", 100*time.Millisecond)
	m.cc.SetCwnd(100 * segSize)
	m.cc.EnterRecovery()
	m.cc.ExitRecovery()
	m.round(1, true)
	was := m.cc.Cwnd()
	m.now += 60 * second // acknowledgements held up by the path
	m.ack(was, true)
	if got := m.cc.Cwnd(); got < was*14/10 || got > was*3/2 {
		t.Errorf("cwnd from %d to %d, want half as much again", was, got)
	}
}

// Section 4.7.
func TestCubicFastConvergence(t *testing.T) {
	m := newModel("cubic", 100*time.Millisecond)
	m.cc.SetCwnd(1000 * segSize)
	m.cc.EnterRecovery()
	m.cc.ExitRecovery()
	if m.cc.remember().cubic.wMax != 1000 {
		t.Errorf("W_max %.0f, want 1000", m.cc.remember().cubic.wMax)
	}
	m.cc.EnterRecovery() // at 700, below W_max
	if got := m.cc.remember().cubic.wMax; math.Abs(float64(got)-595) > 0.5 {
		t.Errorf("W_max %.1f after a loss on the way up, want 700 * 0.85", got)
	}
	if m.cc.remember().cubic.prior != 700 {
		t.Errorf("cwnd_prior %.0f, want 700", m.cc.remember().cubic.prior)
	}
}

// Section 4.8: after a timeout the plateau is where slow start ended.
func TestCubicAfterTimeout(t *testing.T) {
	m := newModel("cubic", 100*time.Millisecond)
	m.cc.SetCwnd(100 * segSize)
	m.cc.OnRTO(true)
	for m.cc.InSlowStart() {
		m.round(1, true)
	}
	m.round(1, true)
	q := &m.cc.remember().cubic
	if q.k != 0 || q.wMax < 69 || q.wMax > 72 {
		t.Errorf("K %.2f, W_max %.1f; want 0 and about 70", q.k, q.wMax)
	}
	for range 100 { // 10 s: at least Reno's segment a round
		m.round(1, true)
	}
	if got := m.cc.Cwnd(); got < 120*segSize {
		t.Errorf("cwnd %d after 10 s", got)
	}
}

// Idle time must not turn into window (section 5.8).
func TestCubicIdle(t *testing.T) {
	m := newModel("cubic", 10*time.Millisecond)
	m.cc.SetCwnd(100 * segSize)
	m.cc.EnterRecovery()
	m.cc.ExitRecovery()
	for range 10 {
		m.round(1, true)
	}
	was := m.cc.Cwnd()
	const idle = int64(10 * time.Minute)
	m.now += idle
	m.cc.OnRestart(m.now, false)
	m.round(1, true)
	if got := m.cc.Cwnd(); got > was+2*segSize {
		t.Errorf("cwnd from %d to %d by idling", was, got)
	}
}

// RFC 9406 section 4.2: slow start gives way to five rounds of conservative
// slow start when the round trip grows by an eighth, at least 4 ms.
func TestHyStart(t *testing.T) {
	eachAlgorithm(t, func(t *testing.T, name string) {
		m := newModel(name, 50*time.Millisecond)
		for range 4 {
			m.round(1, true) // 160 segments
		}
		m.rtt = int64(53 * time.Millisecond) // below the threshold of an eighth
		m.round(1, true)
		if got := m.cc.Cwnd(); got != 320*segSize {
			t.Fatalf("slow start ended early: %d", got)
		}
		m.rtt = int64(70 * time.Millisecond)
		m.round(1, true)
		w := m.cc.Cwnd()
		if w >= 600*segSize || m.cc.Ssthresh() != infSsthresh {
			t.Fatalf("a longer round trip did not slow it down: %d, ssthresh %d", w, m.cc.Ssthresh())
		}
		m.round(1, true)
		if got := float64(m.cc.Cwnd()) / float64(w); got < 1.2 || got > 1.3 {
			t.Errorf("conservative slow start grows by %.2f a round, want 1.25", got)
		}
		for range 4 {
			m.round(1, true)
		}
		if m.cc.InSlowStart() {
			t.Errorf("still in slow start after five rounds: cwnd %d, ssthresh %d", m.cc.Cwnd(), m.cc.Ssthresh())
		}
	})
}

// RFC 9406 section 4.2: when the round trip shortens again, it was a false
// alarm.
func TestHyStartResumes(t *testing.T) {
	m := newModel("cubic", 50*time.Millisecond)
	for range 3 {
		m.round(1, true)
	}
	m.rtt = int64(70 * time.Millisecond)
	m.round(1, true)
	m.round(1, true)
	m.rtt = int64(50 * time.Millisecond)
	m.round(1, true)
	w := m.cc.Cwnd()
	m.round(1, true)
	if got := m.cc.Cwnd(); got < 2*w-segSize {
		t.Errorf("cwnd from %d to %d, want twice", w, got)
	}
	// And only in the first slow start.
	m.cc.OnRTO(true)
	if m.cc.hystart.on() {
		t.Error("HyStart++ after a timeout")
	}
}

// RFC 9438 section 5.8: time without anything to send is none that the window
// grows in, also where silence does not lower it.
func TestCubicIdleKept(t *testing.T) {
	w := dial(t, Config{KeepIdleCwnd: true})
	w.c.cc.SetCwnd(20000)
	w.c.cc.EnterRecovery()
	w.c.cc.ExitRecovery()
	una := uint32(1)
	round := func() {
		n := w.c.cc.Cwnd() / 1000
		w.write(int(n+1) * 1000) // cwnd holds back
		w.now += 10 * ms
		for w.c.sndUna != w.c.sndNxt {
			una = w.c.sndNxt - w.iss
			w.feed("A", 1, una, 0)
			w.now += 10 * ms
		}
		w.out = nil
	}
	for range 3 {
		round()
	}
	cwnd := w.c.cc.Cwnd()
	w.advance(20 * sec)
	round()
	if got := w.c.cc.Cwnd(); got > cwnd+2000 {
		t.Errorf("cwnd %d, was %d before silence", got, cwnd)
	}
}

// CUBIC counts segments (RFC 9438 section 4.1). Where they change their size,
// cwnd stays as many bytes, and so do the windows that it aims for.
func TestCubicMSSChange(t *testing.T) {
	for _, mss := range []int{500, 8000} {
		m := newModel("cubic", 100*time.Millisecond)
		m.cc.SetCwnd(1000 * segSize)
		m.cc.EnterRecovery()
		m.cc.ExitRecovery()
		for range 20 {
			m.round(2, true)
		}
		m.cc.SetMSS(mss)
		for range 30 {
			m.round(2, true)
		}
		if got := m.cc.Cwnd(); got < 850*segSize || got > 1050*segSize {
			t.Errorf("cwnd %d with segments of %d, W_max was %d", got, mss, 1000*segSize)
		}
	}
}

// HyStart++ also after a long time in which the application held data back: the
// end of a round may have been more than half of the sequence space ago.
func TestHyStartStaleRound(t *testing.T) {
	m := newModel("cubic", 50*time.Millisecond)
	m.round(1, true)
	m.una += 1<<31 + 1<<20
	m.nxt = m.una
	for range 3 {
		m.round(1, true)
	}
	m.rtt += int64(20 * time.Millisecond)
	for range 8 {
		m.round(1, true)
	}
	if m.cc.Ssthresh() == infSsthresh {
		t.Errorf("slow start still, cwnd %d", m.cc.Cwnd())
	}
}

// RFC 9438 sections 4.2 and 4.3: each time that slow start ends, W_cubic and
// W_est begin anew, also when slow start came of silence.
func TestCubicAfterIdleSlowStart(t *testing.T) {
	for _, rtt := range []time.Duration{100 * time.Millisecond, time.Millisecond} {
		m := newModel("cubic", rtt)
		m.cc.SetCwnd(100 * segSize)
		m.cc.EnterRecovery()
		m.cc.ExitRecovery()
		for range 60 {
			m.round(1, true)
		}
		m.now += int64(time.Hour)
		m.cc.OnIdle(int64(time.Hour), int64(time.Second))
		m.cc.OnRestart(m.now, false)
		for m.cc.InSlowStart() {
			m.round(1, true)
		}
		was := m.cc.Cwnd()
		for range 3 {
			m.round(1, true)
		}
		if got := m.cc.Cwnd(); got > was+6*segSize {
			t.Errorf("RTT %v: slow start ended at %d, three round trips later %d", rtt, was, got)
		}
	}
}
