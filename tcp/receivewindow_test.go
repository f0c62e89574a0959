package tcp

import (
	"testing"
	"time"
)

// RFC 9293 section 3.8.6.2.2: after Read the window is advertised anew, by
// steps that are worth a segment, never back, and the last one opens it whole.
func TestRFC9293WindowUpdate(t *testing.T) {
	const buf = 64 << 10
	w := dial(t, Config{RcvBuf: buf}, wscale(7))
	seq := uint32(1)
	for w.c.openWindow() >= 1000 {
		w.feed("A", seq, 1, 1000)
		seq += 1000
	}
	w.advance(100 * ms)
	w.out, w.wnds = nil, nil
	w.read(100)
	w.want() // not for so little
	edge, updates := w.c.rcvAdv, 0
	for w.read(500) > 0 {
		if len(w.out) > 0 {
			updates++
			if d := int32(w.c.rcvAdv - edge); d < 1000 {
				t.Errorf("an update by %d bytes", d)
			}
			edge = w.c.rcvAdv
		}
		w.out, w.wnds = nil, nil
	}
	if updates < 1 || updates > 8 {
		t.Errorf("%d updates for a buffer of 64 KiB", updates)
	}
	if n := w.c.openWindow(); n < buf/2 {
		t.Errorf("a window of %d bytes, and nothing unread", n)
	}
}

// A window that is not short keeps its size: the field stays the same while the
// buffer has room for the widest window, or nothing is unread.
func TestWindowSteady(t *testing.T) {
	w := dial(t, Config{RcvBuf: 70000, NoWindowScale: true})
	seq := uint32(1)
	arrive := func(n, want int) {
		t.Helper()
		w.feed("A", seq, 1, n)
		seq += uint32(n)
		w.out = nil
		if got := min(int(w.c.nextWindow()), 0xffff); got != want {
			t.Errorf("a window of %d bytes, want %d", got, want)
		}
	}
	arrive(100, 0xffff)
	arrive(100, 0xffff)
	arrive(900, 0xffff)
	arrive(5000, 70000-6100)
	arrive(100, 70000-6200) // RFC 9293 section 3.8.6.2.2
	w.read(6200)
	w.feed("FA", seq, 1, 0)
	if got := min(w.c.nextWindow(), 0xffff); got != 0xffff {
		t.Errorf("a window of %d bytes, and nothing unread", got)
	}
	w.out = nil
}

// The window begins with 64 KiB whatever the buffer (Linux's rcv_ssthresh),
// grows by twice what arrives, and when memory is short shrinks to four
// segments; what was advertised is not taken back.
func TestWindowClamp(t *testing.T) {
	w := dial(t, Config{RcvBuf: 1 << 20}, wscale(7))
	seq := uint32(1)
	arrive := func(n int) {
		t.Helper()
		for range n {
			w.feed("A", seq, 1, 1000)
			seq += 1000
			w.read(1000)
		}
	}
	if n := w.c.openWindow(); n > initialClamp {
		t.Fatalf("a window of %d bytes at first", n)
	}
	arrive(40)
	if n := w.c.nextWindow(); n < initialClamp+70000 || n > initialClamp+80000 {
		t.Errorf("a window of %d bytes after 40,000", n)
	}
	edge := w.c.rcvAdv
	w.h.Cache.Flush()
	w.h.Reserve = 3 * w.h.Arena.Frames()
	arrive(20)
	least := lowClamp * w.c.chunk.Load()
	if n := w.c.rcvClamp.Load(); n != least {
		t.Errorf("clamped to %d while memory is short, want %d", n, least)
	}
	if int32(w.c.rcvAdv-edge) < 0 {
		t.Errorf("the window moved back by %d", edge-w.c.rcvAdv)
	}
	w.h.Reserve = 0
	arrive(100)
	if n := w.c.nextWindow(); n < 100_000 {
		t.Errorf("a window of %d bytes when memory is there again", n)
	}
	w.out = nil
}

// newWireOn is another connection of h, which sends nowhere.
func newWireOn(t *testing.T, h *Host) *Conn {
	o := &wire{t: t, h: h}
	o.c.Init(h, o, &Config{}, addrA, addrB)
	return &o.c
}

// RFC 9293 section 3.6, as Linux's tcp_fin_timeout: a connection that the user
// closed waits a minute for the peer's FIN; one that is only half closed waits
// as long as it takes.
func TestRFC9293FinWait2Timeout(t *testing.T) {
	w := dial(t, Config{})
	w.c.Close(w.now)
	w.c.Output(w.now)
	w.want("FA 1:1")
	w.feed("A", 1, 2, 0)
	w.state(FinWait2)
	w.advance(finWait2Limit - sec)
	w.state(FinWait2)
	w.advance(2 * sec)
	w.state(Closed)
	if w.h.Stats.TCPAbortOnLinger != 1 || w.ev&EvClosed == 0 {
		t.Errorf("events %#x, %d ended in FIN-WAIT-2", w.ev, w.h.Stats.TCPAbortOnLinger)
	}
	w.want()

	w = dial(t, Config{})
	w.c.CloseWrite(w.now)
	w.c.Output(w.now)
	w.want("FA 1:1")
	w.feed("A", 1, 2, 0)
	w.advance(3600 * sec)
	w.state(FinWait2)
	w.feed("A", 1, 2, 500)
	if n := w.read(1000); n != 500 {
		t.Errorf("read %d bytes an hour later", n)
	}
	w.out = nil
}

// RFC 6093 section 3.1: urgent data is delivered in line, nothing is taken out
// of the stream, wherever the pointer points.
func TestRFC6093Inline(t *testing.T) {
	for _, urg := range []uint16{0, 1, 50, 100, 101, 0xffff} {
		w := dial(t, Config{})
		w.feed("PA", 1, 1, 100, func(s *Segment) { s.Flags |= FlagURG; s.Urg = urg })
		b := make([]byte, 200)
		n, _, _ := w.c.Read(b)
		for i := range b[:n] {
			if b[i] != pattern(i) {
				t.Fatalf("pointer %d: byte %d is %#x", urg, i, b[i])
			}
		}
		if n != 100 {
			t.Errorf("pointer %d: read %d bytes", urg, n)
		}
		w.out = nil
	}
}

// TestFinWait2Config: TCP_LINGER2 bounds that wait for one connection; below
// zero there is none, and the peer is told (Linux's tcp_close).
func TestFinWait2Config(t *testing.T) {
	w := dial(t, Config{FinWait2: 3 * time.Second})
	w.c.Close(w.now)
	w.want("FA 1:1")
	w.feed("A", 1, 2, 0)
	w.advance(2 * sec)
	w.state(FinWait2)
	w.advance(2 * sec)
	w.state(Closed)

	for _, first := range []bool{false, true} {
		w = dial(t, Config{FinWait2: -1})
		if first { // the FIN is acknowledged before the user closes
			w.c.CloseWrite(w.now)
			w.want("FA 1:1")
			w.feed("A", 1, 2, 0)
			w.state(FinWait2)
			w.c.Close(w.now)
		} else {
			w.c.Close(w.now)
			w.want("FA 1:1")
			w.feed("A", 1, 2, 0)
		}
		w.want("RA 2:1")
		w.state(Closed)
		if w.h.Orphans() != 0 {
			t.Errorf("%d orphans are left", w.h.Orphans())
		}
	}
}

// A window that is as wide as a header without scale can say is not advertised
// anew: the peer would take that for a duplicate acknowledgement.
func TestWindowUnscaled(t *testing.T) {
	w := dial(t, Config{RcvBuf: 300 << 10}, wscale(-1))
	seq := uint32(1)
	for range 200 {
		w.feed("A", seq, 1, 1000)
		w.read(1000)
		w.feed("A", seq+1000, 1, 1000)
		w.read(1000)
		seq += 2000
		if got := len(w.out); got != 1 {
			t.Fatalf("%d acknowledgements of two segments at %d: %q", got, seq, w.out)
		}
		w.out = nil
	}
	// A shut window opens as soon as that is worth it, however much is unread.
	for w.c.openWindow() >= 1000 {
		w.feed("A", seq, 1, 1000)
		seq += 1000
	}
	w.advance(50 * ms)
	w.out, w.wnds = nil, nil
	for _, unread := w.c.rcvUsed.load(); len(w.out) == 0; _, unread = w.c.rcvUsed.load() {
		if unread == 0 {
			t.Fatal("never opened")
		}
		w.read(1000)
	}
	if _, unread := w.c.rcvUsed.load(); unread < 150<<10 {
		t.Errorf("opened with %d unread", unread)
	}
	w.out = nil
}

// Nor is one that is as wide as its scale can say, whatever SetRcvBuf asks for.
func TestWindowScaleFixed(t *testing.T) {
	w := dial(t, Config{}, wscale(7))
	w.c.SetRcvBuf(64 << 20)
	w.c.rcvClamp.Store(maxBuf)
	seq := uint32(1)
	for range 20 {
		w.feed("A", seq, 1, 1000)
		w.read(1000)
		w.feed("A", seq+1000, 1, 1000)
		w.read(1000)
		seq += 2000
		if got := len(w.out); got != 1 && seq > 5000 {
			t.Fatalf("%d acknowledgements of two segments at %d: %q", got, seq, w.out)
		}
		w.out = nil
	}
}
