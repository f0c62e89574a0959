package stack

import (
	"sync/atomic"
	"syscall"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/ring"
)

// wiring is the queues, and how packets travel to and from them.
type wiring struct {
	links []*link // does not change

	// visible is queues, for those who do not have the stack lock. Every spin looks
	// at them. A list does not change, the next one begins with the same queues.
	visible atomic.Pointer[[]driver.Queue]

	// Under the stack lock.
	queues []driver.Queue   // of all links
	home   [MaxQueues]*link // of each queue
	wire   []driver.Queue   // packets come and go by these: queues, or those of tap
	tap    driver.Tap       // nil: nobody records

	broken uint64 // queues of links that failed for good, a bit each; under the stack lock too
}

// SetTap has every packet pass through the queues of t, until SetTap(nil). It
// returns EBUSY if there is a tap already.
func (s *Stack) SetTap(t driver.Tap) error {
	s.begin()
	defer s.end()
	switch {
	case t == nil:
		s.wire = s.queues
	case s.tap != nil:
		return syscall.EBUSY
	default:
		s.wire = append(t.Queues(), s.queues[len(t.Queues()):]...)
	}
	s.tap = t
	return nil
}

// noteDrop counts a received packet that is dropped and began with frame f.
func (s *Stack) noteDrop(f ring.Frame, counter *atomic.Uint64) {
	counter.Add(1)
	if s.tap != nil {
		s.tellDrop(f, s.counters.why(counter))
	}
}

// tellDrop tells the tap, if there is one.
func (s *Stack) tellDrop(f ring.Frame, why string) {
	if s.tap != nil {
		s.tap.Dropped(s.rx.queue, f, why)
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
	case &c.rxNoSocket:
		return "no socket"
	}
	return "receive buffer full, or bad length"
}
