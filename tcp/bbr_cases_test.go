package tcp

import "testing"

// Cases of draft-ietf-ccwg-bbr, appendix "BBR Example Test Cases", by title.

// Never Exiting PROBE_UP (or STARTUP) When Application-Limited With No Loss.
func TestBBRAppLimitedStartup(t *testing.T) {
	hs := newPathHosts(t, 4096)
	p := newPath(t, 1)
	p.rate, p.delay, p.buffer = bbrTestRate, 10*ms, 100_000
	f := p.add(hs, &Config{Congestion: "bbr"}, 0)
	f.quiet = true
	defer p.close()
	p.run(21 * ms)
	b := f.left.c.cc.bbr
	for range 4000 {
		f.left.c.Write(p.buf[:500]) // 4 of 20 Mbit/s
		f.left.c.Output(p.now)
		p.run(ms)
		if b.state != bbrStartup || b.fullReached || b.fullCount > 0 {
			t.Fatalf("state %s, full %v, %d rounds without growth", bbrStateNames[b.state], b.fullReached, b.fullCount)
		}
	}
	f.quiet = false // now it fills the path
	f.left.work()
	p.run(2 * sec)
	if !b.fullReached || !near(b.maxBW, goodputRate(bbrTestRate), 0.03) {
		t.Errorf("state %s, max_bw %.0f", bbrStateNames[b.state], b.maxBW)
	}
}

// Exiting PROBE_DOWN After Max Time.
func TestBBRDownEndsByTime(t *testing.T) {
	x := newBBRFlow(t, bbrTestRate, 4)
	x.state(2*sec, bbrDown)
	x.p.rate *= 0.8 // the queue does not drain at 0.9 of what it thinks
	start := x.p.now
	x.until(4*sec, func() bool { return x.b.state != bbrDown })
	rounds := int64(x.b.bdp()) / 1448
	if d := x.p.now - start; x.b.state != bbrRefill || d < min(2*sec, (rounds-3)*20*ms) || d > 3*sec+100*ms {
		t.Errorf("from DOWN to %s after %d ms", bbrStateNames[x.b.state], d/ms)
	}
}

// Handling Token Bucket Policers.
func TestBBRPolicer(t *testing.T) {
	hs := newPathHosts(t, 16384)
	p := newPath(t, 1)
	p.delay, p.police, p.bucket = 10*ms, bbrTestRate, 30_000
	f := p.add(hs, &Config{Congestion: "bbr", SndBuf: 1 << 20, RcvBuf: 1 << 20}, 0)
	defer p.close()
	p.run(5 * sec)
	got, sent, policed := f.got, f.sent, f.policed
	p.run(20 * sec)
	use := float64(f.got-got) / 20 / goodputRate(bbrTestRate)
	lost := float64(f.policed-policed) / float64(f.sent-sent)
	t.Logf("%.2f of the rate, %.3f lost", use, lost)
	if use < 0.8 || lost > 0.05 {
		t.Errorf("%.2f of the rate that the policer lets pass, %.3f lost", use, lost)
	}
	if b := f.left.c.cc.bbr; b.inflightLong == bbrInf || b.maxBW > 1.5*bbrTestRate {
		t.Errorf("inflight_longterm %.0f, max_bw %.0f", b.inflightLong, b.maxBW)
	}
}

// Handling Spurious RTO Recovery: the path becomes longer than the timeout.
func TestBBRSpuriousTimeout(t *testing.T) {
	x := newBBRFlow(t, bbrTestRate, 4)
	x.state(2*sec, bbrDown)
	x.state(sec, bbrCruise)
	c := &x.f.left.c
	rate, cwnd, long := x.b.maxBW, c.cc.Cwnd(), x.b.inflightLong
	x.p.delay += 400 * ms
	x.until(sec, func() bool { return c.recovery == inLoss })
	x.until(2*sec, func() bool { return c.recovery == noRecovery })
	if st := &x.f.left.h.Stats; st.TCPLossUndo == 0 {
		t.Error("not found to be spurious")
	}
	if c.cc.Cwnd() < cwnd || x.b.maxBW < 0.99*rate || x.b.inflightLong < long {
		t.Errorf("cwnd %d, was %d; max_bw %.0f, was %.0f; inflight_longterm %.0f, was %.0f",
			c.cc.Cwnd(), cwnd, x.b.maxBW, rate, x.b.inflightLong, long)
	}
}

// Only a sample can begin a round (draft-ietf-ccwg-bbr section 5.5.1): an
// acknowledgement that covers no packet whole has none, whatever the count of
// bytes.
func TestBBRRoundNeedsSample(t *testing.T) {
	for _, total := range []uint64{1 << 20, 3 << 30} {
		w := dial(t, Config{Congestion: "bbr"}, sackOK(false))
		w.c.delivered = total
		w.c.startModel(w.now)
		w.write(10000)
		w.advance(10 * ms)
		w.feed("A", 1, 1001, 0)
		b := w.c.cc.bbr
		rounds := b.rounds
		for i := uint32(0); i < 8; i++ {
			w.feed("A", 1, 1101+100*i, 0)
		}
		if b.rounds != rounds {
			t.Errorf("%d rounds in none after %d bytes", b.rounds-rounds, total)
		}
		w.out = nil
	}
}

// Section 5.3.1.3: Startup ends after one round trip in fast recovery that lost
// as much, not two.
func TestBBRStartupEndsAfterOneRound(t *testing.T) {
	for _, bdps := range []float64{0.1, 0.4, 0.8} {
		x := newBBRFlow(t, bbrTestRate, bdps)
		c := &x.f.left.c
		x.until(2*sec, func() bool { return c.recovery == inRecovery })
		rounds := x.b.rounds
		x.state(2*sec, bbrDrain)
		if n := x.b.rounds - rounds; n != 1 || x.b.undoState != bbrStartup {
			t.Errorf("buffer of %v BDP: %d rounds, %d segments resent", bdps, n, c.retransmitted())
		}
	}
}

// max_bw is forgotten for newer samples, never for none (as Linux).
func TestBBRKeepsMaxBW(t *testing.T) {
	w := dial(t, Config{Congestion: "bbr"})
	b, c := w.c.cc.bbr, &w.c.cc
	b.fullReached = true
	for range 3 {
		b.startDown()
		b.bwFilter[0] = max(b.bwFilter[0], 1e6)
		b.roundStart = true
		b.adaptLongTerm(c, &delivery{RateSample: &RateSample{Flight: 1000}, sack: true})
	}
	if b.bwFilter != [2]float64{1e6, 0} {
		t.Errorf("filter %v", b.bwFilter)
	}
}

// BBR's window, too, is not the initial one any more when the MTU changes.
func TestBBRPathMTU(t *testing.T) {
	x := newBBRFlow(t, bbrTestRate, 4)
	x.state(2*sec, bbrDown)
	c := &x.f.left.c
	cwnd := c.cc.Cwnd()
	c.SetPathMTU(1400, x.p.now)
	if got := c.cc.Cwnd(); got != cwnd {
		t.Errorf("cwnd %d, was %d", got, cwnd)
	}
}
