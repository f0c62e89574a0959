package tcp

import (
	"math/rand/v2"
	"testing"
)

// Attack 8 (CVE-2019-11477, -11478): SACK blocks that cut the queue to pieces
// make it no longer than it was, and one ACK costs no more however many came.
func TestAttack8SACKSlowness(t *testing.T) {
	w := dial(t, Config{SndBuf: 256 << 10, NoDelay: true}, mss(1), wscale(4))
	w.c.cc.SetCwnd(1 << 20)
	w.in("A", 1, 1, 0, wnd(65535))
	w.write(60000)
	w.out = nil
	frames, _ := w.c.sndUsed.load()
	if most := sendFrames(256 << 10); frames > most {
		t.Fatalf("%d frames, at most %d", frames, most)
	}
	w.full = true // what is lost stays so
	rng := rand.New(rand.NewPCG(8, 8))
	steps := func(n int) (worst, sum int) {
		for range n {
			w.now += 1000
			var st ackState
			for range 4 {
				lo := w.iss + 2 + rng.Uint32N(60000)
				b := SACKBlock{Start: lo, End: min(lo+1+rng.Uint32N(400), w.c.sndNxt)}
				budget := sackSteps
				w.c.sackHint = w.c.sackBlock(&b, &budget, &st, w.now)
				sum += sackSteps - budget
				worst = max(worst, sackSteps-budget)
			}
			w.c.detectLoss(w.now)
		}
		w.check()
		return worst, sum / n
	}
	worst, mean := steps(1000)
	for range 10 {
		k, m := steps(1000)
		if k > sackSteps || m > 2*mean+16 {
			t.Errorf("an ACK costs %d frames, %d at most; %d and %d at first", m, k, mean, worst)
		}
	}
	if got, _ := w.c.sndUsed.load(); got != frames {
		t.Errorf("%d frames, %d before", got, frames)
	}
	w.full = false
	w.feed("A", 1, 60001, 0)
	if w.c.sndHead != w.c.sndNext {
		t.Error("does not go on")
	}
	w.out = nil
}

// Attack 9: the peer's MSS has a floor.
func TestAttack9TinyMSS(t *testing.T) {
	w := dial(t, Config{}, mss(1))
	if w.c.mss != minSendMSS {
		t.Errorf("MSS %d", w.c.mss)
	}
	w = dial(t, Config{}, mss(0))
	if w.c.mss != 536-tsSize {
		t.Errorf("default MSS %d", w.c.mss)
	}
}

// Attack 10 (CVE-2018-5390): tiny segments out of order. The pieces are few, so
// that an insertion moves little; what is held counts, not payload; and the
// stream goes on where the hole is filled.
func TestAttack10SegmentSmack(t *testing.T) {
	w := dial(t, Config{RcvBuf: 128 << 10})
	held := func() int { return w.h.Arena.Frames() - w.h.Arena.FreeFrames() }
	before := held()
	most := w.c.heldLimit()
	rng := rand.New(rand.NewPCG(10, 10))
	for i := range uint32(20000) {
		at := 3 + 2*i%60000
		if i >= 10000 {
			at = 3 + rng.Uint32N(60000)
		}
		w.in("A", at, 1, 1)
		if w.c.ooo == nil {
			t.Fatal("nothing is kept")
		}
		if n := len(w.c.ooo.list); n > maxRanges {
			t.Fatalf("%d pieces", n)
		}
		if n := held() - before; n > most+32 {
			t.Fatalf("%d frames held, at most %d", n, most)
		}
		if w.c.ooo.frames > most {
			t.Fatalf("%d frames", w.c.ooo.frames)
		}
		w.out = nil
	}
	for at := uint32(1); at < 60001; at += 1000 {
		w.feed("A", at, 1, 1000)
	}
	if w.c.rcvNxt-w.peer != 60001 && w.c.ooo == nil {
		t.Errorf("received up to %d", w.c.rcvNxt-w.peer)
	}
	if got := w.read(60000); got != 60000 {
		t.Errorf("read %d", got)
	}
	w.out = nil
}

// Attack 17: splitting acknowledgements gains nothing; acknowledging what was
// not sent is ignored.
func TestAttack17SplitACKs(t *testing.T) {
	w := dial(t, Config{})
	flight(w, 10)
	w.c.set(markLimited)
	w.now += 10 * ms
	before := w.c.cc.Cwnd()
	for i := range uint32(1000) {
		w.c.set(markLimited)
		w.in("A", 1, 2+i, 0)
	}
	if got := w.c.cc.Cwnd(); got > before+1000 {
		t.Errorf("cwnd %d after 1000 bytes in 1000 ACKs, was %d", got, before)
	}
	w.feed("A", 1, 20001, 0)
	if w.c.sndUna != w.iss+1001 {
		t.Error("acknowledged what was not sent")
	}
	w.out = nil
}

// Attack 17: acknowledging what was never sent moves nothing, is answered at
// most now and then, and the window does not grow by it.
func TestAttack17OptimisticACKs(t *testing.T) {
	w := dial(t, Config{})
	flight(w, 10)
	cwnd := w.c.cc.Cwnd()
	for i := range uint32(1000) {
		w.in("A", 1, 10002+1000*i, 0)
	}
	if w.c.sndUna != w.iss+1 || w.c.cc.Cwnd() != cwnd || w.c.delivered != 0 {
		t.Errorf("SND.UNA %d, cwnd %d", w.c.sndUna-w.iss, w.c.cc.Cwnd())
	}
	if len(w.out) > 1 {
		t.Errorf("%d answers", len(w.out))
	}
	// SACK of it neither.
	w.in("A", 1, 1, 0, w.sack(10001, 20001))
	if w.c.sacked != 0 {
		t.Errorf("%d bytes SACKed", w.c.sacked)
	}
	w.out = nil
}

// Attack 18: two peers that disagree about where they are do not answer each
// other for ever.
func TestAttack18ACKLoop(t *testing.T) {
	l := newLink(t, 18, &Config{}, &Config{}, Caps{MaxFrags: 4})
	l.connect()
	l.run(sec, nil)
	for _, e := range []*end{l.a, l.b} {
		e.c.rcvNxt += 1 << 20 // as if an attacker had given it data
		e.c.rcvAcked, e.c.rcvAdv = e.c.rcvNxt, e.c.rcvAdv+1<<20
	}
	before := l.sent
	l.a.c.sendAck(l.now)
	l.run(10*sec, nil)
	// One each per half second is what RFC 5961 section 7 has in mind.
	if n := l.sent - before; n > 50 {
		t.Errorf("%d segments in 10 s", n)
	}
	if l.a.c.State() != Established || l.b.c.State() != Established {
		t.Error("ended")
	}
}

// Attack 18: nor is a flood of such segments answered one by one.
func TestAttack18OutOfWindowFlood(t *testing.T) {
	w := dial(t, Config{})
	for i := range uint32(10000) {
		w.now += ms / 10
		w.in("A", 1<<20+i, 1, 0)
	}
	if len(w.out) > 4 {
		t.Errorf("%d answers in a second", len(w.out))
	}
	w.out = nil
}
