package tcp

import (
	"fmt"
	"testing"
)

// flight puts n full segments in flight, with a window large enough.
func flight(w *wire, n int) {
	w.t.Helper()
	w.c.cc.SetCwnd(uint32(n) * 1000)
	w.write(1000 * n)
	w.want(segments(1, n, true)...)
}

func segments(first uint32, n int, push bool) []string {
	var s []string
	for i := range n {
		fl := "A"
		if push && i == n-1 {
			fl = "PA"
		}
		s = append(s, fmt.Sprintf("%s %d:1 len 1000", fl, first+1000*uint32(i)))
	}
	return s
}

// RFC 6928: ten segments at first. RFC 5681: slow start doubles.
func TestRFC6928InitialWindow(t *testing.T) {
	w := dial(t, Config{})
	w.write(40000)
	w.want(segments(1, 10, false)...)
	w.now += 10 * ms
	w.feed("A", 1, 10001, 0)
	w.want(segments(10001, 20, false)...)
}

// RFC 5681 section 4.2 and RFC 9293 section 3.8.6.3.
func TestDelayedACK(t *testing.T) {
	w := dial(t, Config{})
	w.feed("A", 1, 1, 1000)
	w.want()
	w.advance(39 * ms)
	w.want()
	w.advance(2 * ms)
	w.want("A 1:1001")
	w.feed("A", 1001, 1, 1000)
	w.want()
	w.feed("A", 2001, 1, 1000) // every second one at once
	w.want("A 1:3001")
	w.in("A", 3001, 1, 1000) // one acknowledgement for a batch
	w.in("A", 4001, 1, 1000)
	w.in("A", 5001, 1, 1000)
	w.in("A", 6001, 1, 1000)
	w.want()
	w.c.Output(w.now)
	w.want("A 1:7001")
	w.feed("A", 7001, 1, 1000)
	w.write(10) // data carries it
	w.want("PA 1:8001 len 10")
	w.advance(100 * ms)
	w.want()
}

// At the start each segment is acknowledged, as in Linux, until data flows the
// other way.
func TestQuickACK(t *testing.T) {
	w := dial(t, Config{})
	w.c.quick = quickAcks
	w.feed("PA", 1, 1, 100)
	w.want("A 1:101")
	w.feed("PA", 101, 1, 100)
	w.want("A 1:201")
	w.write(10)
	w.want("PA 1:201 len 10")
	w.feed("PA", 201, 11, 100)
	w.want()
}

// RFC 2018 section 4 and RFC 5681 section 4.2: duplicate ACKs at once, the
// newest block first; RFC 2883: a duplicate before them.
func TestRFC2018Receiver(t *testing.T) {
	w := dial(t, Config{})
	w.in("A", 2001, 1, 1000)
	w.want("A 1:1 sack 2001-3001")
	w.in("A", 4001, 1, 1000)
	w.want("A 1:1 sack 4001-5001 2001-3001")
	w.in("A", 6001, 1, 1000)
	w.want("A 1:1 sack 6001-7001 4001-5001 2001-3001")
	w.in("A", 8001, 1, 1000)
	w.want("A 1:1 sack 8001-9001 6001-7001 4001-5001")
	w.in("A", 3001, 1, 1000) // joins two
	w.want("A 1:1 sack 2001-5001 8001-9001 6001-7001")
	w.in("A", 6001, 1, 1000) // duplicate: DSACK, and the block that holds it
	w.want("A 1:1 sack 6001-7001 6001-7001 2001-5001")
	w.feed("A", 1, 1, 1000)
	w.want("A 1:1001 sack 6001-7001 2001-5001 8001-9001")
	w.feed("A", 1001, 1, 1000) // fills
	w.want("A 1:5001 sack 6001-7001 8001-9001")
	w.feed("A", 1001, 1, 1000) // old duplicate
	w.want("A 1:5001 sack 1001-2001 6001-7001 8001-9001")
	w.feed("A", 5001, 1, 5000)
	w.want("A 1:10001 sack 6001-7001") // and the first duplicate of it
	buf := make([]byte, 20000)
	n, _, _ := w.c.Read(buf)
	for i := range n {
		if buf[i] != pattern(i) {
			t.Fatalf("byte %d", i)
		}
	}
	if n != 10000 {
		t.Errorf("read %d", n)
	}
}

// A FIN that comes before the data is kept, and reported with it, once.
func TestFINOutOfOrder(t *testing.T) {
	w := dial(t, Config{})
	w.feed("FPA", 101, 1, 100)
	w.want("A 1:1 sack 101-202")
	w.feed("FA", 201, 1, 0)
	w.out = nil
	w.feed("A", 1, 1, 100)
	w.want("A 1:202")
	w.state(CloseWait)
	w.feed("FA", 201, 1, 0)
	w.want("A 1:202")
}

// RFC 6675 and RFC 8985: three segments SACKed above a hole mean loss; PRR
// paces what follows.
func TestRFC6675FastRetransmit(t *testing.T) {
	w := dial(t, Config{})
	flight(w, 10)
	w.now += 10 * ms
	w.feed("A", 1, 1, 0, w.sack(1001, 2001))
	w.feed("A", 1, 1, 0, w.sack(1001, 3001))
	w.want()
	w.feed("A", 1, 1, 0, w.sack(1001, 4001))
	w.want("A 1:1 len 1000")
	if w.c.recovery != inRecovery {
		t.Fatal("not in recovery")
	}
	w.now += 10 * ms
	w.feed("A", 1, 10001, 0)
	if w.c.recovery != noRecovery || w.c.cc.Cwnd() > 7000 {
		t.Errorf("recovery %d, cwnd %d", w.c.recovery, w.c.cc.Cwnd())
	}
}

// Two holes: both are retransmitted in one round trip, in order.
func TestRFC6675TwoHoles(t *testing.T) {
	w := dial(t, Config{})
	flight(w, 12)
	w.now += 10 * ms
	w.feed("A", 1, 1, 0, w.sack(1001, 2001))
	w.feed("A", 1, 1, 0, w.sack(3001, 4001, 1001, 2001))
	w.feed("A", 1, 1, 0, w.sack(3001, 8001, 1001, 2001))
	w.want("A 1:1 len 1000", "A 2001:1 len 1000")
	w.feed("A", 1, 1, 0, w.sack(3001, 12001, 1001, 2001))
	w.want()
	w.now += 10 * ms
	w.feed("A", 1, 2001, 0, w.sack(3001, 12001))
	w.want()
	w.feed("A", 1, 12001, 0)
	w.want()
}

// RFC 8985: a retransmission that is lost too is noticed when what was sent
// after it arrives.
func TestRFC8985LostRetransmission(t *testing.T) {
	w := dial(t, Config{})
	flight(w, 10)
	w.now += 10 * ms
	w.feed("A", 1, 1, 0, w.sack(1001, 6001))
	w.want("A 1:1 len 1000")
	w.write(3000)
	w.feed("A", 1, 1, 0, w.sack(1001, 10001))
	sent := len(w.out)
	if sent == 0 {
		t.Fatal("no new data in recovery")
	}
	w.out = nil
	w.now += 10 * ms
	w.feed("A", 1, 1, 0, w.sack(1001, 11001))
	if len(w.out) == 0 || w.out[0] != "A 1:1 len 1000" {
		t.Errorf("sent %q", w.out)
	}
	w.out = nil
}

// Reordering, once seen, delays fast retransmission by a quarter round trip.
func TestRFC8985Reordering(t *testing.T) {
	w := dial(t, Config{})
	flight(w, 10)
	w.now += 10 * ms
	w.feed("A", 1, 1, 0, w.sack(1001, 2001))
	w.feed("A", 1, 2001, 0) // overtaken, not lost
	if !w.c.has(markReordered) {
		t.Fatal("reordering not seen")
	}
	w.feed("A", 1, 2001, 0, w.sack(3001, 9001))
	w.want()
	w.advance(2 * ms)
	w.want()
	w.advance(2 * ms) // 10/4 ms
	w.want("A 2001:1 len 1000")
}

// A DSACK that covers every retransmission takes the reduction back.
func TestDSACKUndo(t *testing.T) {
	w := dial(t, Config{NoTimestamps: true}, tsOK(false))
	w.c.mss = 1000
	w.c.updateMSS()
	n := int(w.c.mss)
	w.c.cc.SetCwnd(uint32(10 * n))
	w.write(10 * n)
	w.out = nil
	w.now += 10 * ms
	m := uint32(n)
	w.feed("A", 1, 1, 0, w.sack(1+m, 1+4*m))
	if w.c.recovery != inRecovery || len(w.out) == 0 {
		t.Fatal("no recovery")
	}
	w.now += 5 * ms
	w.feed("A", 1, 1+4*m, 0, w.sack(1, 1+m))
	if w.c.recovery != noRecovery || w.c.cc.Cwnd() < uint32(10*n) {
		t.Errorf("recovery %d, cwnd %d", w.c.recovery, w.c.cc.Cwnd())
	}
	w.out = nil
}

// RFC 3522: the echoed timestamp tells that the original arrived.
func TestEifelUndo(t *testing.T) {
	w := dial(t, Config{})
	flight(w, 10)
	ts := w.lastTS
	w.advance(300 * ms)
	if len(w.out) != 2 || w.c.recovery != inLoss { // probe, retransmission
		t.Fatalf("sent %q", w.out)
	}
	w.out = nil
	w.feed("A", 1, 10001, 0, tsecr(ts))
	if w.c.recovery != noRecovery || w.c.cc.Cwnd() < 10000 {
		t.Errorf("recovery %d, cwnd %d", w.c.recovery, w.c.cc.Cwnd())
	}
}

// RFC 3042: new segments on the first two duplicate ACKs; RFC 6582: NewReno.
func TestRFC6582NewReno(t *testing.T) {
	w := dial(t, Config{NoSACK: true}, sackOK(false))
	flight(w, 8)
	w.write(10000)
	w.want()
	w.now += 10 * ms
	w.feed("A", 1, 1, 0)
	w.want("A 8001:1 len 1000")
	w.feed("A", 1, 1, 0)
	w.want("A 9001:1 len 1000")
	w.feed("A", 1, 1, 0)
	w.want("A 1:1 len 1000")
	for range 6 {
		w.feed("A", 1, 1, 0)
	}
	w.out = nil
	w.now += 10 * ms
	w.feed("A", 1, 4001, 0) // partial: the next hole
	if len(w.out) == 0 || w.out[0] != "A 4001:1 len 1000" {
		t.Errorf("sent %q", w.out)
	}
	w.out = nil
	w.now += 10 * ms
	w.feed("A", 1, w.c.recoverSeq-w.iss, 0)
	if w.c.recovery != noRecovery {
		t.Error("still in recovery")
	}
	w.out = nil
}

// RFC 6298 section 5: on timeout one segment, doubled timeouts; what was
// SACKed is not sent again.
func TestRFC6298Timeout(t *testing.T) {
	w := dial(t, Config{})
	flight(w, 5)
	w.advance(250 * ms) // 22 ms, and 210
	w.want("PA 4001:1 len 1000", "A 1:1 len 1000")
	if w.c.cc.Cwnd() != 1000 {
		t.Errorf("cwnd %d", w.c.cc.Cwnd())
	}
	w.advance(250 * ms)
	w.want()
	w.advance(200 * ms)
	w.want("A 1:1 len 1000")
	w.now += 10 * ms
	w.feed("A", 1, 1001, 0)
	w.want("A 1001:1 len 1000", "A 2001:1 len 1000")
	w.now += 10 * ms
	w.feed("A", 1, 2001, 0, w.sack(3001, 4001))
	w.want("PA 4001:1 len 1000")
	w.now += 10 * ms
	w.feed("A", 1, 5001, 0)
	if w.c.recovery != noRecovery || w.c.rtoAt != 0 {
		t.Error("not recovered")
	}
}

// RFC 5681 section 4.2: a segment that fills a hole, or part of one, is
// acknowledged at once, also in a dialogue.
func TestRFC5681GapFilled(t *testing.T) {
	w := dial(t, Config{})
	w.feed("A", 101, 1, 100)
	w.feed("A", 301, 1, 100)
	w.out = nil
	w.c.quick = 0
	w.c.set(markPingPong)
	w.feed("A", 1, 1, 100)
	w.want("A 1:201 sack 301-401")
	w.feed("A", 201, 1, 50)
	w.want("A 1:251 sack 301-401")
	w.feed("A", 251, 1, 50)
	w.want("A 1:401")
	w.feed("A", 401, 1, 100)
	w.want()
	w.advance(50 * ms)
	w.want("A 1:501")
}

// RFC 2018 section 4: blocks that an honest receiver cannot send mark nothing,
// one that covers parts of segments only the whole ones.
func TestRFC2018Blocks(t *testing.T) {
	for _, tt := range []struct{ start, end, want uint32 }{
		{9001, 10001, 1000},
		{9001, 10002, 0}, // not sent yet
		{10001, 12001, 0},
		{1, 2001, 0}, // then SND.UNA were beyond
		{0, 2001, 0},
		{5001, 5001, 0},
		{6001, 5001, 0},
		{2500, 4500, 1000},
		{3001, 3999, 0},
		{3001 + 1<<31, 4001 + 1<<31, 0},
		{0xfffffff0, 5001, 0},
	} {
		w := dial(t, Config{})
		flight(w, 10)
		w.in("A", 1, 1, 0, w.sack(tt.start, tt.end))
		if w.c.sacked != tt.want || w.c.lost != 0 {
			t.Errorf("%d-%d: %d bytes SACKed, %d lost", tt.start, tt.end, w.c.sacked, w.c.lost)
		}
		w.out = nil
	}
}

// RFC 2018 section 8: a peer that drops what it SACKed is not believed.
func TestRFC2018Renege(t *testing.T) {
	w := dial(t, Config{})
	flight(w, 5)
	w.in("A", 1, 1, 0, w.sack(1001, 3001))
	w.now += ms
	w.feed("A", 1, 1001, 0) // SACKed before, and now not acknowledged
	w.advance(250 * ms)
	if w.c.sacked != 0 {
		t.Error("still believes")
	}
	w.want("A 1001:1 len 1000")
	if i := w.c.Info(w.now); i.BytesDelivered != 1000 || i.BytesAcked != 1000 {
		t.Errorf("%d bytes delivered, %d acknowledged", i.BytesDelivered, i.BytesAcked)
	}
	// Dropped bytes were never acknowledged, so no ACK is from before the first byte
	// (RFC 5961 section 5).
	w.feed("PA", 1, 1, 10)
	if n := w.read(100); n != 10 {
		t.Errorf("an old acknowledgement: read %d", n)
	}
	w.feed("PA", 11, ^uint32(0), 10)
	if w.c.Readable() {
		t.Error("took data with an acknowledgement from before the first byte")
	}
	w.feed("A", 11, 5001, 0) // what was dropped is delivered again
	if i := w.c.Info(w.now); i.BytesDelivered != 5000 || i.BytesAcked != 5000 {
		t.Errorf("%d bytes of 5000 delivered, %d acknowledged", i.BytesDelivered, i.BytesAcked)
	}
}

// The application, not the network, limited us: the window proves nothing.
func TestRFC7661AppLimited(t *testing.T) {
	w := dial(t, Config{NoDelay: true})
	before := w.c.cc.Cwnd()
	for i := range uint32(100) {
		w.write(10)
		w.now += ms
		w.feed("A", 1, 1+10*(i+1), 0)
	}
	if got := w.c.cc.Cwnd(); got != before {
		t.Errorf("cwnd %d, was %d", got, before)
	}
	w.out = nil
}

// It does not grow either once the application has become slow.
func TestRFC7661AppLimitedLater(t *testing.T) {
	w := dial(t, Config{NoDelay: true})
	w.write(20000)
	if !w.c.has(markLimited) {
		t.Error("cwnd does not limit")
	}
	w.now += 10 * ms
	w.feed("A", 1, 10001, 0)
	w.now += 10 * ms
	w.feed("A", 1, 20001, 0)
	before := w.c.cc.Cwnd()
	if before < 15000 {
		t.Errorf("cwnd %d", before)
	}
	for i := range uint32(100) {
		w.write(10)
		w.now += ms
		w.feed("A", 1, 20001+10*(i+1), 0)
	}
	if got := w.c.cc.Cwnd(); got != before {
		t.Errorf("cwnd %d, was %d", got, before)
	}
	w.out = nil
}

// RFC 5681 section 4.1: after silence no more than the initial window at once.
func TestRFC5681IdleRestart(t *testing.T) {
	w := dial(t, Config{})
	w.c.cc.SetCwnd(40000)
	w.write(40000)
	w.now += 10 * ms
	w.feed("A", 1, 40001, 0)
	w.out = nil
	w.now += 10 * sec
	w.write(40000)
	if len(w.out) != 10 {
		t.Errorf("%d segments", len(w.out))
	}
	w.out = nil

	// By RFC 2861 section 3 the window halves for each RTO of 210 ms.
	for _, tt := range []struct {
		idle int64
		want int
	}{{209 * ms, 40}, {211 * ms, 20}, {421 * ms, 10}, {2 * sec, 10}} {
		w := dial(t, Config{})
		w.c.cc.SetCwnd(40000)
		w.write(40000)
		w.feed("A", 1, 40001, 0)
		w.out = nil
		w.c.cc.cwnd, w.c.cc.ssthresh = 40000, 20000
		w.c.rtt = RTT{srtt: 10 * ms, rttv: 200 * ms, least: 10 * ms}
		w.now += tt.idle
		w.write(40000)
		if len(w.out) != tt.want {
			t.Errorf("%d segments after %d ms, want %d", len(w.out), tt.idle/ms, tt.want)
		}
		// And slow start leads back to where it was.
		if got := w.c.cc.Ssthresh(); (got == 30000) != (tt.want < 40) {
			t.Errorf("ssthresh %d after %d ms", got, tt.idle/ms)
		}
		w.out = nil
	}
}

// RFC 2861 section 3.2: a window that the application does not fill decays, half
// way each RTO, to what was used, and no lower than the initial one.
func TestRFC2861UnusedWindow(t *testing.T) {
	w := dial(t, Config{NoDelay: true})
	w.c.cc.SetCwnd(80000)
	w.c.usedAt = w.now
	at := uint32(1)
	talk := func(d int64) {
		for end := w.now + d; w.now < end; {
			w.write(100)
			w.now += 10 * ms
			at += 100
			w.feed("A", 1, at, 0)
		}
	}
	talk(200 * ms)
	if got := w.c.cc.Cwnd(); got != 80000 {
		t.Errorf("cwnd %d before an RTO passed", got)
	}
	talk(30 * ms)
	if got := w.c.cc.Cwnd(); got != 45000 {
		t.Errorf("cwnd %d after an RTO", got)
	}
	talk(220 * ms)
	if got := w.c.cc.Cwnd(); got != 27500 {
		t.Errorf("cwnd %d after two", got)
	}
	talk(10 * sec)
	if got := w.c.cc.Cwnd(); got < 10000 || got > 10001 {
		t.Errorf("cwnd %d in the end", got)
	}
	w.out = nil
}

// RFC 3465 section 2.3: after a timeout an ACK of much data counts as one segment,
// since the peer cannot say what it had before.
func TestRFC3465AfterTimeout(t *testing.T) {
	w := dial(t, Config{NoSACK: true}, sackOK(false))
	flight(w, 20)
	w.advance(250 * ms)
	w.out = nil
	w.now += 10 * ms
	w.feed("A", 1, 15001, 0)
	if got := w.c.cc.Cwnd(); got > 2000 {
		t.Errorf("cwnd %d", got)
	}
	w.out = nil
}

// RFC 8201 and RFC 1191: data in flight is cut to the smaller MTU and sent again,
// without a reduction of the window.
func TestPathMTU(t *testing.T) {
	w := dial(t, Config{}, mss(1460))
	w.write(3000)
	w.out = nil
	cwnd := w.c.cc.Cwnd()
	w.c.SetPathMTU(800, w.now)
	w.check()
	if w.c.mss != 800-40-12 {
		t.Fatalf("MSS %d", w.c.mss)
	}
	if len(w.out) == 0 || w.last.Len > 748 {
		t.Errorf("sent %q", w.out)
	}
	if w.c.cc.Cwnd() < cwnd/2 {
		t.Errorf("cwnd %d, was %d", w.c.cc.Cwnd(), cwnd)
	}
	w.now += 10 * ms
	w.feed("A", 1, 3001, 0)
	w.write(1000)
	w.out = nil
	w.c.SetPathMTU(1, w.now)
	if w.c.mtu != minMTU4 {
		t.Errorf("MTU %d", w.c.mtu)
	}
}

// The retransmission must not write its header into a frame that the NIC has
// not sent yet.
func TestRetransmitInNIC(t *testing.T) {
	w := dial(t, Config{})
	w.hold = true
	flight(w, 2)
	held := w.held[0]
	w.advance(300 * ms)
	w.want("PA 1001:1 len 1000", "A 1:1 len 1000")
	if f := w.held[len(w.held)-1]; f == held {
		t.Error("the frame was in the NIC")
	}
	w.feed("A", 1, 2001, 0)
	w.complete()
}

// A retransmission counts as sending: a connection that has just retransmitted was
// not idle (RFC 5681 section 4.1).
func TestRFC5681ResentIsNotIdle(t *testing.T) {
	w := newWire(t, Config{})
	w.c.Connect(w.now)
	w.now += 400 * ms
	w.synAck()
	w.out = nil
	w.c.rtt.rttv = 200e6 // as many round trips would have it
	flight(w, 40)
	w.now += 400 * ms
	w.feed("A", 1, 1, 0, w.sack(1001, 40001))
	w.want("A 1:1 len 1000")
	w.now += 400 * ms
	w.feed("A", 1, 40001, 0)
	w.c.quick = 0
	cwnd := w.c.cc.Cwnd()
	w.write(100)
	if got := w.c.cc.Cwnd(); got != cwnd {
		t.Errorf("cwnd %d, was %d", got, cwnd)
	}
}

// RFC 8201 section 5.4: the loss of a packet that is too large for the path says
// nothing about congestion, not even in a recovery, whose end it moves.
func TestPathMTUInRecovery(t *testing.T) {
	w := dial(t, Config{})
	flight(w, 10)
	w.write(20000)
	w.now += 10 * ms
	w.feed("A", 1, 1, 0, w.sack(1001, 8001))
	if w.c.recovery != inRecovery || w.c.sndNxt == w.c.recoverSeq {
		t.Fatalf("recovery %d, sent %q", w.c.recovery, w.out)
	}
	end := w.c.sndNxt - w.iss
	w.out = nil
	w.c.SetPathMTU(800, w.now)
	for range 60 {
		w.now += ms
		una := w.c.sndUna - w.iss
		next := min(una+748, end)
		if una == 1001 {
			next = 8001
		}
		if una < end {
			w.feed("A", 1, next, 0)
		}
		w.out = nil
	}
	if w.c.cc.Ssthresh() != 7000 || w.h.Stats.TCPSackRecovery.Load() != 1 || w.c.recovery != noRecovery {
		t.Errorf("ssthresh %d, %d recoveries, now %d", w.c.cc.Ssthresh(), w.h.Stats.TCPSackRecovery.Load(), w.c.recovery)
	}
}
