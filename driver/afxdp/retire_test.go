package afxdp

import (
	"testing"
	"time"

	"github.com/onload-go/onload/internal/lab"
	"github.com/onload-go/onload/ring"
)

// TestRetire: a device whose interface is gone gives all frames back, those that it
// was to receive into and those that it was to send, and closes the arena later.
func TestRetire(t *testing.T) {
	for _, mode := range modes {
		p := lab.NewPair(t, lab.Options{Neighbors: true})
		d, err := tryOpen(p.A, Config{Mode: mode, Frames: 1024, RxRing: 256})
		must(t, err)
		defer d.Close()
		q, a := d.queues.first(), d.Arena()
		q.Refill()
		var ds []ring.Desc
		for range 3 {
			f, _ := a.Alloc()
			ds = append(ds, ring.Desc{Frame: f, Off: 256, Len: 60})
		}
		if n := q.TxBatch(ds); n != 3 {
			t.Fatalf("took %d", n)
		}
		for _, x := range ds {
			a.Release(x.Frame) // the ring has them
		}
		if a.FreeFrames() == a.Frames() {
			t.Fatal("the device has no frames")
		}
		must(t, p.A.Delete())
		for start := time.Now(); d.Retire() > 0; time.Sleep(time.Millisecond) {
			if time.Since(start) > time.Minute {
				t.Fatalf("%v: frames are still on their way", mode)
			}
		}
		must(t, d.Release())
		if n := a.FreeFrames(); n != a.Frames() {
			t.Errorf("%v: %d of %d frames are free", mode, n, a.Frames())
		}
		must(t, d.Close())
	}
}
