package tcp

import (
	"syscall"
	"testing"
	"time"

	"github.com/onload-go/onload/ip"
)

// RFC 5961 section 3: a RST resets only with the exact sequence number.
func TestRFC5961BlindRST(t *testing.T) {
	w := dial(t, Config{})
	w.in("R", 2, 0, 0) // in the window
	w.want("A 1:1")
	for i := range uint32(100) {
		w.in("R", 3+i, 0, 0)
	}
	w.want() // rate limited, per connection: section 7
	w.in("R", 0, 0, 0)
	w.in("R", 1<<30, 0, 0)
	w.want() // outside: no answer at all
	w.state(Established)
	w.advance(500 * ms)
	w.in("R", 2, 0, 0)
	w.want("A 1:1")
	w.in("R", 1, 0, 0)
	w.want()
	w.state(Closed)
	w.err(syscall.ECONNRESET)
}

// Section 4: a SYN never resets.
func TestRFC5961BlindSYN(t *testing.T) {
	for _, seq := range []uint32{0, 1, 5, 1 << 31} {
		w := dial(t, Config{})
		w.in("S", seq, 0, 0)
		w.want("A 1:1")
		for range 100 {
			w.in("S", seq, 0, 0)
			w.in("SA", seq, 1, 0)
		}
		w.want()
		w.state(Established)
	}
}

// Section 5: an acknowledgement far in the past, or of what was never sent,
// is refused with its data.
func TestRFC5961BlindData(t *testing.T) {
	w := dial(t, Config{})
	w.feed("PA", 1, 2, 10)
	w.want("A 1:1")
	w.feed("PA", 1, ^uint32(70000), 10)
	w.want()
	if w.c.Readable() {
		t.Error("took the data")
	}
	w.write(1000)
	w.feed("A", 1, 1001, 0)
	w.feed("PA", 1, 501, 10) // old, and acceptable
	if n := w.read(100); n != 10 {
		t.Errorf("read %d", n)
	}
}

// A RST in CLOSE-WAIT is a broken pipe, as on Linux.
func TestRSTCloseWait(t *testing.T) {
	w := dial(t, Config{})
	w.feed("FA", 1, 1, 0)
	w.want("A 1:2")
	w.in("R", 2, 0, 0)
	w.err(syscall.EPIPE)
}

// Data that came before the RST can still be read.
func TestRSTAfterData(t *testing.T) {
	w := dial(t, Config{})
	w.in("PA", 1, 1, 10)
	w.in("R", 11, 0, 0)
	w.err(syscall.ECONNRESET)
	if n := w.read(100); n != 10 {
		t.Errorf("read %d", n)
	}
}

// RFC 7323 section 5: PAWS refuses old timestamps, but not those of a peer
// that was silent for 24 days.
func TestRFC7323PAWS(t *testing.T) {
	w := dial(t, Config{})
	w.feed("PA", 1, 1, 10)
	w.advance(50 * ms)
	w.want("A 1:11")
	recent := w.c.tsRecent
	w.feed("PA", 11, 1, 10, tsval(recent-1))
	w.want("A 1:11")
	w.feed("PA", 11, 1, 10, tsval(recent-1<<30))
	w.want("A 1:11")
	if n := w.read(100); n != 10 {
		t.Errorf("read %d", n)
	}
	w.in("R", 11, 0, 0, tsval(recent-5)) // a RST is exempt
	w.state(Closed)

	w = dial(t, Config{})
	w.feed("PA", 1, 1, 10)
	w.advance(50 * ms)
	recent = w.c.tsRecent
	w.now += 25 * 24 * 3600 * sec
	w.feed("PA", 11, 1, 10, tsval(recent-1))
	if n := w.read(100); n != 20 {
		t.Errorf("read %d after 25 days", n)
	}
	// It is the timestamp to echo, and to compare with, from then on.
	if w.c.tsRecent != recent-1 {
		t.Errorf("TS.Recent %d, want %d", w.c.tsRecent, recent-1)
	}
	w.advance(50 * ms)
	if w.last.Opt.TSEcr != recent-1 {
		t.Errorf("echoed %d, want %d", w.last.Opt.TSEcr, recent-1)
	}
	w.now += 25 * 24 * 3600 * sec
	w.feed("PA", 21, 1, 10, tsval(recent))
	if n := w.read(100); n != 10 {
		t.Errorf("read %d after 50 days", n)
	}
	w.out = nil
}

// RFC 7323 section 5.4: the peer's clock, and ours, wrap after 49 days.
func TestRFC7323ClockWrap(t *testing.T) {
	w := dial(t, Config{}, tsval(0xfffffff8))
	w.tsval = 0xfffffff8
	w.now += -w.now + (1<<32-20)*ms
	w.c.tsOffset, w.c.lastData, w.c.lastRcv = 0, w.now, w.now
	w.c.lastSnd, w.c.stuckAt, w.c.tsRecentAt = w.now, w.now, uint32(w.now/ms)
	for i := range uint32(20) {
		w.feed("PA", 1+10*i, 1+10*i, 10)
		w.read(10)
		w.write(10)
		w.now += 5 * ms
	}
	if w.lastTS > 100 || w.c.tsRecent > 100 {
		t.Fatalf("clocks at %d and %d: nothing wrapped", w.lastTS, w.c.tsRecent)
	}
	if n := w.c.received; n != 200 {
		t.Errorf("received %d", n)
	}
	if n := w.h.Stats.PAWSEstab.Load(); n != 0 {
		t.Errorf("PAWS refused %d", n)
	}
	w.feed("PA", 201, 201, 10, tsval(0xfffffffe))
	if n := w.h.Stats.PAWSEstab.Load(); n != 1 || w.c.received != 200 {
		t.Errorf("PAWS refused %d, received %d", n, w.c.received)
	}
	w.out = nil
}

// RFC 7323 section 4.3: a segment ahead of a hole does not move what is
// echoed.
func TestRFC7323Echo(t *testing.T) {
	w := dial(t, Config{})
	w.feed("A", 1001, 1, 1000, tsval(5000))
	if w.last.Opt.TSEcr == 5000 {
		t.Error("echoed the timestamp of a segment out of order")
	}
	w.feed("A", 1, 1, 1000, tsval(4000))
	if w.last.Opt.TSEcr != 4000 {
		t.Errorf("echoed %d", w.last.Opt.TSEcr)
	}
	w.want("A 1:1 sack 1001-2001", "A 1:2001")
}

// Each connection has a timestamp offset of its own (attack 6).
func TestTimestampOffset(t *testing.T) {
	a, b := dial(t, Config{}), dial(t, Config{})
	b.h.TSKey[5]++
	if a.c.tsOffset != b.c.tsOffset || b.h.TSOffset(addrA, addrB) == a.c.tsOffset ||
		a.h.TSOffset(addrB, addrA) == a.c.tsOffset {
		t.Error("the offset does not depend on key and addresses")
	}
	a.out, b.out = nil, nil
}

// Attack 18: two peers that take each other for out of window do not talk for
// ever.
func TestACKLoop(t *testing.T) {
	w := dial(t, Config{})
	for range 1000 {
		w.feed("A", 1<<30, 1, 0)
		w.now += ms / 10
	}
	if n := len(w.out); n > 2 {
		t.Errorf("%d answers in 100 ms", n)
	}
	w.out = nil
}

// RFC 5927 section 4: an ICMP error counts only if what it quotes is in
// flight; RFC 9293 section 3.9.2.2: it does not end an established connection.
func TestUnreachable(t *testing.T) {
	w := newWire(t, Config{})
	w.c.Connect(w.now)
	w.want("S 0:0")
	w.c.Unreachable(syscall.EHOSTUNREACH, w.now)
	w.err(syscall.EHOSTUNREACH)
	w.state(Closed)
	if w.ev&(EvClosed|EvError) != EvClosed|EvError {
		t.Errorf("events %b", w.ev)
	}

	w = dial(t, Config{UserTimeout: 3e9})
	w.c.Unreachable(syscall.ENETUNREACH, w.now)
	w.state(Established)
	w.write(10)
	w.advance(4 * sec)
	w.err(syscall.ENETUNREACH) // the better reason for the timeout
}

// RFC 7323 section 4.3 with RFC 9293 section 3.10.7.4: in SYN-RECEIVED a segment
// whose acknowledgement is refused does not set the timestamp that PAWS
// compares with, either.
func TestRFC7323RefusedHandshake(t *testing.T) {
	w := newWire(t, Config{})
	w.c.Connect(w.now)
	w.feed("S", 0, 0, 0, mss(1000), sackOK(true))
	w.state(SynReceived)
	recent := w.c.tsRecent
	w.out = nil
	w.feed("A", 1, 100, 0, tsval(recent+1<<30))
	w.want("R 100:0")
	if w.c.tsRecent != recent {
		t.Errorf("TS.Recent %d, was %d", w.c.tsRecent, recent)
	}
	w.feed("A", 1, 1, 0)
	w.state(Established)
	if w.c.tsRecent == recent {
		t.Error("TS.Recent stays behind")
	}
	w.out = nil
}

// RFC 5961 section 5.2: nobody acknowledges what was never sent, also before
// the initial sequence number (as Linux).
func TestRFC5961AckBeforeISN(t *testing.T) {
	w := dial(t, Config{})
	w.feed("A", 1, 1, 0, wnd(60000))
	w.now += sec
	w.feed("PA", 1, 1<<32-5000, 100)
	w.want("A 1:1")
	if w.c.Readable() {
		t.Error("took the data")
	}
	w.write(1000)
	w.feed("A", 1, 1001, 0)
	w.feed("PA", 1, 1, 100)
	if n := w.read(200); n != 100 {
		t.Errorf("read %d bytes that came with an old acknowledgement", n)
	}
	w.out = nil
}

// Some hosts reset with the sequence number of their FIN (as Linux knows). If that
// did not count, we would retransmit for a quarter of an hour.
func TestResetAtFIN(t *testing.T) {
	w := dial(t, Config{})
	w.feed("FA", 1, 1, 0)
	w.state(CloseWait)
	w.write(10)
	w.in("R", 1, 0, 0, tsOK(false))
	w.err(syscall.EPIPE)
	w.out = nil
	w = dial(t, Config{})
	w.feed("A", 1, 1, 10)
	w.in("R", 10, 0, 0, tsOK(false))
	w.state(Established)
	w.out = nil
}

// Section 3.9.2.2: a soft error explains the silence that follows it. Where the
// peer acknowledged something since, it does not (as Linux).
func TestRFC9293SoftErrorForgotten(t *testing.T) {
	for _, heard := range []bool{false, true} {
		w := dial(t, Config{UserTimeout: 5 * time.Second})
		w.write(10)
		w.c.ICMP(&ip.ICMPError{Type: 3, Code: 1, HasSeq: true, Seq: w.iss + 1}, w.now)
		want := syscall.EHOSTUNREACH
		if heard {
			w.feed("A", 1, 11, 0)
			w.write(10)
			want = syscall.ETIMEDOUT
			if e := w.c.Info(w.now).SoftError; e != nil {
				t.Errorf("soft error %v after an acknowledgement", e)
			}
		}
		w.advance(10 * sec)
		w.err(want)
		w.out = nil
	}
}

// Section 3.8.6: a peer that took its window back does not take segments beyond
// it either, so what acknowledges its data has a number that it takes.
func TestRFC9293ShrunkWindowAcks(t *testing.T) {
	w := dial(t, Config{})
	w.write(5000)
	w.out = nil
	w.feed("A", 1, 1001, 1000, wnd(1000))
	w.feed("A", 1001, 1001, 1000, wnd(1000))
	w.want("A 2001:2001")
	// Less than the peer's scale may be its rounding.
	w = dial(t, Config{}, wscale(7))
	w.write(5000)
	w.out = nil
	w.feed("A", 1, 1001, 1000, wnd(31)) // 3968 of 4000
	w.feed("A", 1001, 1001, 1000, wnd(31))
	w.want("A 5001:2001")
	// A reset likewise.
	w = dial(t, Config{})
	w.write(5000)
	w.feed("A", 2, 1001, 0, wnd(1000))
	w.out = nil
	w.c.Abort(w.now)
	w.want("RA 2001:1")
}
