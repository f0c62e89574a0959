package tcp

import (
	"testing"
)

// bbrFlow is a flow with BBR through a bottleneck of 20 Mbit/s and 20 ms, whose
// buffer holds so many bandwidth-delay products. Tests are named after the
// cases of draft-ietf-ccwg-bbr, appendix A, and its sections.
type bbrFlow struct {
	t    *testing.T
	p    *path
	f    *flow
	b    *bbr
	seen []bbrState
}

const bbrTestRate = 20e6 / 8

func newBBRFlow(t *testing.T, rate, bdps float64) *bbrFlow {
	hs := newPathHosts(t, 16384)
	p := newPath(t, 1)
	p.rate, p.delay = rate, 10*ms
	p.buffer = max(int(bdps*rate*0.02), 6*1514)
	f := p.add(hs, &Config{Congestion: "bbr", SndBuf: 4 << 20, RcvBuf: 4 << 20}, 0)
	t.Cleanup(p.close)
	p.run(21 * ms) // connected
	return &bbrFlow{t: t, p: p, f: f, b: f.left.c.cc.bbr}
}

// until runs until cond holds, in steps of 100 us, and notes the states.
func (x *bbrFlow) until(limit int64, cond func() bool) {
	x.t.Helper()
	for end := x.p.now + limit; x.p.now < end; {
		if n := len(x.seen); n == 0 || x.seen[n-1] != x.b.state {
			x.seen = append(x.seen, x.b.state)
		}
		if cond() {
			return
		}
		x.p.run(ms / 10)
	}
	x.t.Fatalf("not within %d ms; states %v, now %+v", limit/ms, x.seen, *x.b)
}

func (x *bbrFlow) state(limit int64, s bbrState) {
	x.t.Helper()
	x.until(limit, func() bool { return x.b.state == s })
}

func (x *bbrFlow) inflight() float64 { return float64(x.f.left.c.pipe()) }

func (x *bbrFlow) rateNear(got, want, tolerance float64, what string) {
	x.t.Helper()
	if !near(got, want, tolerance) {
		x.t.Errorf("%s is %.0f bytes/s, want %.0f", what, got, want)
	}
}

// Appendix A.1 and A.3; sections 5.3.1.2 and 5.3.2.
func TestBBRStartupAndDrain(t *testing.T) {
	x := newBBRFlow(t, bbrTestRate, 4)
	if x.b.state != bbrStartup || x.b.pacingGain != bbrStartupGain || x.b.cwndGain != 2 {
		t.Fatalf("begins with %+v", *x.b)
	}
	// Section 5.6.2, InitPacingRate.
	if want := bbrStartupGain * 14480 / 0.020; !near(x.b.rate, want, 0.05) {
		t.Errorf("first pacing rate %.0f, want %.0f", x.b.rate, want)
	}
	x.state(sec, bbrDrain)
	if !x.b.fullNow || !x.b.fullReached || x.b.fullCount != 3 {
		t.Errorf("left Startup without a full pipe: %+v", *x.b)
	}
	x.rateNear(x.b.maxBW, goodputRate(bbrTestRate), 0.02, "max_bw")
	if x.b.pacingGain != 0.5 || x.inflight() < 1.3*x.b.bdp() {
		t.Errorf("Drain: gain %v, %.0f in flight of %.0f", x.b.pacingGain, x.inflight(), x.b.bdp())
	}
	x.until(sec, func() bool { return x.b.state != bbrDrain })
	if x.inflight() > 1.05*x.b.bdp() || x.b.rounds > x.b.drainStart+3 {
		t.Errorf("left Drain with %.0f in flight of %.0f, after %d rounds", x.inflight(), x.b.bdp(), x.b.rounds-x.b.drainStart)
	}
	if x.f.left.c.retransmitted() != 0 {
		t.Errorf("%d retransmissions", x.f.left.c.retransmitted())
	}
}

// Appendix A.4: an overestimate does not keep it in Drain.
func TestBBRDrainEndsByTime(t *testing.T) {
	x := newBBRFlow(t, bbrTestRate, 4)
	x.state(sec, bbrDrain)
	x.p.rate *= 0.4
	start := x.b.rounds
	x.state(3*sec, bbrDown)
	if n := x.b.rounds - start; n != 4 || x.inflight() <= x.b.bdp() {
		t.Errorf("left Drain after %d rounds with %.0f in flight, BDP %.0f", n, x.inflight(), x.b.bdp())
	}
}

// Sections 5.3.1.3 and 5.5.10.1: a shallow buffer ends Startup by its losses,
// which bound what may be in flight.
func TestBBRStartupEndsByLoss(t *testing.T) {
	x := newBBRFlow(t, bbrTestRate, 0.2)
	x.state(2*sec, bbrDrain)
	if !x.b.fullReached || x.b.fullCount >= 3 || x.b.inflightLong == bbrInf || x.b.undoState != bbrStartup {
		t.Errorf("left Startup not by loss: %+v", *x.b)
	}
}

// Section 5.3.3: the states follow each other, each with its gains.
func TestBBRProbeBWCycle(t *testing.T) {
	x := newBBRFlow(t, bbrTestRate, 4)
	x.state(2*sec, bbrDown)
	if x.b.pacingGain != 0.9 || x.b.cwndGain != 2 {
		t.Errorf("DOWN: gains %v and %v", x.b.pacingGain, x.b.cwndGain)
	}
	// Appendix A.8.
	x.state(sec, bbrCruise)
	if x.b.pacingGain != 1 || x.inflight() > 1.05*x.b.inflight(&x.f.left.c.cc, x.b.maxBW, 1) {
		t.Errorf("CRUISE: gain %v, %.0f in flight", x.b.pacingGain, x.inflight())
	}
	cruise := x.b.cycleAt
	x.state(3*sec+100*ms, bbrRefill)
	// By the clock after 2 to 3 s, or by Reno's: a window's worth of rounds,
	// here 33.
	rounds := int64(x.b.bdp()) / 1448
	if d := x.p.now - cruise; d < min(2*sec, (rounds-3)*20*ms) || d > 3*sec {
		t.Errorf("probed after %d ms", d/ms)
	}
	if x.b.pacingGain != 1 || x.b.bwShort != bbrInf || x.b.inflightShort != bbrInf {
		t.Errorf("REFILL: %+v", *x.b)
	}
	at := x.b.rounds
	x.state(sec, bbrUp)
	if x.b.pacingGain != 1.25 || x.b.cwndGain != 2.25 || x.b.rounds != at+1 {
		t.Errorf("UP: gains %v and %v, %d rounds after REFILL", x.b.pacingGain, x.b.cwndGain, x.b.rounds-at)
	}
	// Appendix A.5: the plateau ends it.
	x.state(sec, bbrDown)
	if !x.b.fullNow && x.b.fullCount < 3 {
		t.Errorf("left UP: %+v", *x.b)
	}
	x.seen = nil
	got := x.f.got
	x.p.run(4 * sec)
	x.rateNear(float64(x.f.got-got)/4, goodputRate(bbrTestRate), 0.04, "goodput")
	if x.f.left.c.retransmitted() != 0 {
		t.Errorf("%d retransmissions", x.f.left.c.retransmitted())
	}
}

// Section 5.5.10.2: losses while probing bound what may be in flight, and end
// the probe; the next one is cautious (section 5.3.3.4.2), and where that goes
// well a real one follows at once.
func TestBBRProbeTooHigh(t *testing.T) {
	x := newBBRFlow(t, bbrTestRate, 4)
	x.state(4*sec, bbrUp)
	x.p.buffer = 6 * 1514
	x.until(sec, func() bool { return x.b.state != bbrUp })
	if x.b.state != bbrDown || !x.b.tooHigh || x.b.inflightLong == bbrInf {
		t.Fatalf("after losses: %+v", *x.b)
	}
	if long := x.b.inflightLong; long < 0.7*x.b.bdp() || long > 1.7*x.b.bdp() {
		t.Errorf("inflight_longterm %.0f, BDP %.0f", long, x.b.bdp())
	}
	x.p.buffer = int(2 * bbrTestRate * 0.02)
	x.state(sec, bbrCruise)
	if float64(x.f.left.c.cwnd()) > 0.86*x.b.inflightLong {
		t.Errorf("no headroom: cwnd %d of %.0f", x.f.left.c.cwnd(), x.b.inflightLong)
	}
	x.state(4*sec, bbrUp)
	x.until(sec, func() bool { return x.b.state == bbrDown })
	if !x.b.precautionary || x.b.tooHigh {
		t.Errorf("the probe after that was not cautious: %+v", *x.b)
	}
	at := x.p.now
	x.state(sec, bbrUp)
	if x.p.now-at > 200*ms {
		t.Errorf("the real probe came %d ms later", (x.p.now-at)/ms)
	}
}

// Section 5.5.10.3: losses while cruising lower the short-term bounds by three
// tenths a round at most, and the next refill lifts them.
func TestBBRShortTermBounds(t *testing.T) {
	x := newBBRFlow(t, bbrTestRate, 4)
	x.state(2*sec, bbrCruise)
	bw := x.b.maxBW
	x.p.rate *= 0.5
	x.p.buffer = 20 * 1514
	x.until(sec, func() bool { return x.b.bwShort != bbrInf })
	if x.b.bwShort < 0.69*bw || x.b.inflightShort == bbrInf {
		t.Errorf("bounds %.0f and %.0f, max_bw %.0f", x.b.bwShort, x.b.inflightShort, bw)
	}
	if x.b.bw != x.b.bwShort {
		t.Errorf("bw %.0f, bw_shortterm %.0f", x.b.bw, x.b.bwShort)
	}
	x.state(4*sec, bbrRefill)
	if x.b.bwShort != bbrInf || x.b.inflightShort != bbrInf {
		t.Error("REFILL keeps the short-term model")
	}
}

// Appendix A.10; section 5.3.4.
func TestBBRProbeRTT(t *testing.T) {
	x := newBBRFlow(t, bbrTestRate, 4)
	x.state(2*sec, bbrCruise)
	// The least round trip is not seen again: the path became longer.
	x.p.delay = 12 * ms
	x.state(6*sec, bbrProbeRTT)
	if since := x.p.now - x.b.probeRTTAt; x.b.cwndGain != 0.5 || x.b.pacingGain != 1 || since > sec {
		t.Errorf("gains %v and %v", x.b.cwndGain, x.b.pacingGain)
	}
	x.until(sec, func() bool { return x.b.probeRTTDone != 0 })
	at := x.p.now
	if x.inflight() > x.b.probeRTTCwnd(&x.f.left.c.cc) {
		t.Errorf("%.0f in flight", x.inflight())
	}
	x.until(sec, func() bool { return x.b.state != bbrProbeRTT })
	if d := x.p.now - at; d < 200*ms || d > 250*ms || x.b.state != bbrCruise {
		t.Errorf("left after %d ms for %s", d/ms, bbrStateNames[x.b.state])
	}
	if x.f.left.c.cwnd() < int(x.b.bdp()) {
		t.Errorf("cwnd %d, BDP %.0f", x.f.left.c.cwnd(), x.b.bdp())
	}
	// Section 5.5.7: after 10 s without a shorter one the round trip is that.
	x.until(12*sec, func() bool { return x.b.minRTT >= 24*ms })
	if x.b.minRTT > 25*ms {
		t.Errorf("min_rtt %d", x.b.minRTT)
	}
}

// Appendix A.13: the floor of four segments.
func TestBBRSubPacketBDP(t *testing.T) {
	x := newBBRFlow(t, 64e3/8, 300)
	x.p.run(60 * sec)
	got := x.f.got
	x.p.run(20 * sec)
	if cwnd := x.f.left.c.cwnd(); cwnd < 4*1448 {
		t.Errorf("cwnd %d", cwnd)
	}
	x.rateNear(float64(x.f.got-got)/20, goodputRate(64e3/8), 0.1, "goodput")
}

// Appendix A.14 and A.15: the bandwidth becomes ten times as much, and then
// what it was.
func TestBBRBandwidthChanges(t *testing.T) {
	x := newBBRFlow(t, bbrTestRate, 4)
	x.state(2*sec, bbrCruise)
	x.p.rate *= 10
	x.p.buffer *= 10
	x.until(8*sec, func() bool { return x.b.maxBW > 0.9*goodputRate(10*bbrTestRate) })
	x.p.rate /= 10
	x.p.buffer /= 10
	x.until(sec, func() bool { return x.b.bw < 5*bbrTestRate })
	x.until(12*sec, func() bool { return x.b.maxBW < 1.1*bbrTestRate })
	got := x.f.got
	x.p.run(5 * sec)
	x.rateNear(float64(x.f.got-got)/5, goodputRate(bbrTestRate), 0.1, "goodput")
}

// Section 2.4: it tolerates the losses that halve others' windows.
func TestBBRRandomLoss(t *testing.T) {
	x := newBBRFlow(t, 10*bbrTestRate, 1)
	x.p.loss = 0.01
	x.p.run(sec)
	got := x.f.got
	x.p.run(10 * sec)
	x.rateNear(float64(x.f.got-got)/10, goodputRate(10*bbrTestRate), 0.3, "goodput at 1% loss")
}

// Section 5.6.2: segments leave at the pacing rate, not in windows.
func TestBBRPaces(t *testing.T) {
	x := newBBRFlow(t, bbrTestRate, 4)
	x.state(2*sec, bbrCruise)
	sent := x.f.sent
	x.p.run(2 * ms) // at 2.4 MB/s
	if n := x.f.sent - sent; n < 2 || n > 5 {
		t.Errorf("%d segments in 2 ms, want 3 or 4", n)
	}
	most := int64(0)
	queue := func() int64 { return max(x.p.busy-x.p.now, 0) }
	for range 1000 {
		x.p.run(ms / 10)
		if x.b.state == bbrCruise {
			most = max(most, queue())
		}
	}
	if most > 3*ms {
		t.Errorf("cruising, the bottleneck's queue was %d us long", most/1000)
	}
}

// Appendix A.16; section 5.5.11: the effect of losses is taken back if they prove
// to be none, and the probe that they ended begins again.
func TestBBRSpuriousLoss(t *testing.T) {
	x := newBBRFlow(t, bbrTestRate, 4)
	x.state(4*sec, bbrUp)
	cc := &x.f.left.c.cc
	cwnd := cc.cwnd
	rs := &RateSample{Flight: 60000, Lost: 3000}
	x.b.lost(cc, rs, 1000, 2448, true)
	if x.b.state != bbrDown || x.b.inflightLong == bbrInf || x.b.undoState != bbrUp {
		t.Fatalf("a loss of 5%%: %+v", *x.b)
	}
	cc.EnterRecovery()
	x.b.inflightShort, x.b.bwShort = 10000, 1e5
	cc.cwnd = 10000
	cc.Undo()
	if x.b.state != bbrRefill || cc.cwnd != cwnd || x.b.inflightLong != bbrInf ||
		x.b.inflightShort != bbrInf || x.b.bwShort != bbrInf || x.b.undoState != bbrNone {
		t.Errorf("after undo: cwnd %d of %d, %+v", cc.cwnd, cwnd, *x.b)
	}
	// Startup is gone back to likewise.
	x.b.state, x.b.undoState, x.b.fullReached = bbrDrain, bbrStartup, true
	cc.Undo()
	if x.b.state != bbrStartup || x.b.fullReached {
		t.Errorf("after undo: %+v", *x.b)
	}
}

// Section 5.6.4.4: a timeout leaves one segment, and the window is restored
// when recovery is over.
func TestBBRTimeout(t *testing.T) {
	x := newBBRFlow(t, bbrTestRate, 4)
	x.state(4*sec, bbrCruise)
	cwnd := x.f.left.c.cc.Cwnd()
	x.p.loss = 1
	x.until(2*sec, func() bool { return x.f.left.c.recovery == inLoss })
	if got := x.f.left.c.cc.Cwnd(); got != 1448 {
		t.Errorf("cwnd %d after a timeout", got)
	}
	x.p.loss = 0
	x.until(2*sec, func() bool { return x.f.left.c.recovery == noRecovery })
	if got := x.f.left.c.cc.Cwnd(); got < cwnd/2 {
		t.Errorf("cwnd %d after recovery, %d before", got, cwnd)
	}
}

// Appendix A.11; section 5.4.1: idleness drains the queue as well as ProbeRTT,
// and what follows leaves at the path's rate.
func TestBBRRestartFromIdle(t *testing.T) {
	w := dial(t, Config{Congestion: "bbr", NoDelay: true})
	b := w.c.cc.bbr
	ack := func(n uint32) {
		w.advance(20 * ms)
		w.feed("A", 1, n, 0)
	}
	for i := range uint32(10) {
		w.write(2000)
		ack(1 + 2000*(i+1))
	}
	b.state, b.fullReached, b.pacingGain, b.cycleAt = bbrCruise, true, 1, w.now
	b.probeWait = 3600 * sec
	w.now += 6 * sec
	w.write(2000)
	if !b.idleRestart || w.c.cc.PacingRate() != uint64(b.bw*bbrMargin) {
		t.Errorf("idle_restart %v, rate %d of %.0f", b.idleRestart, w.c.cc.PacingRate(), b.bw)
	}
	ack(22001)
	if b.state == bbrProbeRTT || b.idleRestart {
		t.Errorf("%s after idling, idle_restart %v", bbrStateNames[b.state], b.idleRestart)
	}
	w.out = nil
}

// Appendix A.18: ProbeRTT before the path was filled leads back to Startup.
func TestBBRProbeRTTInStartup(t *testing.T) {
	w := dial(t, Config{Congestion: "bbr", NoDelay: true})
	b := w.c.cc.bbr
	una, seen := uint32(1), false
	w.write(1000)
	for range 500 {
		w.write(1000) // limited by the application: it stays in Startup
		w.advance(20 * ms)
		una += 1000
		w.feed("A", 1, una, 0)
		seen = seen || b.state == bbrProbeRTT
	}
	if !seen || b.state != bbrStartup || b.fullReached {
		t.Errorf("ProbeRTT %v, now %s", seen, bbrStateNames[b.state])
	}
	w.out = nil
}

// Section 5.5.9: acknowledgements in bunches raise the window by what one
// holds beyond the rate.
func TestBBRExtraAcked(t *testing.T) {
	var c Congestion
	c.Init("bbr", 1000)
	b := c.bbr
	b.start(&c, 0, sec, 20*ms)
	c.cwnd, b.bw, b.fullReached = 1<<20, 1e6, true
	total := uint32(0)
	for i := range int64(20) { // 20,000 bytes at once each 20 ms
		b.now = sec + (i+1)*20*ms
		b.rounds++
		total += 20000
		b.updateAggregation(&c, &delivery{acked: 20000})
	}
	if b.extraAcked < 20000 || b.extraAcked > 21000 {
		t.Errorf("extra_acked %.0f, want 20000", b.extraAcked)
	}
	for i := range int64(200) { // evenly: forgotten after ten rounds
		b.now += ms
		if i%10 == 0 {
			b.rounds++
		}
		b.updateAggregation(&c, &delivery{acked: 500})
	}
	if b.extraAcked > 3000 {
		t.Errorf("extra_acked %.0f, want a segment or two", b.extraAcked)
	}
}

// The response to ECN: as to losses, and not taken back.
func TestBBRMarks(t *testing.T) {
	x := newBBRFlow(t, bbrTestRate, 4)
	cc := &x.f.left.c.cc
	cc.OnECN(x.p.now)
	x.until(sec, func() bool { return x.b.state != bbrStartup })
	if x.b.state != bbrDrain && x.b.state < bbrDown || x.b.inflightLong == bbrInf {
		t.Errorf("Startup does not heed marks: %+v", *x.b)
	}
	x.state(4*sec, bbrCruise)
	x.b.inflightLong = bbrInf
	cc.OnECN(x.p.now)
	x.until(sec, func() bool { return x.b.bwShort != bbrInf })
	if x.b.bwShort > x.b.maxBW {
		t.Errorf("bw_shortterm %.0f, max_bw %.0f", x.b.bwShort, x.b.maxBW)
	}
}

func TestBBRAllocs(t *testing.T) {
	a, b := newWireEnds(t, Config{Congestion: "bbr"}, Caps{MaxFrags: 1}, 2048)
	buf, dst := make([]byte, 256<<10), make([]byte, 64<<10)
	now := int64(1e9)
	bulk(a, b, buf, dst, &now)
	if n := testing.AllocsPerRun(20, func() { bulk(a, b, buf, dst, &now) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
