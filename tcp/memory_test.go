package tcp

import "testing"

// Memory is limited: a writer stops at half of the arena and is told when there
// is more again. Another may still write its share.
func TestMemoryBackPressure(t *testing.T) {
	w := dial(t, Config{SndBuf: 64 << 20})
	w.c.Write(make([]byte, 4<<20)) // the arena has 2 MiB
	plenty := plentyReserves * w.h.Reserve
	if n := w.h.Arena.FreeFrames(); n > plenty || n < plenty-writeBatch {
		t.Errorf("the writer left %d frames, want %d", n, plenty)
	}
	if w.c.Writable() {
		t.Error("writable although memory is short")
	}
	other := newWireOn(t, w.h)
	defer other.Free()
	share := other.sendShare()
	if n, most := other.Write(make([]byte, 1<<20)), share*int(other.chunk.Load()); n != most || share < leastShare {
		t.Errorf("another wrote %d bytes, want %d, a share of %d frames", n, most, share)
	}
	w.c.Output(w.now)
	w.ev = 0
	for ack := uint32(1001); w.ev&EvWritable == 0; ack += 1000 {
		w.feed("A", 1, ack, 0)
		if ack > 4<<20 {
			t.Fatal("nobody woke the writer")
		}
	}
	// It stays writable until it has tried, though others take the memory before
	// it runs: nobody would wake it again.
	reserve := w.h.Reserve
	w.h.Reserve = w.h.Arena.FreeFrames() * exhaustedPart
	if !w.c.Writable() {
		t.Error("the writer that was woken goes on waiting")
	}
	if n := w.c.Write(make([]byte, 1<<20)); n != 0 || w.c.Writable() {
		t.Errorf("%d bytes written, or writable, without memory", n)
	}
	w.h.Reserve = reserve
	w.out = nil
}

// A connection's share shrinks with the memory that is free.
func TestMemoryShare(t *testing.T) {
	w := dial(t, Config{})
	w.h.Cache.Flush()
	defer func() { w.out = nil }()
	frames := w.h.Arena.Frames()
	for _, tt := range []struct {
		free               int // in R/8
		share, stuck       int
		nothing, something bool // may 100 bytes be kept by one that holds nothing, or 200 bytes
	}{
		{64, noShare, noShare, true, true},
		{32, noShare, noShare, true, true},
		{31, (31 - 8) * frames / 64 / shareOfFree, 1, true, true},
		{9, leastShare, 1, true, true},
		{8, leastShare, 1, true, true},
		{7, leastShare, 0, true, true},
		{3, scarceShare, 0, true, true},
		{2, scarceShare, 0, true, true},
		{1, 0, 0, true, true},
		{0, 0, 0, false, true},
	} {
		// The arena is as it is: the reserve says how much of it is free.
		free := w.h.Arena.FreeFrames()
		w.h.Reserve = 2 * free * exhaustedPart // 0 eighths
		if tt.free > 0 {
			w.h.Reserve = free * 8 / tt.free
		}
		w.c.setStuck(false)
		want := tt.share
		if want > leastShare && want < noShare {
			want = (free - w.h.Reserve) / shareOfFree
		}
		if got := w.c.sendShare(); got != want {
			t.Errorf("%d/8 of the reserve free: a share of %d, want %d", tt.free, got, want)
		}
		w.c.setStuck(true)
		if got := w.c.sendShare(); got != tt.stuck {
			t.Errorf("%d/8 of the reserve free: a share of %d where the peer is stuck, want %d", tt.free, got, tt.stuck)
		}
		if got := w.c.mayKeep(100); got != tt.nothing {
			t.Errorf("%d/8 of the reserve free: may keep a first segment %v", tt.free, got)
		}
		w.c.rcvUsed.add(1, 200)
		if got := w.c.mayKeep(100); got != tt.something {
			t.Errorf("%d/8 of the reserve free: may keep a segment behind another %v", tt.free, got)
		}
		if got, want := w.c.mayKeep(1000), tt.free >= 8; got != want {
			t.Errorf("%d/8 of the reserve free: may keep a large segment %v", tt.free, got)
		}
		w.c.rcvUsed.add(-1, -200)
	}
}

// A peer is stuck whose window has no room for a segment, or never had for
// some, or which does not answer; until it is not.
func TestMemoryStuck(t *testing.T) {
	w := dial(t, Config{})
	stuck := func(when string, want bool) {
		t.Helper()
		if got := w.c.flags.Load()&sharedStuck != 0; got != want {
			t.Errorf("%s: stuck %v", when, got)
		}
	}
	stuck("at first", false)
	w.feed("A", 1, 1, 0, wnd(999))
	stuck("window of less than a segment", true)
	w.feed("A", 1, 1, 0, wnd(1000))
	stuck("window of a segment", false)
	w.write(1000)
	w.advance(sec)
	stuck("no answer", true)
	w.feed("A", 1, 1001, 0)
	stuck("an answer", false)
	w.out = nil
	w = dial(t, Config{}, wnd(2304))
	w.feed("A", 1, 1, 0, wnd(2304))
	stuck("a window that never had room", true)
	w.feed("A", 1, 1, 0, wnd(4000))
	stuck("one that has", false)
}

// Small segments that nobody reads do not stay in frames of their own: after a
// while if memory is plenty, otherwise at once.
func TestMemorySqueeze(t *testing.T) {
	for _, plenty := range []bool{true, false} {
		w := dial(t, Config{})
		if !plenty {
			w.h.Reserve = w.h.Arena.Frames() / 3
		}
		for i := range uint32(5) {
			w.feed("PA", 1+100*i, 1, 100)
		}
		n := w.heldFrames()
		if plenty && n != 5 || !plenty && n != 1 {
			t.Errorf("plenty %v: %d frames held", plenty, n)
		}
		w.ev = 0
		w.advance(squeezeAfter)
		if n := w.heldFrames(); n != 1 {
			t.Errorf("plenty %v: %d frames held after a while", plenty, n)
		}
		if plenty && w.ev&EvReadable == 0 {
			t.Error("the reader is not woken: it may have seen an empty mailbox")
		}
		buf := make([]byte, 1000)
		if n, _, _ := w.c.Read(buf); n != 500 {
			t.Errorf("read %d", n)
		}
		for i, b := range buf[:500] {
			if b != pattern(i) {
				t.Fatalf("byte %d", i)
			}
		}
		w.out = nil
	}
}

// After the peer's FIN an empty mailbox is the end of the stream, so that the
// unread stays where it is.
func TestMemorySqueezeAfterFIN(t *testing.T) {
	w := dial(t, Config{})
	w.feed("A", 1, 1, 100)
	w.feed("FA", 101, 1, 100)
	w.advance(squeezeAfter)
	if n := w.heldFrames(); n != 2 {
		t.Errorf("%d frames held", n)
	}
	w.out = nil
}

// A small write goes into the last frame that is not sent yet, and needs none
// of its own.
func TestWriteNowExtends(t *testing.T) {
	w := dial(t, Config{NoDelay: true}, wnd(1000))
	w.write(1000)
	w.want("PA 1:1 len 1000")
	w.c.Write([]byte("abc"))
	w.c.Output(w.now)
	free := w.h.Arena.FreeFrames()
	for _, p := range []string{"d", "efghi", "jk"} {
		if !w.c.WriteNow([]byte(p)) {
			t.Fatalf("%q was not taken", p)
		}
	}
	w.check()
	if n := w.h.Arena.FreeFrames(); n != free {
		t.Errorf("%d frames taken", free-n)
	}
	w.sums = true
	w.feed("A", 1, 1001, 0)
	w.want("PA 1001:1 len 11")
	if w.c.WriteNow(make([]byte, 10)); w.c.sndNext == w.c.sndHead {
		t.Error("written into a frame that is in flight")
	}
}
