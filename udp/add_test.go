package udp

import (
	"bytes"
	"math/rand/v2"
	"runtime"
	"sync/atomic"
	"testing"
)

// TestQueueAdd: datagrams added behind the newest one are read in order, whole and
// with their own Info, while a reader takes what is there.
func TestQueueAdd(t *testing.T) {
	q, a := newQueue(t, 64, 32*frameSize)
	const total = 20000
	var added atomic.Int64
	go func() {
		r := rand.New(rand.NewPCG(7, 7))
		for i := range total {
			p := datagram(i, 8+r.IntN(frameSize/3))
			info := *info4
			if i%3 == 0 {
				info = *info6
			}
			info.At = int64(i)
			if i%5 != 0 && q.Add(p, &info) {
				added.Add(1)
				continue
			}
			for ds := pieces(t, a, p); !q.Push(ds, &info); {
				runtime.Gosched()
			}
		}
	}()
	r := rand.New(rand.NewPCG(7, 7))
	buf := make([]byte, frameSize)
	for i := 0; i < total; {
		var info Info
		n, full, ok := q.Read(buf, &info, false)
		if !ok {
			runtime.Gosched()
			continue
		}
		want := *info4
		if i%3 == 0 {
			want = *info6
		}
		want.At = int64(i)
		if p := datagram(i, 8+r.IntN(frameSize/3)); full != n || !bytes.Equal(buf[:n], p) || info != want {
			t.Fatalf("datagram %d: %d bytes, %+v; want %d, %+v", i, n, info, len(p), want)
		}
		i++
	}
	if q.Ready() || q.Held() != 0 || a.FreeFrames() != a.Frames() {
		t.Errorf("%d held, %d frames lost", q.Held(), a.Frames()-a.FreeFrames())
	}
	if added.Load() == 0 {
		t.Error("nothing was put behind another: the case is not tested")
	}
}
