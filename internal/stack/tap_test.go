package stack

import (
	"syscall"
	"testing"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/driver/sim"
	"github.com/onload-go/onload/ring"
)

// countTap is the tap of one queue, which is number index of its device's.
type countTap struct {
	driver.Queue
	t     *testing.T
	index int
	done  int // batches
}

func (c *countTap) Queues() []driver.Queue { return []driver.Queue{c} }

func (c *countTap) Dropped(queue int, _ ring.Frame, why string) { c.Done(queue) }

func (c *countTap) Done(queue int) {
	if c.done++; queue != c.index {
		c.t.Errorf("queue %d of the tap, want %d", queue, c.index)
	}
}

// TestTapQueues: each queue passes through the tap of its own, whichever links got
// queues after the stack had begun; a queue without a tap works as before.
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
	grow() // number 2, behind that of link 2
	for range 2 {
		var taps []*countTap
		of := map[driver.Queue]Tapped{}
		for i, q := range a.queues {
			c := &countTap{Queue: q, t: t, index: i / 2}
			taps = append(taps, c)
			of[q] = Tapped{c, c.index, c}
		}
		if err := a.SetTap(of); err != nil {
			t.Fatal(err)
		}
		if err := a.SetTap(of); err != syscall.EBUSY {
			t.Errorf("taps beside others: %v", err)
		}
		grow()
		for i, q := range a.queues {
			switch c, ok := a.wire[i].(*countTap); {
			case i < len(taps) && (!ok || c.Queue != q || a.taps[i].Tap != c):
				t.Errorf("queue %d goes by %v, %v", i, a.wire[i], a.taps[i])
			case i >= len(taps) && (a.wire[i] != q || a.taps[i].Tap != nil):
				t.Errorf("queue %d, which came later, goes by %v, %v", i, a.wire[i], a.taps[i])
			}
		}
		a.begin()
		for i := range a.queues {
			a.tapDone(i)
		}
		a.end()
		if err := a.SetTap(nil); err != nil {
			t.Error(err)
		}
		for i, c := range taps {
			if c.done == 0 {
				t.Errorf("the tap of queue %d was told nothing", i)
			}
		}
		for i, q := range a.queues {
			if a.wire[i] != q {
				t.Errorf("without taps queue %d goes by %v", i, a.wire[i])
			}
		}
	}
}
