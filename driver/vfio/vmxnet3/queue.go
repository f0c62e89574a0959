package vmxnet3

import (
	"fmt"
	"runtime"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/driver/vfio"
	"github.com/onload-go/onload/driver/vfio/nic"
	"github.com/onload-go/onload/ring"
)

// Queue is a pair of receive rings and a transmit ring, each with completions in a ring
// of their own. It implements driver.Queue.
//
// Each entry of a ring has a generation bit, which is turned over at each round: an
// entry is the reader's once its bit is the one of the reader's round.
type Queue struct {
	nic.Queue
	device       *Device
	fast, shared vfio.Regs // the device's

	rings   [2]rxRing
	fill    []ring.Frame // scratch of Refill
	comp    vfio.Regs    // completions of both rings
	compLen int
	next    atomic.Uint32 // completion that comes next, and its generation
	pieces  int           // most Descs of a received packet

	tx      vfio.Regs
	txGen   uint32
	sent    []ring.Frame // of each descriptor
	end     []bool       // of a packet
	free    int          // the next descriptor to write
	oldest  int          // that is not given back
	kicked  int          // what the device knows of free
	done    vfio.Regs    // completions
	doneAt  int
	doneGen uint32
}

// The two receive rings. A packet begins in a buffer of the first, and goes on in those
// of the second.
const (
	head = iota
	body
)

// rxRing is a ring of buffers.
type rxRing struct {
	desc vfio.Regs
	lent []ring.Frame
	most int // descriptors that the device is given
	out  int // that it has
	next int // that it fills next
	give int // that it is given next
	gen  uint32
}

const (
	descLen  = 16
	firstGen = 1 // VMXNET3_INIT_GEN
)

// slots is how many descriptors a ring has: a multiple of 32 (VMXNET3_RING_SIZE_ALIGN),
// and one stays free, since equal indices mean that the ring is empty.
func slots(n int) int { return (n + 1 + 31) &^ 31 }

// prepare makes what the driver knows of its rings by itself. The second receive ring
// has buffers only if a packet of the link's MTU takes more than one.
func (q *Queue) prepare(c *nic.Config) {
	q.pieces = (c.MTU + nic.MaxLink + q.Arena.FrameSize() - 1) / q.Arena.FrameSize()
	for i := range q.rings {
		r := &q.rings[i]
		if i == head || q.pieces > 1 {
			r.most = c.RxRing
		}
		r.gen, r.lent = firstGen, noFrames(slots(r.most))
		q.compLen += len(r.lent)
	}
	q.fill = make([]ring.Frame, c.RxRing)
	q.next.Store(firstGen << genOfNext)
	n := slots(c.TxRing)
	q.sent, q.end = noFrames(n), make([]bool, n)
	q.txGen, q.doneGen = firstGen, firstGen
	q.Hold(q.sent, q.rings[head].lent, q.rings[body].lent)
}

func noFrames(n int) []ring.Frame {
	fs := make([]ring.Frame, n)
	for i := range fs {
		fs[i] = ring.NoFrame
	}
	return fs
}

// allocate makes the rings.
func (q *Queue) allocate(c *nic.Config) (err error) {
	q.prepare(c)
	for _, r := range []struct {
		mem    *vfio.Regs
		n, off int
	}{
		{&q.rings[head].desc, len(q.rings[head].lent), rxQueue + queueBase},
		{&q.rings[body].desc, len(q.rings[body].lent), rxQueue + queueBase2},
		{&q.comp, q.compLen, rxQueue + queueComp},
		{&q.tx, len(q.sent), txQueue + queueBase},
		{&q.done, len(q.sent), txQueue + queueComp},
	} {
		if *r.mem, err = q.device.ring(q, r.n, r.off); err != nil {
			return err
		}
	}
	return nil
}

// unmapWith unmaps memory when q is gone: RxPending may look at a ring after Close.
func unmapWith(q *Queue, m vfio.Regs) {
	runtime.AddCleanup(q, func(m vfio.Regs) { _ = unix.Munmap(m) }, m) // what was mapped can be unmapped
}

// Enable implements nic.Line.
func (q *Queue) Enable() { q.mask(0) }

// Disable implements nic.Line.
func (q *Queue) Disable() { q.mask(1) }

func (q *Queue) mask(v uint32) {
	q.fast.Write32(maskOf(intrReceive), v)
	q.device.slow.Read32(regRevision) // once it answers it has heard
}

// Lost implements nic.Line.
func (q *Queue) Lost() error { return q.device.lost() }

// lost returns the fault of a device that is gone, or nil.
func (d *Device) lost() error {
	if d.slow.Read32(regRevision) == gone {
		return fmt.Errorf("vmxnet3: %s: %w", d.PCI.Address(), driver.ErrGone)
	}
	return nil
}

// Stats implements driver.Queue. The device counts what it had no room for.
func (q *Queue) Stats() driver.Stats {
	if d := q.device; d != nil {
		d.Registers(func() {
			if d.lost() == nil && d.shared != nil {
				d.command(cmdStats)
				q.Count.RxDropped.Store(uint64(d.shared.Load32(rxQueue+rxOutOfBuf)) |
					uint64(d.shared.Load32(rxQueue+rxOutOfBuf+4))<<32)
			}
		})
	}
	return q.Queue.Stats()
}
