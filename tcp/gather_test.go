package tcp

import "testing"

// Acknowledgements of a stream wait for the segments behind, where somebody
// sees to it that they do not wait long.
func TestGather(t *testing.T) {
	w := dial(t, Config{NoTimestamps: true}, mss(1000))
	w.h.Gather = true
	seq := uint32(1)
	feed := func(flags string, n int) {
		t.Helper()
		w.feed(flags, seq, 1, n)
		seq += uint32(n)
	}
	gathers := func(want bool) {
		t.Helper()
		ok, since, last := w.c.Gathering()
		if ok != want || ok && (since > last || last != w.now) {
			t.Fatalf("gathering %v since %d, last %d, now %d; want %v", ok, since, last, w.now, want)
		}
	}

	// The second full segment does not draw an acknowledgement, the last one
	// that the peer has does.
	feed("A", 1000)
	gathers(false)
	for range 3 {
		w.now += 1000
		feed("A", 1000)
		gathers(true)
	}
	w.want()
	feed("PA", 500)
	w.want("A 1:4501")
	gathers(false)

	// At most an eighth of the window.
	for w.out == nil {
		feed("A", 1000)
		if seq > 1<<16 {
			t.Fatal("no acknowledgement before the window is full")
		}
	}
	if n := seq - 4501; n < 2000 || n > 16<<10 {
		t.Errorf("acknowledged after %d bytes", n)
	}
	w.out = nil

	// A hole, or the end of the stream, does not wait.
	feed("A", 1000)
	feed("A", 1000)
	gathers(true)
	w.feed("A", seq+1000, 1, 1000)
	if len(w.out) != 1 {
		t.Errorf("sent %q after a hole", w.out)
	}
	w.out = nil
	feed("A", 1000)
	if len(w.out) != 1 {
		t.Errorf("sent %q after the hole was filled", w.out)
	}
	w.out, seq = nil, seq+1000
	w.c.quick = 0

	// Nothing came any more: acknowledged, and the next ones do not wait.
	feed("A", 1000)
	feed("A", 1000)
	gathers(true)
	w.c.EndGather(true)
	w.c.Output(w.now)
	if len(w.out) != 1 {
		t.Errorf("sent %q at the end of the wait", w.out)
	}
	w.out = nil
	w.read(1 << 20)
	w.out = nil
	for i := range int(w.c.gatherOff) {
		feed("A", 1000)
		feed("A", 1000)
		if len(w.out) != 1 {
			t.Fatalf("%d acknowledgements after the stream had stopped: sent %q", i, w.out)
		}
		w.out = nil
	}
	feed("A", 1000)
	feed("A", 1000)
	gathers(true)
}

// A stream that stops again and again is gathered less and less often, one that
// goes on as ever.
func TestGatherStops(t *testing.T) {
	w := dial(t, Config{NoTimestamps: true, RcvBuf: 1 << 20}, mss(1000))
	w.h.Gather = true
	seq := uint32(1)
	feed := func(flags string) {
		t.Helper()
		w.feed(flags, seq, 1, 1000)
		seq += 1000
		w.read(1 << 20)
	}
	// gathered feeds two segments, and reports whether their acknowledgement waits.
	gathered := func() bool {
		feed("A")
		feed("A")
		ok, _, _ := w.c.Gathering()
		w.out = nil
		return ok
	}
	w.c.quick = 0
	for i := range 8 {
		pause := 0
		for !gathered() {
			pause++
		}
		// The end of the wait sends an acknowledgement too.
		if want := min(gatherPauseMin<<i>>1, gatherPause) - 1; i > 0 && pause != want {
			t.Errorf("stopped %d times: %d acknowledgements without a wait, want %d", i, pause, want)
		}
		w.c.EndGather(true)
		w.c.Output(w.now)
		w.out = nil
	}
	for range gatherPause {
		if gathered() {
			break
		}
	}
	for range 4 {
		for range gatherGood {
			feed("A")
		}
		feed("PA")
	}
	if !gathered() {
		t.Fatal("does not gather a stream that goes on")
	}
	w.c.EndGather(true)
	w.c.Output(w.now)
	if n := w.c.gatherOff; n >= gatherPause-1 {
		t.Errorf("%d acknowledgements without a wait after the stream had gone on", n)
	}
}

// At the start and the end of a connection acknowledgements wait for what the
// user may be about to send.
func TestAckWithAnswer(t *testing.T) {
	w := newWire(t, Config{NoTimestamps: true})
	w.h.Gather = true
	w.c.Connect(w.now)
	w.want("S 0:0")
	w.synAck(mss(1000))
	w.want()
	if ok, since, last := w.c.Gathering(); !ok || since != w.now || last != w.now {
		t.Fatalf("gathering %v since %d, last %d; now %d", ok, since, last, w.now)
	}
	w.write(10)
	w.want("PA 1:1 len 10")
	w.feed("PA", 1, 11, 10)
	w.want()
	w.write(10)
	w.want("PA 11:11 len 10")
	w.feed("FA", 11, 21, 0)
	w.want()
	w.read(100)
	w.c.Close(w.now)
	w.c.Output(w.now)
	w.want("FA 21:12")

	// Nobody sends: they go by themselves.
	w = newWire(t, Config{NoTimestamps: true})
	w.h.Gather = true
	w.c.Connect(w.now)
	w.synAck(mss(1000))
	w.want("S 0:0")
	w.c.EndGather(true)
	w.c.Output(w.now)
	w.want("A 1:1")
	w.feed("FA", 1, 1, 0)
	w.want()
	w.advance(delAck)
	w.want("A 1:2")
}
