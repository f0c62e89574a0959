package tcp

import "testing"

// timedOut is a connection without timestamps whose flight of n segments of
// 1012 bytes timed out, and whose tail was probed.
func timedOut(t *testing.T, n, more int, opts ...opt) *wire {
	t.Helper()
	w := dial(t, Config{NoTimestamps: true}, append([]opt{tsOK(false)}, opts...)...)
	w.c.cc.SetCwnd(uint32(n * 1012))
	w.write((n + more) * 1012)
	w.advance(250 * ms)
	if w.c.recovery != inLoss || !w.c.has(markFRTO) {
		t.Fatalf("recovery %d", w.c.recovery)
	}
	w.out = nil
	w.now += 10 * ms
	return w
}

func seg(i int) uint32 { return uint32(1 + i*1012) }

// RFC 5682 section 3.1, step 2b and 3b: new data answers the first ACK, and
// the second ACK is of data sent once: the timeout was spurious.
func TestRFC5682Spurious(t *testing.T) {
	for _, sack := range []bool{true, false} {
		w := timedOut(t, 10, 10, sackOK(sack))
		next := w.c.sndNxt - w.iss
		w.feed("A", 1, seg(1), 0)
		if len(w.out) != 2 || w.last.Seq-w.iss != next+1012 {
			t.Fatalf("SACK %v: sent %q", sack, w.out)
		}
		w.out = nil
		w.feed("A", 1, seg(2), 0)
		if w.c.recovery != noRecovery || w.c.cc.Cwnd() < 10*1012 {
			t.Errorf("SACK %v: recovery %d, cwnd %d", sack, w.c.recovery, w.c.cc.Cwnd())
		}
		if w.c.lost != w.c.retrans || w.h.Stats.TCPSpuriousRTOs.Load() != 1 {
			t.Errorf("SACK %v: %d lost", sack, w.c.lost)
		}
		w.out = nil
	}
}

// Step 3a: a duplicate ACK, or SACK of the new data only: the loss was real.
func TestRFC5682Real(t *testing.T) {
	for _, sack := range []bool{true, false} {
		w := timedOut(t, 10, 10, sackOK(sack))
		next := w.c.sndNxt - w.iss
		w.feed("A", 1, seg(1), 0)
		w.out = nil
		w.now += 10 * ms
		if sack {
			w.feed("A", 1, seg(1), 0, w.sack(next, next+1012))
		} else {
			w.feed("A", 1, seg(1), 0)
		}
		if w.c.recovery != inLoss || w.c.has(markFRTO) {
			t.Errorf("SACK %v: recovery %d", sack, w.c.recovery)
		}
		if len(w.out) == 0 || w.out[0] != "A 1013:1 len 1012" {
			t.Errorf("SACK %v: sent %q", sack, w.out)
		}
		w.out = nil
	}
}

// SACK-enhanced: data in flight at the timeout, sent once, is SACKed.
func TestRFC5682SACK(t *testing.T) {
	w := timedOut(t, 10, 0)
	w.feed("A", 1, 1, 0, w.sack(seg(3), seg(4)))
	if w.c.recovery != noRecovery || w.c.cc.Cwnd() < 10*1012 {
		t.Errorf("recovery %d, cwnd %d", w.c.recovery, w.c.cc.Cwnd())
	}
	w.out = nil
}

// Step 2a: the first ACK covers everything. Without SACK that proves nothing:
// the retransmission filled the only hole.
func TestRFC5682OnlyHole(t *testing.T) {
	w := timedOut(t, 4, 0, sackOK(false))
	w.feed("A", 1, seg(4), 0)
	if w.c.recovery != noRecovery || w.c.cc.Cwnd() > w.c.cc.Ssthresh()+1012 {
		t.Errorf("recovery %d, cwnd %d", w.c.recovery, w.c.cc.Cwnd())
	}
}

// Without new data to send, F-RTO cannot find out.
func TestRFC5682NoNewData(t *testing.T) {
	w := timedOut(t, 10, 0)
	w.feed("A", 1, seg(1), 0)
	w.want("A 1013:1 len 1012", "A 2025:1 len 1012")
	if w.c.has(markFRTO) {
		t.Error("still at it")
	}
}

// Section 2.1, step 1: not in a recovery that was under way.
func TestRFC5682NotInRecovery(t *testing.T) {
	w := dial(t, Config{})
	flight(w, 10)
	w.now += 10 * ms
	w.feed("A", 1, 1, 0, w.sack(1001, 4001))
	ssthresh := w.c.cc.Ssthresh()
	w.advance(400 * ms)
	if w.c.recovery != inLoss || w.c.has(markFRTO) {
		t.Errorf("recovery %d", w.c.recovery)
	}
	// One loss, one reduction (RFC 5681 section 3.1).
	if got := w.c.cc.Ssthresh(); got != ssthresh {
		t.Errorf("ssthresh %d, was %d", got, ssthresh)
	}
	w.out = nil
}

// RFC 8985 section 6.3: data sent a moment ago is not lost because the first frame
// timed out, and cwnd leaves room for the retransmission.
func TestRFC8985Timeout(t *testing.T) {
	w := dial(t, Config{})
	flight(w, 5)
	w.now += 10 * ms
	w.feed("A", 1, 2001, 0) // RACK has a round trip
	w.advance(25 * ms)
	w.want("PA 4001:1 len 1000")
	d := w.c.Deadline() - w.now
	w.advance(d - 2*ms)
	w.c.cc.SetCwnd(20000)
	w.write(2000)
	w.want("A 5001:1 len 1000", "PA 6001:1 len 1000")
	w.advance(2 * ms)
	w.want("A 2001:1 len 1000")
	if w.c.lost != 3000 || w.c.pipe() != 3000 {
		t.Errorf("lost %d, pipe %d", w.c.lost, w.c.pipe())
	}
}

// RFC 6298 section 5.5: each expiry doubles the timeout, up to 120 s; section
// 5.3 and Karn: the first ACK of new data ends that.
func TestRFC6298Backoff(t *testing.T) {
	w := dial(t, Config{}, sackOK(false))
	w.write(10)
	w.out = nil
	want := 210 * ms
	for range 12 {
		w.due(want)
		w.advance(want)
		want = min(2*want, 120*sec)
	}
	w.now += 10 * ms
	w.feed("A", 1, 11, 0)
	w.write(10)
	if d := w.c.Deadline() - w.now; d > sec {
		t.Errorf("RTO %d ms", d/ms)
	}
	w.out = nil
}

// RFC 6298 section 3 (Karn): a retransmitted segment gives no sample, unless
// timestamps tell which one was acknowledged.
func TestRFC6298Karn(t *testing.T) {
	w := dial(t, Config{NoTimestamps: true}, tsOK(false), sackOK(false))
	w.write(10)
	srtt := w.c.rtt.SRTT()
	w.advance(250 * ms)
	w.out = nil
	w.now += 50 * ms
	w.feed("A", 1, 11, 0)
	if w.c.rtt.SRTT() != srtt {
		t.Error("sampled an ambiguous acknowledgement")
	}
	w = dial(t, Config{}, sackOK(false))
	w.write(10)
	w.advance(250 * ms)
	w.out = nil
	w.now += 50 * ms
	w.feed("A", 1, 11, 0)
	if w.c.rtt.SRTT() == srtt {
		t.Error("no sample by timestamps")
	}
}

// RFC 6298 section 5.7: where the SYN was sent again, data begins with a
// timeout of 3 s; RFC 6928 section 2: sent again twice, with one segment.
func TestRFC6298LostSYN(t *testing.T) {
	for _, tt := range []struct {
		lost int
		rto  int64
		cwnd uint32
	}{{0, 210 * ms, 10120}, {1, 3 * sec, 10120}, {2, 3 * sec, 1012}} {
		w := newWire(t, Config{NoTimestamps: true})
		w.c.Connect(w.now)
		w.advance([]int64{0, sec, 3 * sec}[tt.lost])
		w.now += 10 * ms
		w.synAck(tsOK(false), sackOK(false))
		if got := w.c.cc.Cwnd(); got != tt.cwnd {
			t.Errorf("%d SYNs lost: cwnd %d, want %d", tt.lost, got, tt.cwnd)
		}
		w.out = nil
		w.write(10)
		w.due(tt.rto)
		w.out = nil
	}
}

// RFC 6298 section 5: the timeout stays backed off until a round trip is measured.
// Otherwise a path that became slower than the timeout would have each segment sent
// twice for ever, and no sample would come.
func TestRFC6298KarnKeepsBackoff(t *testing.T) {
	w := dial(t, Config{NoTimestamps: true}, tsOK(false), sackOK(false))
	w.write(10)
	w.advance(210*ms + 420*ms)
	w.feed("A", 1, 11, 0)
	w.write(10)
	w.due(4 * 210 * ms)
	w.advance(4 * 210 * ms) // and doubles from there
	w.due(8 * 210 * ms)
	w.feed("A", 1, 21, 0)
	w.write(10)
	w.due(8 * 210 * ms)
	w.now += 900 * ms // longer than the first timeout, and sent once
	w.feed("A", 1, 31, 0)
	w.write(10)
	if d := w.c.Deadline() - w.now; d != w.c.rtt.RTO() || d < 900*ms {
		t.Errorf("RTO %d ms after a sample", d/ms)
	}
	w.out = nil
}

// The retransmission of the first segment starts the timer anew (as Linux): its
// acknowledgement is a round trip away again, which with a long one is more
// than is left.
func TestRTORestartsWithRetransmission(t *testing.T) {
	w := dial(t, Config{})
	flight(w, 10)
	w.now += 150 * ms
	w.c.rtoAt += 150 * ms // a path so long
	w.in("A", 1, 1, 0, w.sack(1001, 6001))
	w.c.Output(w.now)
	w.out = nil
	if d := w.c.rtoAt - w.now; d != w.c.rtt.RTO() {
		t.Errorf("RTO in %d ms, want %d", d/ms, w.c.rtt.RTO()/ms)
	}
}
