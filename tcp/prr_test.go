package tcp

import "testing"

// bulkFlight has n segments in flight, and more to send.
func bulkFlight(t *testing.T, n int) *wire {
	t.Helper()
	w := dial(t, Config{})
	w.c.cc.SetCwnd(uint32(n) * 1000)
	w.write(5 * n * 1000)
	w.want(segments(1, n, false)...)
	w.now += 10 * ms
	return w
}

// RFC 9937 section 6.2 (RFC 6937 section 3): while more than ssthresh is in flight,
// the ratio of bytes sent in recovery to bytes that arrive is that of ssthresh to
// RecoverFS. At the end both the flight and cwnd are ssthresh.
func TestRFC9937Proportional(t *testing.T) {
	w := bulkFlight(t, 20)
	w.feed("A", 1, 1, 0, w.sack(1001, 2001))
	w.feed("A", 1, 1, 0, w.sack(1001, 3001))
	w.want(segments(20001, 2, false)...) // limited transmit (RFC 3042)
	ssthresh := uint32(14000)
	const recoverFS = 22000 - 2000 // what was not SACKed before
	sent := 0
	for delivered := uint32(1000); delivered <= recoverFS-1000; delivered += 1000 {
		w.feed("A", 1, 1, 0, w.sack(1001, 3001+delivered))
		sent += len(w.out)
		w.out = nil
		if w.c.recovery != inRecovery || w.c.cc.Ssthresh() != ssthresh {
			t.Fatalf("recovery %d, ssthresh %d", w.c.recovery, w.c.cc.Ssthresh())
		}
		due := (delivered*ssthresh + recoverFS - 1) / recoverFS
		if s := uint32(sent) * 1000; w.c.pipe() > int(ssthresh) && (s > due+1000 || s+1000 < due) {
			t.Errorf("%d bytes sent for %d that arrived, want %d", s, delivered, due)
		}
		if w.c.pipe() < int(ssthresh)-1000 {
			t.Errorf("%d bytes in flight after %d arrived", w.c.pipe(), delivered)
		}
	}
	w.now += 10 * ms
	w.feed("A", 1, 22001, 0)
	if got := w.c.pipe(); w.c.recovery != noRecovery || w.c.cc.Cwnd()/1000 != ssthresh/1000 || got < int(ssthresh)-1000 || got > int(ssthresh) {
		t.Errorf("recovery %d, cwnd %d, %d in flight", w.c.recovery, w.c.cc.Cwnd(), w.c.pipe())
	}
	w.out = nil
}

// RFC 9937 section 6.2: with less than ssthresh in flight an acknowledgement
// sends what it delivered (conservative reduction bound), and one that moves
// SND.UNA without showing a loss a segment more (slow start reduction bound),
// up to ssthresh.
func TestRFC9937Bounds(t *testing.T) {
	w := bulkFlight(t, 20)
	w.feed("A", 1, 1, 0, w.sack(10001, 20001)) // ten lost at once
	w.want(segments(1, 10, false)...)          // ten arrived; ssthresh is 14
	w.now += 10 * ms
	w.feed("A", 1, 1001, 0, w.sack(10001, 20001))
	w.want(segments(20001, 2, false)...) // one arrived, and one more
	w.feed("A", 1, 1001, 0, w.sack(2001, 3001, 10001, 20001))
	w.want(segments(1001, 1, false)...) // no progress, and that is lost again: one for one
	for ack := uint32(4001); ack <= 9001; ack += 1000 {
		w.feed("A", 1, ack, 0, w.sack(10001, 20001))
		if got := w.c.pipe(); got > 14000 {
			t.Errorf("%d bytes in flight after %d", got, ack)
		}
	}
	w.feed("A", 1, 20001, 0)
	if got := w.c.pipe(); got > 14000 || w.c.cc.Cwnd()/1000 != 14 || w.c.recovery != noRecovery {
		t.Errorf("%d bytes in flight, cwnd %d, recovery %d", got, w.c.cc.Cwnd(), w.c.recovery)
	}
	w.out = nil
}

// RFC 9937 section 6.2: the first segment is sent again whatever the bounds
// say.
func TestRFC9937FastRetransmission(t *testing.T) {
	w := dial(t, Config{})
	flight(w, 4)
	w.now += 10 * ms
	for end := uint32(2001); end <= 4001; end += 1000 {
		w.feed("A", 1, 1, 0, w.sack(1001, end))
	}
	w.want("A 1:1 len 1000")
	w.feed("A", 1, 4001, 0)
	w.want()
}

// RFC 6675 section 4, NextSeg rule 4: where nothing else can be sent the last
// segment is sent again, once in a recovery.
func TestRFC6675Rescue(t *testing.T) {
	w := dial(t, Config{})
	flight(w, 10)
	w.now += 10 * ms
	w.feed("A", 1, 1, 0, w.sack(1001, 8001)) // the first and the last two are lost
	w.want("A 1:1 len 1000")
	w.now += 5 * ms
	w.feed("A", 1, 1, 0, w.sack(1001, 8001))
	w.want("PA 9001:1 len 1000")
	w.now += 5 * ms
	w.feed("A", 1, 1, 0, w.sack(1001, 8001))
	w.want()
	w.now += 5 * ms
	w.feed("A", 1, 8001, 0, w.sack(9001, 10001)) // it tells of the other
	w.want("A 8001:1 len 1000")
	w.feed("A", 1, 10001, 0)
	w.want()
}

// RFC 6675 section 4, NextSeg rule 4: a rescue tells of no loss. When recovery
// ends before it was answered, nothing is reduced again.
func TestRFC6675RescueIsNoLoss(t *testing.T) {
	w := dial(t, Config{})
	flight(w, 10)
	w.write(2000)
	w.now += 10 * ms
	w.feed("A", 1, 1, 0, w.sack(1001, 2001, 3001, 9001))
	w.want("A 1:1 len 1000", "A 2001:1 len 1000", "A 10001:1 len 1000", "PA 11001:1 len 1000")
	w.now += 12 * ms // a little late
	w.feed("A", 1, 2001, 0, w.sack(3001, 10001))
	w.want("PA 11001:1 len 1000")
	w.feed("A", 1, 11001, 0)
	if w.c.recovery != noRecovery || w.c.cc.Ssthresh() != 7000 || w.h.Stats.TCPSackRecovery.Load() != 1 {
		t.Errorf("recovery %d, ssthresh %d", w.c.recovery, w.c.cc.Ssthresh())
	}
	w.out = nil
}

// The rescue of a FIN does not take along what arrived.
func TestRFC6675RescueFIN(t *testing.T) {
	w := dial(t, Config{})
	flight(w, 10)
	w.c.CloseWrite(w.now)
	w.want("FA 10001:1")
	w.now += 10 * ms
	w.feed("A", 1, 1, 0, w.sack(1001, 9001))
	w.want("A 1:1 len 1000")
	w.now += 5 * ms
	w.feed("A", 1, 1, 0, w.sack(1001, 10001))
	w.want("FA 10001:1")
	w.feed("A", 1, 10002, 0)
	w.want()
	w.state(FinWait2)
}
