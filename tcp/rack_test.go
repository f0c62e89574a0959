package tcp

import "testing"

// RFC 8985 section 6.2, step 3: reordering is a segment that was sent once and
// arrives below the highest one that arrived before. Segments that one ACK reports
// together have no order.
func TestRFC8985ReorderingSeen(t *testing.T) {
	w := dial(t, Config{})
	flight(w, 10)
	w.now += 10 * ms
	w.feed("A", 1, 1, 0, w.sack(5001, 6001, 3001, 4001)) // an ACK was lost
	if w.c.has(markReordered) {
		t.Error("two blocks of one ACK taken for reordering")
	}
	w.feed("A", 1, 1, 0, w.sack(1001, 2001, 5001, 6001, 3001, 4001))
	if !w.c.has(markReordered) {
		t.Error("not seen")
	}
	w.out = nil

	w = dial(t, Config{}) // the retransmission fills the hole
	flight(w, 10)
	w.now += 10 * ms
	w.feed("A", 1, 1, 0, w.sack(1001, 5001))
	w.now += 10 * ms
	w.feed("A", 1, 5001, 0)
	if w.c.has(markReordered) {
		t.Error("retransmission taken for reordering")
	}
	w.out = nil
}

// Step 4: without reordering three segments above a hole, however small, mean
// loss at once; two are not enough.
func TestRFC8985DupThresh(t *testing.T) {
	w := dial(t, Config{NoDelay: true})
	for range 6 {
		w.write(10)
	}
	w.out = nil
	w.now += 10 * ms
	w.feed("A", 1, 1, 0, w.sack(11, 21))
	w.feed("A", 1, 1, 0, w.sack(11, 31))
	w.want()
	if w.c.rackAt == 0 {
		t.Error("no timer")
	}
	w.feed("A", 1, 1, 0, w.sack(11, 41))
	w.want("A 1:1 len 10")
}

// Step 4: two segments above a hole, and a quarter of the least round trip.
func TestRFC8985WindowBelowDupThresh(t *testing.T) {
	w := dial(t, Config{})
	flight(w, 3)
	w.now += 10 * ms
	w.feed("A", 1, 1, 0, w.sack(1001, 3001))
	w.want()
	w.due(10 * ms / 4)
	w.advance(10 * ms / 4)
	w.want("A 1:1 len 1000")
}

// Step 4: a round trip with DSACKs widens the window by a quarter of the least
// round trip, once; the window stays for 16 recoveries without, and never is
// above the smoothed round trip.
func TestRFC8985WindowAdapts(t *testing.T) {
	w := dial(t, Config{})
	w.c.set(markReordered)
	w.c.makeRare().retransSegs = 1000 // enough to be believed
	min := w.c.rtt.Min()
	flight(w, 10)
	if got := w.c.rack.window(&w.c); got != min/4 {
		t.Fatalf("window %d us", got/1000)
	}
	w.now += 10 * ms
	w.feed("A", 1, 5001, 0, w.sack(1, 1001))
	w.feed("A", 1, 5001, 0, w.sack(1001, 2001)) // the same round
	if got := w.c.rack.window(&w.c); got != min/2 {
		t.Errorf("after one round: %d us, least round trip %d us", got/1000, min/1000)
	}
	w.feed("A", 1, 10001, 0)
	w.write(1000)
	w.feed("A", 1, 10001, 0, w.sack(2001, 3001)) // the next
	if got := w.c.rack.window(&w.c); got != min/4*3 {
		t.Errorf("after two rounds: %d us", got/1000)
	}
	for range 15 {
		w.c.rack.onRecovered()
	}
	if got := w.c.rack.window(&w.c); got != min/4*3 {
		t.Errorf("after 15 recoveries: %d us", got/1000)
	}
	w.c.rack.onRecovered()
	if got := w.c.rack.window(&w.c); got != min/4 {
		t.Errorf("after 16 recoveries: %d us", got/1000)
	}
	w.c.rack.mult = 63
	if got := w.c.rack.window(&w.c); got != w.c.rtt.SRTT() {
		t.Errorf("widest: %d us", got/1000)
	}
	w.out = nil
}

// Step 2: an ACK that echoes a timestamp from before the retransmission is of
// the original, and says nothing about when the retransmission would arrive.
func TestRFC8985AmbiguousRetransmission(t *testing.T) {
	w := dial(t, Config{})
	flight(w, 10)
	ts := w.lastTS
	w.now += 10 * ms
	w.feed("A", 1, 1, 0, w.sack(1001, 4001))
	w.want("A 1:1 len 1000")
	at := w.c.rack.sentAt
	w.now += 12 * ms // longer than the least round trip
	w.feed("A", 1, 1001, 0, w.sack(2001, 4001), tsecr(ts))
	if w.c.rack.sentAt != at {
		t.Error("took the original for the retransmission")
	}
	w.out = nil
}

// Step 5: the timer goes on from frame to frame; recovery begins with the
// first that is overdue.
func TestRFC8985Timer(t *testing.T) {
	w := dial(t, Config{})
	w.c.set(markReordered)
	w.c.cc.SetCwnd(40000)
	w.write(1000)
	w.now += ms
	w.write(1000)
	w.now += ms
	w.write(1000)
	w.out = nil
	w.now += 9 * ms
	w.feed("A", 1, 1, 0, w.sack(2001, 3001)) // round trip 9 ms
	w.want()
	w.advance(500e3)
	w.want("A 1:1 len 1000")
	w.advance(ms)
	if w.want(); w.c.lost != 2000 { // PRR has nothing to send it for
		t.Errorf("%d bytes lost", w.c.lost)
	}
}

// RFC 8985 section 6.2, step 4: the reordering window widens once a round trip, also
// when the last time was more than half of the sequence space ago.
func TestRFC8985StaleDSACKRound(t *testing.T) {
	w := dial(t, Config{})
	flight(w, 2)
	w.c.rack.onDSACK(&w.c)
	w.c.rack.onDSACK(&w.c)
	w.c.rack.round = w.c.sndUna + 1<<31 - 1000 // 2 GiB and some ago
	was := w.c.rack.mult
	w.c.rack.onDSACK(&w.c)
	if was != 1 || w.c.rack.mult != 2 {
		t.Errorf("mult %d, then %d", was, w.c.rack.mult)
	}
}
