package tcp

import (
	"bytes"
	"testing"

	"github.com/onload-go/onload/ring"
)

// received has the connection receive n bytes in frames of at most most, at
// offset off.
func received(w *wire, n, most, off int) {
	w.t.Helper()
	for n > 0 {
		k := min(n, most)
		f, ok := w.h.Cache.Alloc()
		if !ok {
			w.t.Fatal("no frame")
		}
		m := w.h.Arena.Meta(f)
		m.Off, m.Len = uint16(off), uint16(k)
		b := w.h.Arena.Bytes(f)[off : off+k]
		for i := range b {
			b[i] = pattern(int(w.c.rcvNxt-w.peer) - 1 + i)
		}
		w.c.deliver(f, m)
		n -= k
	}
}

// sent is the payload on the send queue, whose sums are checked.
func sent(w *wire, c *Conn) (b []byte, frames []ring.Frame) {
	w.t.Helper()
	a := w.h.Arena
	for f := c.sndHead; f != ring.NoFrame; f = a.Meta(f).Next {
		m := a.Meta(f)
		p := a.Bytes(f)[m.Off : m.Off+m.Len]
		if got := c.h.sum(p); m.Flags&frameUnsummed == 0 && got != m.Sum && got+m.Sum != 0xffff {
			w.t.Errorf("frame of %d bytes at %d: sum %#x, want %#x", m.Len, m.Off, m.Sum, got)
		}
		b = append(b, p...)
		frames = append(frames, f)
	}
	return b, frames
}

// onHost is a second established connection on w's host, that may send nothing.
func onHost(w *wire, cfg Config) *wire {
	o := &wire{t: w.t, h: w.h, now: w.now, peer: peerISS}
	o.c.Init(w.h, o, &cfg, addrA, addrB)
	o.c.setState(Established)
	w.t.Cleanup(o.c.Free)
	return o
}

// TestFrames: one connection sends what another received, in the same frames if
// headers have room and no packet is too long, otherwise in copies.
func TestFrames(t *testing.T) {
	for _, tt := range []struct {
		name           string
		n, most, off   int
		caps           Caps
		moved          bool
		minLen, frames int // of what is sent, but for the last frame
	}{
		{"whole segments", 10 * 988, 988, 322, Caps{MaxFrags: 1}, true, 988, 10},
		{"no room for headers", 10 * 988, 988, 100, Caps{MaxFrags: 1}, false, 988, 10},
		{"longer than a packet", 10 * 1500, 1500, 322, Caps{MaxFrags: 1}, false, 988, 16},
		{"longer than a segment, which the device cuts", 10 * 1500, 1500, 322,
			Caps{MaxFrags: 1, TSO: 65535, TSOFrags: 48}, true, 1500, 10},
		{"half segments", 10 * 500, 500, 322, Caps{MaxFrags: 1}, true, 500, 10},
		{"small, which are joined", 100 * 10, 10, 322, Caps{MaxFrags: 1}, true, 988, 2},
		{"odd", 9 * 501, 501, 323, Caps{MaxFrags: 1, TxCsum: true}, true, 501, 9},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := dial(t, Config{})
			w.h.TSO, w.h.TSOFrags, w.h.TxCsum = tt.caps.TSO, tt.caps.TSOFrags, tt.caps.TxCsum
			to := onHost(w, Config{})
			to.c.peerMSS = 1000
			to.c.updateMSS()
			to.c.chunk.Store(988)
			if tt.caps.TSO == 0 {
				to.c.packet.Store(988)
			}
			received(w, tt.n, tt.most, tt.off)
			want := make([]byte, tt.n)
			for i := range want {
				want[i] = pattern(i)
			}
			w.h.Cache.Flush()
			free := w.h.Arena.FreeFrames()
			var f Frames
			if cut, eof, _ := w.c.Take(&f, 1<<20); cut || eof || f.Len() != tt.n {
				t.Fatalf("took %d of %d, cut %v, eof %v", f.Len(), tt.n, cut, eof)
			}
			if n, used := w.c.rcvUsed.load(); n != 0 || used != 0 {
				t.Errorf("%d frames, %d bytes still count as unread", n, used)
			}
			first := f.first
			if n := to.c.Give(&f); n != tt.n || f.Len() != 0 {
				t.Fatalf("gave %d of %d, %d left", n, tt.n, f.Len())
			}
			to.c.pull()
			got, frames := sent(w, &to.c)
			if !bytes.Equal(got, want) {
				t.Error("the bytes differ")
			}
			if len(frames) != tt.frames {
				t.Errorf("%d frames, want %d", len(frames), tt.frames)
			}
			for _, f := range frames[:len(frames)-1] {
				if m := w.h.Arena.Meta(f); int(m.Len) < tt.minLen {
					t.Errorf("a frame of %d bytes, want at least %d", m.Len, tt.minLen)
				}
			}
			if moved := frames[0] == first && w.h.Arena.Meta(first).Off == uint16(tt.off); moved != tt.moved {
				t.Errorf("moved: %v, want %v", moved, tt.moved)
			}
			if w.h.Cache.Flush(); tt.moved && w.h.Arena.FreeFrames() < free {
				t.Errorf("%d frames taken", free-w.h.Arena.FreeFrames())
			}
		})
	}
}

// TestFramesLimits: Take takes whole frames only, and no more than asked for;
// Give stops at the send buffer's size and has the writer woken when there is
// room; what is closed takes nothing.
func TestFramesLimits(t *testing.T) {
	w := dial(t, Config{})
	to := onHost(w, Config{SndBuf: 8192})
	to.c.packet.Store(2048)
	to.c.chunk.Store(988)
	received(w, 20*988, 988, 322)
	var f Frames
	if cut, _, _ := w.c.Take(&f, 987); !cut || f.Len() != 0 {
		t.Errorf("cut %v, %d bytes of a frame of 988", cut, f.Len())
	}
	if _, _, _ = w.c.Take(&f, 3000); f.Len() != 3*988 {
		t.Errorf("took %d bytes", f.Len())
	}
	if n := to.c.Give(&f); n != 3*988 {
		t.Errorf("gave %d", n)
	}
	p := make([]byte, 500)
	if n, _, _ := w.c.Read(p); n != 500 || p[0] != pattern(3*988) {
		t.Errorf("Read: %d", n)
	}
	w.c.Take(&f, 1<<20)
	if f.Len() != 17*988-500 {
		t.Errorf("took %d bytes", f.Len())
	}
	if n := to.c.Give(&f); n != 488+4*988 || to.c.Writable() {
		t.Errorf("gave %d to a buffer of 8192 with 2964 in it, writable %v", n, to.c.Writable())
	}
	if n := to.c.Give(&f); n != 0 {
		t.Errorf("gave %d to a full buffer", n)
	}
	to.c.flags.Or(sharedNoWrite)
	if n := to.c.Give(&f); n != 0 || !to.c.Writable() {
		t.Errorf("gave %d, writable %v", n, to.c.Writable())
	}
	f.Drop()
	w.c.flags.Or(sharedEOF)
	if _, eof, _ := w.c.Take(&f, 100); !eof || f.Len() != 0 {
		t.Errorf("eof %v", eof)
	}
}

// TestBlank: a writer that fills frames itself sends what it filled, and gives
// the rest back.
func TestBlank(t *testing.T) {
	for _, caps := range []Caps{{}, {TSO: 65535, TSOFrags: 48}, {TxCsum: true}} {
		w := dial(t, Config{})
		w.h.TSO, w.h.TxCsum = caps.TSO, caps.TxCsum
		w.h.Cache.Flush()
		free := w.h.Arena.FreeFrames()
		for _, n := range []int{0, 1, 500, 1976, 2000, 5000} {
			var b Blank
			if !w.c.Blank(&b, 5000) {
				t.Fatal("no room")
			}
			at := 0
			for _, p := range w.c.Slices(&b, nil) {
				for i := range p {
					p[i] = pattern(at)
					at++
				}
			}
			if at != 5000 {
				t.Fatalf("room for %d", at)
			}
			w.c.Fill(&b, n)
			w.c.pull()
			got, _ := sent(w, &w.c)
			for i := range got {
				if got[i] != pattern(i) {
					t.Fatalf("byte %d of %d", i, n)
				}
			}
			if _, used := w.c.sndUsed.load(); len(got) != n || used != n {
				t.Errorf("%d bytes sent, %d counted, want %d", len(got), used, n)
			}
			w.c.dropSendQueue()
			w.h.Cache.Flush()
			if frames, used := w.c.sndUsed.load(); frames != 0 || used != 0 || w.h.Arena.FreeFrames() != free {
				t.Errorf("%d frames, %d bytes still counted, %d frames missing", frames, used, free-w.h.Arena.FreeFrames())
			}
		}
	}
}
