package tcp

import "testing"

// RFC 2883 section 4: the reports of a receiver. The first block of its ACK is the
// duplicate, the next one the block that holds it, if any does.
func TestRFC2883Receiver(t *testing.T) {
	w := dial(t, Config{})
	w.feed("A", 1, 1, 2000)
	w.out = nil
	// Section 4.1.1: a duplicate below the acknowledgement.
	w.feed("A", 501, 1, 500)
	w.want("A 1:2001 sack 501-1001")
	// Section 4.1.2: the same with data missing above.
	w.feed("A", 3001, 1, 1000)
	w.out = nil
	w.feed("A", 1, 1, 1000)
	w.want("A 1:2001 sack 1-1001 3001-4001")
	// Section 4.1.3: a duplicate of what came out of order.
	w.feed("A", 3001, 1, 1000)
	w.want("A 1:2001 sack 3001-4001 3001-4001")
	// Section 4.2: parts of segments. Below the acknowledgement:
	w.feed("A", 1501, 1, 1000)
	w.want("A 1:2501 sack 1501-2001 3001-4001")
	// Out of order, in front and behind:
	w.feed("A", 2801, 1, 400)
	w.want("A 1:2501 sack 3001-3201 2801-4001")
	w.feed("A", 3501, 1, 1000)
	w.want("A 1:2501 sack 3501-4001 2801-4501")
	// In order, of what came out of order:
	w.feed("A", 2501, 1, 1000)
	w.want("A 1:4501 sack 2801-3501")
	// Each duplicate is reported once.
	w.feed("A", 4501, 1, 1000)
	w.want("A 1:5501")
	// Sections 4.2.2 and 4.2.3: of two in one segment the first, be it
	// acknowledged or not.
	w.feed("A", 6001, 1, 500)
	w.out = nil
	w.feed("A", 5001, 1, 2000)
	w.want("A 1:7001 sack 5001-5501")
	w.feed("A", 8001, 1, 500)
	w.feed("A", 9001, 1, 500)
	w.out = nil
	w.feed("A", 8001, 1, 2000)
	w.want("A 1:7001 sack 8001-8501 8001-10001")
	if k := w.read(10000); k != 7000 {
		t.Errorf("read %d", k)
	}
}

// Section 4: a duplicate is reported at once, also while data that carries the
// acknowledgement leaves.
func TestRFC2883ReportBesideData(t *testing.T) {
	w := dial(t, Config{})
	w.feed("PA", 1, 1, 1000)
	w.out = nil
	w.c.Write(make([]byte, 500))
	w.feed("PA", 1, 1, 1000)
	w.want("PA 1:1001 len 500", "A 501:1001 sack 1-1001")
	w.feed("PA", 1001, 501, 1000)
	w.advance(50 * ms)
	w.want("A 501:2001")
}

// RFC 2883 section 4: of two segments before one acknowledgement, the one that
// triggered it is reported.
func TestRFC2883Newest(t *testing.T) {
	w := dial(t, Config{})
	w.feed("A", 1, 1, 2000)
	w.out = nil
	w.c.quick = 0
	w.in("A", 1901, 1, 200) // in one turn with the next
	w.feed("A", 1001, 1, 500)
	w.want("A 1:2101 sack 1001-1501")
}

// RFC 2883 section 5: each retransmission was a duplicate; RFC 3708: so the
// reduction was needless. The last report may come when recovery is over.
func TestRFC3708UndoAfterRecovery(t *testing.T) {
	w := dial(t, Config{NoTimestamps: true}, tsOK(false))
	w.c.cc.SetCwnd(20 * 1012)
	w.write(20 * 1012)
	w.out = nil
	w.now += 10 * ms
	w.feed("A", 1, 1, 0, w.sack(1013, 5*1012+1))
	w.want("A 1:1 len 1012")
	w.now += 9 * ms
	w.feed("A", 1, 20*1012+1, 0) // the original was late
	if w.c.recovery != noRecovery || w.c.cc.Cwnd() > 15*1012 {
		t.Fatalf("recovery %d, cwnd %d", w.c.recovery, w.c.cc.Cwnd())
	}
	if w.c.has(markReordered) {
		t.Fatal("that could be the retransmission")
	}
	w.write(1012)
	w.out = nil
	w.now += ms
	w.feed("A", 1, 20*1012+1, 0, w.sack(1, 1013))
	if w.c.cc.Cwnd() < 20*1012 || w.h.Stats.TCPDSACKUndo.Load() != 1 {
		t.Errorf("cwnd %d", w.c.cc.Cwnd())
	}
	if !w.c.has(markReordered) || w.c.rack.mult != 1 {
		t.Error("nothing learned about the path")
	}
}

// The report may come when all that was sent is acknowledged.
func TestRFC3708UndoWhenIdle(t *testing.T) {
	w := dial(t, Config{NoTimestamps: true}, tsOK(false))
	w.write(8 * 1012)
	w.now += 10 * ms
	w.feed("A", 1, 1, 0, w.sack(1013, 5*1012+1))
	w.feed("A", 1, 8*1012+1, 0)
	w.out = nil
	if w.c.cc.Cwnd() >= 10*1012 {
		t.Fatalf("cwnd %d", w.c.cc.Cwnd())
	}
	w.now += ms
	w.feed("A", 1, 8*1012+1, 0, w.sack(1, 1013))
	if w.c.cc.Cwnd() < 10*1012 {
		t.Errorf("cwnd %d", w.c.cc.Cwnd())
	}
	w.want()
}

// RFC 3708 section 3: not all of the retransmissions were duplicates, so there
// was a loss.
func TestRFC3708NoUndoInPart(t *testing.T) {
	w := dial(t, Config{NoTimestamps: true}, tsOK(false))
	w.c.cc.SetCwnd(20 * 1012)
	w.write(40 * 1012) // so that no rescue is sent
	w.out = nil
	w.now += 10 * ms
	w.feed("A", 1, 1, 0, w.sack(2*1012+1, 10*1012+1))
	if w.c.retransmitted() != 2 {
		t.Fatalf("sent %q", w.out)
	}
	w.out = nil
	w.now += 5 * ms
	w.feed("A", 1, 2*1012+1, 0, w.sack(1, 1013, 2*1012+1, 10*1012+1))
	if w.c.recovery != inRecovery || w.c.undoRetrans != 1 {
		t.Errorf("recovery %d, %d to be reported", w.c.recovery, w.c.undoRetrans)
	}
	w.feed("A", 1, 2*1012+1, 0, w.sack(1013, 2*1012+1, 2*1012+1, 10*1012+1))
	if w.c.recovery != noRecovery || w.c.cc.Cwnd() < 20*1012 {
		t.Errorf("recovery %d, cwnd %d", w.c.recovery, w.c.cc.Cwnd())
	}
	w.out = nil
}

// One report may cover several segments.
func TestRFC3708CoalescedReport(t *testing.T) {
	w := dial(t, Config{NoTimestamps: true}, tsOK(false))
	w.c.cc.SetCwnd(20 * 1012)
	w.write(20 * 1012)
	w.out = nil
	w.now += 10 * ms
	w.feed("A", 1, 1, 0, w.sack(2*1012+1, 10*1012+1))
	w.now += 5 * ms
	w.feed("A", 1, 10*1012+1, 0, w.sack(1, 2*1012+1))
	if w.c.recovery != noRecovery || w.c.cc.Cwnd() < 20*1012 {
		t.Errorf("recovery %d, cwnd %d", w.c.recovery, w.c.cc.Cwnd())
	}
	w.out = nil
}

// RFC 3708 section 3: a network that makes duplicates of what was sent once
// teaches nothing.
func TestRFC3708NetworkDuplicates(t *testing.T) {
	w := dial(t, Config{})
	flight(w, 10)
	w.now += 10 * ms
	w.feed("A", 1, 5001, 0, w.sack(1, 1001))
	w.feed("A", 1, 5001, 0, w.sack(1001, 2001))
	if w.c.rack.mult != 0 || w.h.Stats.TCPDSACKIgnoredDubious.Load() != 2 {
		t.Errorf("window of reordering widened %d times", w.c.rack.mult)
	}
}

// Section 3: nor do more reports than there were retransmissions, or reports of
// what is long past.
func TestRFC3708DubiousReports(t *testing.T) {
	repaired := func() (w *wire, next uint32) {
		w = dial(t, Config{NoTimestamps: true}, tsOK(false))
		w.c.cc.SetCwnd(10 * 1012)
		w.write(10 * 1012)
		w.now += 10 * ms
		w.feed("A", 1, 1, 0, w.sack(seg(1), seg(6)))
		if w.c.recovery != inRecovery || !w.c.has(markUndo) {
			t.Fatalf("recovery %d", w.c.recovery)
		}
		w.now += 10 * ms
		w.feed("A", 1, seg(10), 0)
		w.out = nil
		return w, seg(10)
	}
	w, next := repaired()
	n := int(w.c.retransmitted())
	for i := range n + 3 {
		w.feed("A", 1, next, 0, w.sack(seg(i), seg(i+1)))
	}
	if got := w.h.Stats.TCPDSACKIgnoredDubious.Load(); got != 3 {
		t.Errorf("%d reports ignored of %d for %d retransmissions", got, n+3, n)
	}
	for _, far := range []int{10, 80} {
		w, next := repaired()
		for range far {
			w.write(1012)
			next += 1012
			w.feed("A", 1, next, 0)
		}
		w.feed("A", 1, next, 0, w.sack(seg(0), seg(1)))
		if undone := w.h.Stats.TCPDSACKUndo.Load() == 1; undone != (far == 10) {
			t.Errorf("%d segments later: undone %v", far, undone)
		}
		w.out = nil
	}
}

// RFC 3522 and RFC 4015: the timeout was spurious. The windows are back, what
// is in flight is not sent again, and the RTO is above the delay that there
// was.
func TestRFC4015SpuriousTimeout(t *testing.T) {
	w := dial(t, Config{})
	flight(w, 10)
	w.write(10000)
	ts := w.lastTS
	w.advance(600 * ms)
	if w.c.recovery != inLoss || w.c.cc.Cwnd() != 1000 {
		t.Fatalf("recovery %d, cwnd %d", w.c.recovery, w.c.cc.Cwnd())
	}
	w.out = nil
	w.feed("A", 1, 2001, 0, tsecr(ts))
	if w.c.recovery != noRecovery || w.c.cc.Cwnd() < 10000 || w.c.cc.Ssthresh() < 10000 {
		t.Errorf("recovery %d, cwnd %d, ssthresh %d", w.c.recovery, w.c.cc.Cwnd(), w.c.cc.Ssthresh())
	}
	if len(w.out) == 0 || w.out[0] != "A 11001:1 len 1000" { // 10001 was the probe
		t.Errorf("sent %q", w.out)
	}
	if w.c.lost != w.c.retrans {
		t.Errorf("%d bytes still lost, %d sent again", w.c.lost, w.c.retrans)
	}
	if rto := w.c.rtt.RTO(); rto < 600*ms {
		t.Errorf("RTO %d ms", rto/ms)
	}
	if w.h.Stats.TCPLossUndo.Load() != 1 {
		t.Error("not counted")
	}
	w.out = nil
}

// RFC 3522: the acknowledgement of the retransmission undoes nothing.
func TestRFC3522RealTimeout(t *testing.T) {
	w := dial(t, Config{})
	flight(w, 10)
	w.advance(300 * ms)
	w.now += 10 * ms
	w.feed("A", 1, 1001, 0) // echoes the retransmission
	if w.c.recovery != inLoss || w.c.cc.Cwnd() > 3000 {
		t.Errorf("recovery %d, cwnd %d", w.c.recovery, w.c.cc.Cwnd())
	}
	w.out = nil
}

// A reduction is taken back once, and only the last one.
func TestUndoOnce(t *testing.T) {
	w := dial(t, Config{NoTimestamps: true}, tsOK(false))
	w.c.cc.SetCwnd(20 * 1012)
	w.write(20 * 1012)
	w.now += 10 * ms
	w.feed("A", 1, 1, 0, w.sack(1013, 5*1012+1))
	w.now += 5 * ms
	w.feed("A", 1, 5*1012+1, 0, w.sack(1, 1013))
	cwnd := w.c.cc.Cwnd()
	w.c.cc.EnterRecovery() // a reduction of another kind, as ECN's
	w.c.cc.ExitRecovery()
	w.feed("A", 1, 5*1012+1, 0, w.sack(1, 1013))
	if w.c.cc.Cwnd() >= cwnd {
		t.Errorf("cwnd %d", w.c.cc.Cwnd())
	}
	w.out = nil
}

// Lowering the MTU is no reduction, and cannot be undone into an older window.
func TestNoUndoOfPathMTU(t *testing.T) {
	w := dial(t, Config{})
	flight(w, 10)
	w.now += 10 * ms
	w.feed("A", 1, 1, 0, w.sack(1001, 4001))
	w.now += 10 * ms
	w.feed("A", 1, 10001, 0)
	w.write(5000)
	cwnd, ts := w.c.cc.Cwnd(), w.lastTS
	w.now += 5 * ms
	w.c.SetPathMTU(800, w.now)
	w.now += ms
	w.feed("A", 1, 11001, 0, tsecr(ts))
	if got := w.c.cc.Cwnd(); got > cwnd+2000 {
		t.Errorf("cwnd %d, was %d", got, cwnd)
	}
	w.out = nil
}

// RFC 3708 section 3: every retransmission must have been a duplicate. That the
// rescue was one does not excuse that of the segment that was lost.
func TestRFC3708RescueIsNoExcuse(t *testing.T) {
	w := dial(t, Config{NoTimestamps: true}, tsOK(false), mss(1000))
	flight(w, 10)
	w.now += 10 * ms
	w.feed("A", 1, 1, 0, w.sack(1001, 8001))
	w.want("A 1:1 len 1000")
	w.now += 5 * ms
	w.feed("A", 1, 1, 0, w.sack(1001, 8001))
	w.want("PA 9001:1 len 1000")
	w.now += 5 * ms
	w.feed("A", 1, 10001, 0)
	w.feed("A", 1, 10001, 0, w.sack(9001, 10001))
	if w.h.Stats.TCPDSACKRecv.Load() != 1 || w.h.Stats.TCPDSACKUndo.Load() != 0 || w.c.cc.Cwnd() != 7000 {
		t.Errorf("undone: cwnd %d", w.c.cc.Cwnd())
	}
}

// Nor does it in the recovery after the one that sent it.
func TestRFC3708LateRescueIsNoExcuse(t *testing.T) {
	w := dial(t, Config{NoTimestamps: true}, tsOK(false), mss(1000))
	flight(w, 10)
	w.write(2000)
	w.now += 10 * ms
	w.feed("A", 1, 1, 0, w.sack(1001, 2001, 3001, 9001))
	w.want("A 1:1 len 1000", "A 2001:1 len 1000", "A 10001:1 len 1000", "PA 11001:1 len 1000")
	w.now += 12 * ms
	w.feed("A", 1, 2001, 0, w.sack(3001, 10001))
	w.want("PA 11001:1 len 1000")
	w.now += 10 * ms
	w.feed("A", 1, 10001, 0, w.sack(11001, 12001))
	w.want("A 10001:1 len 1000")
	if w.h.Stats.TCPSackRecovery.Load() != 2 {
		t.Fatalf("%d recoveries", w.h.Stats.TCPSackRecovery.Load())
	}
	w.feed("A", 1, 10001, 0, w.sack(11001, 12001, 11001, 12001))
	if w.c.recovery != inRecovery || w.h.Stats.TCPDSACKUndo.Load() != 0 {
		t.Errorf("undone: recovery %d", w.c.recovery)
	}
	w.out = nil
}
