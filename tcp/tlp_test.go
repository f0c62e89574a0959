package tcp

import "testing"

// expect fails where a timer of w is not due in d.
func (w *wire) due(d int64) {
	w.t.Helper()
	if got := w.c.Deadline() - w.now; got != d {
		w.t.Fatalf("next timer in %d us, want %d us", got/1000, d/1000)
	}
}

// RFC 8985 section 7.2: two round trips after the last data, 2 ms more as in
// Linux. Section 7.3: the last segment again; then the RTO is next.
func TestRFC8985ProbeTail(t *testing.T) {
	w := dial(t, Config{})
	flight(w, 5)
	w.due(22 * ms)
	cwnd := w.c.cc.Cwnd()
	w.advance(22 * ms)
	w.want("PA 4001:1 len 1000")
	if w.c.recovery != noRecovery || w.c.cc.Cwnd() != cwnd {
		t.Errorf("recovery %d, cwnd %d", w.c.recovery, w.c.cc.Cwnd())
	}
	w.due(210 * ms) // one probe only
	w.advance(210 * ms)
	w.want("A 1:1 len 1000")
	if w.c.recovery != inLoss {
		t.Error("no timeout")
	}
}

// Section 7.2: the acknowledgement of one segment may be delayed, WCDelAckT
// more; but never later than the RTO.
func TestRFC8985ProbeLoneSegment(t *testing.T) {
	w := dial(t, Config{})
	w.write(10)
	w.want("PA 1:1 len 10")
	w.due(210 * ms) // RTO; two round trips and WCDelAckT would be 220
	w.advance(210 * ms)
	w.want("PA 1:1 len 10")
	if w.c.recovery != noRecovery || w.c.retries != 0 {
		t.Error("that was a timeout")
	}
	w.due(210 * ms)

	w = dial(t, Config{}, func(s *Segment) {})
	w.c.rtt.rttv = 400e6
	w.write(10)
	w.want("PA 1:1 len 10")
	w.due(220 * ms)
}

// Section 7.3: new data where the peer's window takes the segment, and never
// beyond.
func TestRFC8985ProbeWindow(t *testing.T) {
	for _, tt := range []struct {
		wnd  uint16
		want string
	}{
		{5500, "A 4001:1 len 1000"},
		{5999, "A 4001:1 len 1000"},
		{6000, "A 5001:1 len 1000"},
	} {
		w := dial(t, Config{})
		w.c.sndWnd = uint32(tt.wnd)
		w.c.cc.SetCwnd(5000)
		w.write(8000)
		w.out = nil
		w.advance(22 * ms)
		w.want(tt.want)
	}
}

// Section 7.3: after a probe none is sent until a round trip is measured. Otherwise
// a path slower than the probe's timeout would have each segment sent twice.
func TestRFC8985ProbeNeedsSample(t *testing.T) {
	w := dial(t, Config{NoTimestamps: true}, tsOK(false))
	w.write(10)
	w.advance(210 * ms)
	w.want("PA 1:1 len 10", "PA 1:1 len 10")
	w.feed("A", 1, 11, 0) // of which of them?
	w.feed("A", 1, 11, 0, w.sack(1, 11))
	if w.c.has(markTLP) {
		t.Fatal("the probe was answered")
	}
	w.write(10)
	w.advance(210 * ms)
	w.want("PA 11:1 len 10")
	w.now += 5 * ms
	w.feed("A", 1, 21, 0)
	w.write(10)
	w.advance(w.c.Deadline() - w.now)
	w.want("PA 21:1 len 10", "PA 21:1 len 10")
	if w.c.recovery != noRecovery {
		t.Error("that was a timeout")
	}
}

// Two small segments are two.
func TestRFC8985ProbeSmallSegments(t *testing.T) {
	w := dial(t, Config{NoDelay: true})
	w.write(10)
	w.now += ms
	w.write(10)
	w.want("PA 1:1 len 10", "PA 11:1 len 10")
	w.due(22 * ms)
	w.advance(22 * ms)
	w.want("PA 11:1 len 10")
}

// Section 7.2: each transmission and each acknowledgement of new data starts
// the timer anew.
func TestRFC8985ProbeRestart(t *testing.T) {
	w := dial(t, Config{})
	flight(w, 5)
	w.now += 10 * ms
	w.due(12 * ms)
	w.c.cc.SetCwnd(20000)
	w.write(2000)
	w.want("A 5001:1 len 1000", "PA 6001:1 len 1000")
	w.due(22 * ms)
	w.now += 5 * ms
	w.feed("A", 1, 2001, 0)
	srtt := w.c.rtt.SRTT()
	w.due(2*srtt + 2*ms)
	w.feed("A", 1, 7001, 0)
	if w.c.Deadline() < w.now+1000*sec {
		t.Error("a timer, and nothing in flight")
	}
}

// Section 7.2: no probe where something is SACKed, RACK sees to it; the timer
// is the RTO's again.
func TestRFC8985NoProbeWithSACK(t *testing.T) {
	w := dial(t, Config{})
	flight(w, 5)
	w.c.set(markReordered) // else three frames would be lost at once
	w.now += 10 * ms
	w.feed("A", 1, 1, 0, w.sack(4001, 5001))
	w.want()
	w.advance(15 * ms) // the reordering window, and the retransmission
	w.want("A 1:1 len 1000")
	if w.c.has(markPTO) {
		t.Error("a probe is planned in recovery")
	}
}

// Section 7.2: nor for a peer without SACK.
func TestRFC8985NoProbeWithoutSACK(t *testing.T) {
	w := dial(t, Config{}, sackOK(false))
	flight(w, 5)
	w.due(210 * ms)
}

// Section 7.3: unsent data rather than old data, beyond cwnd, Nagle or not.
func TestRFC8985ProbeNewData(t *testing.T) {
	w := dial(t, Config{})
	flight(w, 5)
	w.write(500)
	w.want()
	w.advance(22 * ms)
	w.want("PA 5001:1 len 500")
	cwnd := w.c.cc.Cwnd()
	w.now += ms
	w.feed("A", 1, 5501, 0) // no loss: no reduction
	if w.c.cc.Cwnd() < cwnd || w.c.has(markTLP) {
		t.Errorf("cwnd %d, was %d", w.c.cc.Cwnd(), cwnd)
	}
}

// Section 7.3: only where the peer's window takes it.
func TestRFC8985ProbeWindowFull(t *testing.T) {
	w := dial(t, Config{})
	w.c.cc.SetCwnd(100000)
	w.feed("A", 1, 1, 0, wnd(5000))
	w.write(6000)
	w.want(segments(1, 5, false)...)
	w.advance(22 * ms)
	w.want("A 4001:1 len 1000")
}

// Section 7.3: one probe in flight, and none before there was an RTT sample.
func TestRFC8985OneProbe(t *testing.T) {
	w := dial(t, Config{NoTimestamps: true}, tsOK(false))
	w.c.cc.SetCwnd(5 * 1012)
	w.write(5 * 1012)
	w.out = nil
	w.advance(22 * ms)
	w.want("PA 4049:1 len 1012")
	w.now += ms
	w.feed("A", 1, 4049, 0) // acknowledges frames sent once: a sample
	w.want()
	if w.c.has(markNoSample) || !w.c.has(markTLP) || w.c.has(markPTO) {
		t.Errorf("marks %x", w.c.mark)
	}
	w.feed("A", 1, 5061, 0, w.sack(4049, 5061)) // both arrived
	if w.c.has(markTLP) {
		t.Error("probe still in flight")
	}
}

// Section 7.4.2: the probe repaired the loss; congestion control is to know,
// when an acknowledgement of later data comes without a DSACK.
func TestRFC8985ProbeRepairs(t *testing.T) {
	w := dial(t, Config{})
	flight(w, 10)
	w.now += 10 * ms
	w.feed("A", 1, 9001, 0)
	w.advance(500 * ms)
	if len(w.out) == 0 || w.out[0] != "PA 9001:1 len 1000" {
		t.Fatalf("sent %q", w.out)
	}
	w = dial(t, Config{})
	flight(w, 10)
	w.advance(22 * ms)
	w.want("PA 9001:1 len 1000")
	w.now += 10 * ms
	w.feed("A", 1, 10001, 0)
	before := w.c.cc.Cwnd()
	if before < 10000 {
		t.Error("reduced before it is known")
	}
	w.write(1000)
	w.want("PA 10001:1 len 1000")
	w.now += 10 * ms
	w.feed("A", 1, 11001, 0)
	if got := w.c.cc.Cwnd(); got > before*8/10 || w.h.Stats.TCPLossProbeRecovery.Load() != 1 {
		t.Errorf("cwnd %d", got)
	}
	if w.c.has(markTLP) || w.c.recovery != noRecovery {
		t.Error("probe still in flight")
	}
}

// Section 7.4.2: a DSACK of the probe, or a duplicate ACK of a peer that sends
// none, tells that there was no loss. It is no sign of reordering either.
func TestRFC8985ProbeNeedless(t *testing.T) {
	for _, dsack := range []bool{true, false} {
		w := dial(t, Config{})
		flight(w, 10)
		w.advance(22 * ms)
		w.want("PA 9001:1 len 1000")
		w.now += 5 * ms
		w.feed("A", 1, 10001, 0)
		w.now += 5 * ms
		w.write(1000)
		if dsack {
			w.feed("A", 1, 10001, 0, w.sack(9001, 10001))
		} else {
			w.feed("A", 1, 10001, 0)
		}
		if w.c.has(markTLP) {
			t.Errorf("DSACK %v: not recognised", dsack)
		}
		w.now += 5 * ms
		w.feed("A", 1, 11001, 0)
		if w.c.cc.Cwnd() < 10000 || w.c.has(markReordered) {
			t.Errorf("DSACK %v: cwnd %d", dsack, w.c.cc.Cwnd())
		}
		w.out = nil
	}
}

// Section 7.4.1: the probe's SACK shows by RACK what else is missing.
func TestRFC8985ProbeStartsRecovery(t *testing.T) {
	w := dial(t, Config{})
	flight(w, 5)
	w.now += 10 * ms
	w.feed("A", 1, 2001, 0) // the rest is lost
	w.advance(40 * ms)
	w.want("PA 4001:1 len 1000")
	w.now += 10 * ms
	w.feed("A", 1, 2001, 0, w.sack(4001, 5001))
	w.advance(5 * ms)
	if w.c.recovery != inRecovery || len(w.out) == 0 || w.out[0] != "A 2001:1 len 1000" {
		t.Errorf("recovery %d, sent %q", w.c.recovery, w.out)
	}
	w.out = nil
}

// A FIN goes with the data that it followed.
func TestRFC8985ProbeFIN(t *testing.T) {
	w := dial(t, Config{})
	w.c.cc.SetCwnd(5000)
	w.write(3500)
	w.c.CloseWrite(w.now)
	w.c.Output(w.now)
	w.out = nil
	w.advance(22 * ms)
	if len(w.out) == 0 || w.out[0] != "FPA 3001:1 len 500" && w.out[0] != "FA 3501:1" {
		t.Errorf("sent %q", w.out)
	}
	w.out = nil
	w.feed("A", 1, 3502, 0)
	w.state(FinWait2)
}

// No probe of what is in flight twice, after a recovery that was undone (found
// by FuzzDuel).
func TestRFC8985NoProbeAfterUndo(t *testing.T) {
	w := dial(t, Config{NoDelay: true})
	w.now += 100 * ms
	w.write(10)
	w.write(10)
	w.want("PA 1:1 len 10", "PA 11:1 len 10")
	old := w.lastTS
	for w.c.recovery == noRecovery {
		w.advance(w.c.Deadline() - w.now)
	}
	w.check()
	if w.c.lost != 20 || w.c.retrans != 20 {
		t.Fatalf("lost %d, retransmitted %d", w.c.lost, w.c.retrans)
	}
	probes := w.c.h.Stats.TCPLossProbes.Load()
	w.feed("A", 1, 11, 0, tsecr(old)) // Eifel
	if w.c.recovery != noRecovery || w.c.lost != 10 || w.c.retrans != 10 {
		t.Fatalf("recovery %v, lost %d, retransmitted %d", w.c.recovery, w.c.lost, w.c.retrans)
	}
	for w.c.recovery == noRecovery {
		w.advance(w.c.Deadline() - w.now)
	}
	if n := w.c.h.Stats.TCPLossProbes.Load() - probes; n != 0 {
		t.Errorf("%d probes", n)
	}
}
