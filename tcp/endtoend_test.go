package tcp

import (
	"fmt"
	"net/netip"
	"syscall"
	"testing"
)

// A connection through a real Listener, over a link with faults, in both
// families.
func TestListenAndTransfer(t *testing.T) {
	seeds := 20
	if *long {
		seeds = 300
	}
	v6a, v6b := netip.MustParseAddrPort("[fd00::1]:1000"), netip.MustParseAddrPort("[fd00::2]:2000")
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			cfg := Config{NoTimestamps: seed%5 == 4}
			l := newLink(t, uint64(seed), &cfg, &cfg, Caps{MaxFrags: 1 + seed%3})
			if seed%2 == 1 {
				l.a.local, l.a.remote, l.b.local, l.b.remote = v6a, v6b, v6b, v6a
				l.a.c = Conn{}
				l.a.c.Init(l.a.h, l.a, &cfg, v6a, v6b)
			}
			l.listen(l.b)
			l.loss, l.reorder, l.dup, l.corrupt = 0.05, 0.05, 0.05, 0.01
			l.a.c.Connect(l.now)
			if !l.run(200*sec, func() bool { return l.b.c.owner != nil && l.a.c.State() == Established }) {
				t.Fatalf("not connected: %v", l.a.c.State())
			}
			l.transfer(60000, 60000, 0.2)
			l.finish()
			l.b.lst.Close(l.now)
		})
	}
}

// Packets of 64 KiB, as generic-mode AF_XDP delivers them: many frames, one
// Segment.
func TestLargeReceive(t *testing.T) {
	w := dial(t, Config{})
	seq := uint32(1)
	for range 10 {
		w.feed("A", seq, 1, 64000)
		seq += 64000
		w.want(fmt.Sprintf("A 1:%d", seq))
		if n := w.read(100000); n != 64000 {
			t.Fatalf("read %d", n)
		}
	}
	if w.c.rcvMSS > 1460 {
		t.Errorf("receive MSS %d", w.c.rcvMSS)
	}
	// Out of order, overlapping, and beyond the window.
	w.in("A", seq+30000, 1, 64000)
	w.in("A", seq+10000, 1, 64000)
	w.in("A", seq, 1, 12000)
	w.c.Output(w.now)
	if got := w.c.rcvNxt - w.peer; got != seq+94000 {
		t.Errorf("received up to %d, want %d", got, seq+94000)
	}
	w.out = nil
}

// A closed connection whose peer vanished ends after some retransmissions.
func TestOrphanTimeout(t *testing.T) {
	w := dial(t, Config{})
	w.write(1000)
	w.c.Close(w.now)
	start := w.now
	for w.c.State() != Closed && w.now-start < 3600*sec {
		w.advance(sec)
	}
	if d := (w.now - start) / sec; d < 30 || d > 300 {
		t.Errorf("%v after %d s", w.c.State(), d)
	}
	w.out = nil
}

// Data written before the handshake is complete leaves with it, and so does the
// FIN.
func TestWriteBeforeConnected(t *testing.T) {
	w := newWire(t, Config{})
	w.c.Connect(w.now)
	w.write(10)
	w.c.CloseWrite(w.now)
	w.want("S 0:0")
	w.synAck()
	w.want("FPA 1:1 len 10")
	w.state(FinWait1)
}

// After the end every call is harmless.
func TestAfterClose(t *testing.T) {
	w := dial(t, Config{})
	w.in("R", 1, 0, 0)
	w.err(syscall.ECONNRESET)
	if n := w.write(10); n != 0 {
		t.Errorf("wrote %d", n)
	}
	if !w.c.Readable() || !w.c.Writable() {
		t.Error("a reader or writer would hang")
	}
	w.feed("A", 1, 1, 100)
	w.want("R 1:0")
	w.c.CloseWrite(w.now)
	w.c.Close(w.now)
	w.c.Abort(w.now)
	w.c.SetPathMTU(1000, w.now)
	w.c.SetKeepAlive(KeepAlive{Enable: true}, w.now)
	w.c.WindowUpdate(w.now)
	w.advance(3 * 3600 * sec)
	w.want()
}

// A peer that takes back its window (RFC 9293 section 3.8.6 says not to) does
// not kill the connection while it answers.
func TestWindowShrunk(t *testing.T) {
	w := dial(t, Config{})
	w.write(3000)
	w.feed("A", 1, 1, 0, wnd(0))
	start := w.now
	for w.now-start < 2000*sec && w.c.State() == Established {
		w.advance(w.c.Deadline() - w.now)
		w.feed("A", 1, 1, 0, wnd(0))
	}
	w.state(Established)
	w.out = nil
	w.feed("A", 1, 3001, 0)
	w.state(Established)
}

// But one that the user has closed it does not hold for ever (attack 16).
func TestWindowShrunkOrphan(t *testing.T) {
	w := dial(t, Config{})
	w.write(3000)
	w.c.Close(w.now)
	start := w.now
	for w.now-start < 2000*sec && w.c.State() != Closed {
		w.advance(w.c.Deadline() - w.now)
		w.feed("A", 1, 1, 0, wnd(0))
	}
	w.state(Closed)
	w.out = nil
}

// RFC 7323 section 2.3: the largest scale is 14, windows reach 1 GiB, and
// larger scales count as that.
func TestRFC7323LargestScale(t *testing.T) {
	for _, scale := range []int8{13, 14, 15} {
		w := dial(t, Config{RcvBuf: 1 << 30}, wscale(scale))
		w.feed("A", 1, 1, 0, wnd(65535))
		if want := uint32(65535) << min(scale, 14); w.c.sndWnd != want || w.c.maxWnd != want {
			t.Errorf("scale %d: window %d, want %d", scale, w.c.sndWnd, want)
		}
		if w.c.rcvWS != 14 {
			t.Errorf("we offer %d", w.c.rcvWS)
		}
		// The edge of what we advertise stays, however coarse the field is.
		for i := range uint32(50) {
			edge := w.c.rcvAdv
			w.feed("PA", 1+100*i, 1, 100)
			w.advance(50 * ms)
			if seqLT(w.c.rcvAdv, edge) {
				t.Fatalf("the window shrank by %d", edge-w.c.rcvAdv)
			}
			if got := uint32(w.last.Wnd) << 14; got != w.c.rcvAdv-w.c.rcvNxt {
				t.Fatalf("field says %d, the window is %d", got, w.c.rcvAdv-w.c.rcvNxt)
			}
			w.read(70)
		}
		w.out = nil
	}
}

// RFC 9293 section 3.10.7.4, fifth: the segments that say how far the peer's window
// is open. A shut window is believed although nothing else is new: a peer short of
// memory drops what it got.
func TestRFC9293WindowUpdateRules(t *testing.T) {
	for _, tt := range []struct {
		name     string
		seq, ack uint32
		wnd      uint16
		want     uint32
	}{
		{"larger", 11, 1001, 9000, 9000},
		{"smaller", 11, 1001, 100, 5000},
		{"shut", 11, 1001, 0, 0},
		{"newer segment", 12, 1001, 100, 100},
		{"newer segment, older acknowledgement", 12, 501, 9000, 5000},
		{"older segment", 10, 1001, 9000, 5000},
	} {
		w := dial(t, Config{})
		w.write(1000)
		w.feed("PA", 1, 1, 10)
		w.feed("A", 11, 1001, 0, wnd(5000))
		w.write(1000)
		w.feed("A", tt.seq, tt.ack, 0, wnd(tt.wnd))
		if w.c.sndWnd != tt.want {
			t.Errorf("%s: window %d, want %d", tt.name, w.c.sndWnd, tt.want)
		}
		w.out = nil
	}
	w := dial(t, Config{})
	w.write(1000)
	w.feed("PA", 1, 1, 10)
	w.feed("A", 10, 501, 1, wnd(100)) // an older segment, a newer acknowledgement
	if w.c.sndWnd != 100 {
		t.Errorf("window %d, want 100", w.c.sndWnd)
	}
	w.out = nil
}

// As TestWindowShrunk, of a peer that had acknowledged before, and whose zero
// window says nothing else that is new.
func TestWindowShutWithoutProgress(t *testing.T) {
	w := dial(t, Config{})
	w.write(1000)
	w.feed("A", 1, 1001, 0)
	w.write(3000)
	start := w.now
	for w.now-start < 2000*sec && w.c.State() == Established {
		w.advance(w.c.Deadline() - w.now)
		w.feed("A", 1, 1001, 0, wnd(0))
	}
	w.state(Established)
	w.out = nil
	w.feed("A", 1, 4001, 0)
	w.state(Established)
}
