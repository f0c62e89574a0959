package tcp

import "testing"

// reno is a connection to a peer without SACK that has n segments in flight,
// and more to send.
func reno(t *testing.T, n int, opts ...opt) *wire {
	t.Helper()
	w := dial(t, Config{NoSACK: true}, append([]opt{sackOK(false)}, opts...)...)
	w.c.cc.SetCwnd(uint32(n) * 1000)
	w.write(3 * n * 1000)
	w.want(segments(1, n, false)...)
	w.now += 10 * ms
	return w
}

// RFC 3042: a new segment on each of the first two duplicate ACKs, where the
// peer's window allows; cwnd stays.
func TestRFC3042LimitedTransmit(t *testing.T) {
	w := reno(t, 10)
	w.feed("A", 1, 1, 0)
	w.want("A 10001:1 len 1000")
	w.feed("A", 1, 1, 0)
	w.want("A 11001:1 len 1000")
	if got := w.c.cc.Cwnd(); got != 10000 {
		t.Errorf("cwnd %d", got)
	}
	w = reno(t, 10)
	w.in("A", 1, 1, 0, wnd(10000))
	for range 2 {
		w.feed("A", 1, 1, 0, wnd(10000))
	}
	w.want()
}

// RFC 5681 section 2: segments that are no duplicate ACK: data, a FIN, a changed
// window, nothing in flight.
func TestRFC5681NoDuplicate(t *testing.T) {
	w := reno(t, 10)
	for i := range uint32(5) {
		w.in("PA", 1+10*i, 1, 10)
		w.in("A", 51, 1, 0, wnd(uint16(60000+i)))
	}
	if w.c.dupAcks != 0 || w.c.recovery != noRecovery {
		t.Errorf("%d duplicates", w.c.dupAcks)
	}
	w.feed("A", 51, 10001, 0)
	w.out = nil
}

// RFC 6582 section 3.2, step 3: a partial acknowledgement retransmits the next
// hole at once, one a round trip; the full one ends recovery at ssthresh.
func TestRFC6582PartialACKs(t *testing.T) {
	w := reno(t, 20)
	for range 3 {
		w.feed("A", 1, 1, 0)
	}
	if got := w.out[len(w.out)-1]; got != "A 1:1 len 1000" {
		t.Fatalf("sent %q", w.out)
	}
	recover := w.c.recoverSeq - w.iss
	for _, hole := range []uint32{5001, 9001, 13001} {
		w.out = nil
		w.now += 10 * ms
		w.feed("A", 1, hole, 0)
		if w.out[0] != segments(hole, 1, false)[0] || w.c.recovery != inRecovery {
			t.Fatalf("ACK %d: sent %q", hole, w.out)
		}
		for range 3 { // duplicates retransmit nothing more
			w.feed("A", 1, hole, 0)
		}
		for _, s := range w.out[1:] {
			if s == w.out[0] {
				t.Errorf("ACK %d: sent twice", hole)
			}
		}
	}
	w.out = nil
	w.now += 10 * ms
	w.feed("A", 1, recover, 0)
	if w.c.recovery != noRecovery || w.c.cc.Cwnd() > w.c.cc.Ssthresh()+1000 {
		t.Errorf("recovery %d, cwnd %d, ssthresh %d", w.c.recovery, w.c.cc.Cwnd(), w.c.cc.Ssthresh())
	}
	w.out = nil
}

// RFC 6582 section 3.2, step 2: duplicates of retransmissions, after recovery
// or a timeout, start no other one; those of later data do.
func TestRFC6582Careful(t *testing.T) {
	w := reno(t, 10)
	for range 3 {
		w.feed("A", 1, 1, 0)
	}
	w.now += 10 * ms
	w.feed("A", 1, w.c.recoverSeq-w.iss, 0)
	recoveries := w.h.Stats.TCPRenoRecovery.Load()
	for range 6 {
		w.feed("A", 1, w.c.sndUna-w.iss, 0)
	}
	if w.c.recovery != noRecovery || w.h.Stats.TCPRenoRecovery.Load() != recoveries {
		t.Error("recovery began again")
	}
	w.feed("A", 1, w.c.sndUna-w.iss+1000, 0)
	w.out = nil
	for range 3 {
		w.feed("A", 1, w.c.sndUna-w.iss, 0)
	}
	if w.c.recovery != inRecovery {
		t.Error("no recovery of a new loss")
	}
	w.out = nil
}

// A path that reorders (as generic XDP does) is not one that loses: recoveries that
// timestamps prove spurious are undone, and next time as many duplicates are waited
// for, while limited transmit goes on.
func TestRenoReordering(t *testing.T) {
	w := reno(t, 10)
	ts := w.lastTS
	w.now += 5 * ms
	for range 5 {
		w.feed("A", 1, 1, 0, tsecr(ts))
	}
	if w.c.recovery != inRecovery {
		t.Fatal("no recovery")
	}
	w.feed("A", 1, 6001, 0, tsecr(ts)) // it was late
	if w.c.recovery != noRecovery || w.c.cc.Cwnd() < 10000 || w.c.reordering != 6 {
		t.Fatalf("recovery %d, cwnd %d, reordering %d", w.c.recovery, w.c.cc.Cwnd(), w.c.reordering)
	}
	w.now += 10 * ms
	w.write(100000)
	w.feed("A", 1, w.c.sndNxt-w.iss, 0)
	w.out = nil
	una := w.c.sndUna - w.iss
	for i := range 5 {
		w.feed("A", 1, una, 0)
		if w.c.recovery != noRecovery || len(w.out) < i+1 {
			t.Fatalf("duplicate %d: recovery %d, sent %q", i+1, w.c.recovery, w.out)
		}
	}
	w.feed("A", 1, una, 0)
	if w.c.recovery != inRecovery {
		t.Error("the sixth is ignored, too")
	}
	w.out = nil
	// No more than the flight can make.
	w.c.reordering = 100
	if got := w.c.dupAckThresh(); int(got) >= int(w.c.sndNxt-w.c.sndUna)/1000 {
		t.Errorf("waits for %d duplicates of %d segments", got, (w.c.sndNxt-w.c.sndUna)/1000)
	}
	// A timeout after such waiting: it was a loss.
	w.advance(500 * ms)
	if w.c.reordering != dupThresh {
		t.Errorf("reordering %d", w.c.reordering)
	}
	w.out = nil
}

// A recovery that is two gigabytes back does not keep another from beginning
// (RFC 6582 section 3.2, step 2).
func TestRFC6582OldRecovery(t *testing.T) {
	w := reno(t, 10)
	w.c.recoverSeq = w.c.sndUna - 1<<31 + 1500
	w.feed("A", 1, 1001, 0)
	w.feed("A", 1, 2001, 0)
	w.out = nil
	for range 3 {
		w.feed("A", 1, 2001, 0)
	}
	if got := w.out[len(w.out)-1]; got != "A 2001:1 len 1000" || w.c.recovery != inRecovery {
		t.Errorf("sent %q", w.out)
	}
}
