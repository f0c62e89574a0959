package udp

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
)

// Joined datagrams are read one by one, whatever their sizes and those of the
// frames, by a reader that asks for it all at once.
func TestQueueJoined(t *testing.T) {
	q, a := newQueue(t, 256, 1<<20)
	r := rand.New(rand.NewPCG(3, 3))
	for _, c := range []struct{ seg, total int }{
		{400, 1200}, {600, 1200}, {100, 1400}, {700, 701}, {1, 64}, {1200, 36000}, {1200, 8400}, {1999, 65000}, {frameSize, 3 * frameSize},
	} {
		t.Run(fmt.Sprint(c.seg, "/", c.total), func(t *testing.T) {
			p := make([]byte, c.total)
			for i := range p {
				p[i] = byte(r.Uint32())
			}
			info := *info4
			info.Seg = c.seg
			push := func(info Info, p []byte) {
				if !q.Push(pieces(t, a, p), &info) {
					t.Fatal("full")
				}
			}
			buf := make([]byte, 1<<16)
			push(info, p)
			push(*info6, []byte("behind"))
			for off := 0; off < len(p); off += c.seg {
				want := p[off:min(off+c.seg, len(p))]
				room := buf
				if off == c.seg {
					room = buf[:len(want)/2] // the rest of this one is lost, no more
				}
				var got Info
				n, full, ok := q.Read(room, &got, false)
				if !ok || full != len(want) || n != min(len(room), full) || !bytes.Equal(room[:n], want[:n]) || got != *info4 {
					t.Fatalf("at %d: %d of %d bytes, %v, %+v", off, n, full, ok, got)
				}
				if !q.Ready() {
					t.Fatal("not ready")
				}
			}
			if n, _, _, ok := readOne(q, buf); !ok || string(buf[:n]) != "behind" {
				t.Fatalf("%q, %v", buf[:n], ok)
			}
			push(info, p)
			var got Info
			if n, full, ok := q.Read(buf, &got, true); !ok || n != c.total || full != n || got != info || !bytes.Equal(buf[:n], p) {
				t.Errorf("joined: %d of %d bytes, %v, %+v", n, full, ok, got)
			}
			if q.Ready() || q.Held() != 0 || a.FreeFrames() != a.Frames() {
				t.Errorf("%d held, %d frames lost", q.Held(), a.Frames()-a.FreeFrames())
			}
		})
	}
	// A socket that closes in the middle frees all.
	info := *info4
	info.Seg = 1000
	q.Push(pieces(t, a, make([]byte, 5000)), &info)
	if _, full, _, _ := readOne(q, make([]byte, 10)); full != 1000 {
		t.Error(full)
	}
	q.Drain()
	if q.Held() != 0 || a.FreeFrames() != a.Frames() {
		t.Errorf("%d held, %d frames lost", q.Held(), a.Frames()-a.FreeFrames())
	}
}
