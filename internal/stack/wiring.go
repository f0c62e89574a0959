package stack

import (
	"sync/atomic"

	"github.com/onload-go/onload/driver"
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
	wire   []driver.Queue   // packets come and go by these: queues, or what records them
	taps   []driver.Tap     // nil: nobody records

	brought *brought // the devices that came by Relink

	tsoFrags int // most frames in a packet that a device segments; does not change

	free   uint64 // places of queues that are no link's any more, a bit each
	broken uint64 // queues of links that failed for good, a bit each; under the stack lock too
}
