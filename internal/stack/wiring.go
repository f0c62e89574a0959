package stack

import (
	"slices"
	"sync/atomic"
	"syscall"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/ring"
)

// wiring is the queues, and how packets travel to and from them.
type wiring struct {
	shown atomic.Pointer[[]*link] // the interfaces; a list does not change

	// visible is queues, for those who do not have the stack lock. Every spin looks
	// at them. A list does not change, the next one begins with the same queues.
	visible atomic.Pointer[[]driver.Queue]

	// Under the stack lock.
	queues []driver.Queue   // of all links
	home   [MaxQueues]*link // of each queue
	wire   []driver.Queue   // packets come and go by these: queues, or the taps' of them
	taps   []Tapped         // of each queue; nil: nobody records

	brought *brought // the devices that came by Relink

	tsoFrags int // most frames in a packet that a device segments; does not change

	free   uint64 // places of queues that are no link's any more, a bit each
	broken uint64 // queues of links that failed for good, a bit each; under the stack lock too
}

// Tapped is the place where a queue is recorded.
type Tapped struct {
	Tap   driver.Tap   // nil: it is not recorded
	Index int          // the queue's number in Tap
	Queue driver.Queue // Tap's, which stands for it
}

// SetTap has every packet of the queues in of pass through their taps, until
// SetTap(nil). Queues that are not in of, also those that come later, work as
// before. SetTap returns EBUSY if there are taps already.
func (s *Stack) SetTap(of map[driver.Queue]Tapped) error {
	s.begin()
	defer s.end()
	if of == nil {
		s.wire, s.taps = s.queues, nil
		return nil
	}
	if s.taps != nil {
		return syscall.EBUSY
	}
	wire, taps := slices.Clone(s.queues), make([]Tapped, len(s.queues), MaxQueues)
	for i, q := range s.queues {
		if t, ok := of[q]; ok {
			wire[i], taps[i] = t.Queue, t
		}
	}
	s.wire, s.taps = wire, taps
	return nil
}

// tapDone tells the tap of a queue, if there is one, that the stack has looked at
// the packets of its last RxBatch.
func (s *Stack) tapDone(queue int) {
	if t := s.taps[queue]; t.Tap != nil {
		t.Tap.Done(t.Index)
	}
}

// noteDrop counts a received packet that is dropped and began with frame f.
func (s *Stack) noteDrop(f ring.Frame, counter *atomic.Uint64) {
	counter.Add(1)
	if s.taps != nil {
		s.tellDrop(f, s.counters.why(counter))
	}
}

// tellDrop tells the tap, if there is one.
func (s *Stack) tellDrop(f ring.Frame, why string) {
	if s.taps == nil {
		return
	}
	if t := s.taps[s.rx.queue]; t.Tap != nil {
		t.Tap.Dropped(t.Index, f, why)
	}
}

// why says what a counter of dropped packets counts.
func (c *counters) why(counter *atomic.Uint64) string {
	switch counter {
	case &c.rxMalformed:
		return "malformed"
	case &c.rxBogus:
		return "impossible address, or not to us"
	case &c.rxChecksum:
		return "wrong checksum"
	case &c.handDrops:
		return "the stack that has the flow is too busy"
	case &c.rxNoSocket:
		return "no socket"
	}
	return "receive buffer full, or bad length"
}
