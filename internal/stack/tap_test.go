package stack

import (
	"testing"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/driver/sim"
	"github.com/onload-go/onload/ring"
)

// countTap notes which queues were told of.
type countTap struct{ in, out, done map[int]int }

func newCountTap() *countTap {
	return &countTap{in: map[int]int{}, out: map[int]int{}, done: map[int]int{}}
}

func (c *countTap) Received(at *driver.TapPoint, ds []ring.Desc) { c.in[at.Queue] += len(ds) }
func (c *countTap) Sent(at *driver.TapPoint, ds []ring.Desc)     { c.out[at.Queue] += len(ds) }
func (c *countTap) Dropped(ring.Frame, string)                   {}
func (c *countTap) Done()                                        { c.done[0]++ }

// TestTapQueues: each queue passes through the taps, by a number of its own; a queue that
// came later, and all of them without taps, are as they were.
func TestTapQueues(t *testing.T) {
	a, b := newTwoLinked(t, 1500, 1500)
	grow := func() {
		t.Helper()
		da, db, err := sim.New(sim.Config{MTU: 1500, Arena: a.arena}, sim.Config{MTU: 1500, Arena: b.arena}, sim.LinkConfig{})
		if err != nil {
			t.Fatal(err)
		}
		for _, end := range []struct {
			h *twoLinked
			d *sim.Device
		}{{a, da}, {b, db}} {
			if err := end.h.AddQueues(1, end.d.Queues()); err != nil {
				t.Fatal(err)
			}
		}
	}
	for range 2 {
		points := map[driver.Queue]*driver.TapPoint{}
		for i, q := range a.queues {
			points[q] = &driver.TapPoint{Queue: i, Arena: a.arena}
		}
		first, second := newCountTap(), newCountTap()
		a.SetTaps(points, []driver.Tap{first, second})
		grow()
		for i, q := range a.queues {
			switch c, ok := a.wire[i].(*tapped); {
			case i < len(points) && (!ok || c.Queue != q || c.at.Queue != i || len(c.taps) != 2):
				t.Errorf("queue %d goes by %v", i, a.wire[i])
			case i >= len(points) && a.wire[i] != q:
				t.Errorf("queue %d, which came later, goes by %v", i, a.wire[i])
			}
		}
		a.SetTaps(nil, nil)
		for i, q := range a.queues {
			if a.wire[i] != q {
				t.Errorf("without taps queue %d goes by %v", i, a.wire[i])
			}
		}
		if a.taps != nil {
			t.Error("there are taps")
		}
	}
}
