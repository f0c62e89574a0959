package gigabit

import (
	"runtime"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/driver/vfio"
	"github.com/onload-go/onload/driver/vfio/nic"
	"github.com/onload-go/onload/ring"
)

// Queue is a receive and a transmit ring. It implements driver.Queue.
type Queue struct {
	nic.Queue
	device   *Device
	number   int
	regs     vfio.Regs
	advanced bool

	rx      vfio.Regs // descriptors
	lent    []ring.Frame
	fill    []ring.Frame  // scratch of Refill
	next    atomic.Uint32 // descriptor that the device fills next
	give    int           // the next one that it is given
	out     int           // descriptors that it has
	rxTail  int           // register
	tx      vfio.Regs
	sent    []ring.Frame // of each descriptor, none of a context's
	last    []uint32     // of the packet whose first descriptor this is
	oldest  int          // packet that is not given back
	free    int          // the next descriptor to write
	pending int          // descriptors that the device has or will get
	context [2]uint64    // that the device has
	txTail  int
	kicked  int // what the device knows of free
}

// Where is how to find the rings of a queue.
type Where struct {
	Regs     vfio.Regs
	Rx, Tx   int  // blocks of registers
	Advanced bool // descriptors
}

// Registers of a ring, from the block's beginning: the same on all controllers.
const (
	ringLow, ringHigh, ringLen = 0x0, 0x4, 0x8
	ringHead, ringTail         = 0x10, 0x18
)

const descLen = 16

// slots is how many descriptors a ring has: its length is a multiple of 128 bytes,
// and one descriptor stays free, since a head at the tail means that the ring is
// empty.
func slots(n int) int { return (n + 1 + 7) &^ 7 }

// Start makes the rings. The device does not use them yet.
func (q *Queue) Start(c *nic.Config, w Where) error {
	q.regs, q.advanced = w.Regs, w.Advanced
	// A Desc may need a context in front of it.
	nrx, ntx := slots(c.RxRing), slots(2*c.TxRing)
	for _, r := range []struct {
		mem *vfio.Regs
		n   int
		at  int
	}{{&q.rx, nrx, w.Rx}, {&q.tx, ntx, w.Tx}} {
		mem, iova, err := q.Dev.Container.Alloc(r.n * descLen)
		if err != nil {
			return err
		}
		// RxPending may look at the ring after Close.
		runtime.AddCleanup(q, func(m vfio.Regs) { _ = unix.Munmap(m) }, mem) // what was mapped can be unmapped
		*r.mem = mem[:r.n*descLen]
		w.Regs.Write32(r.at+ringLow, uint32(iova))
		w.Regs.Write32(r.at+ringHigh, uint32(iova>>32))
		w.Regs.Write32(r.at+ringLen, uint32(r.n*descLen))
		w.Regs.Write32(r.at+ringHead, 0)
		w.Regs.Write32(r.at+ringTail, 0)
	}
	q.rxTail, q.txTail = w.Rx+ringTail, w.Tx+ringTail
	q.remember(nrx, ntx)
	return nil
}

// remember makes what the driver knows of nrx and ntx descriptors by itself.
func (q *Queue) remember(nrx, ntx int) {
	q.lent, q.fill = make([]ring.Frame, nrx), make([]ring.Frame, nrx)
	q.sent, q.last = make([]ring.Frame, ntx), make([]uint32, ntx)
	for _, fs := range [][]ring.Frame{q.lent, q.sent} {
		for i := range fs {
			fs[i] = ring.NoFrame
		}
	}
	q.Hold(q.sent, q.lent)
}
