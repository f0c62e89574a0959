package capture

import (
	"sync/atomic"
	"time"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/ring"
)

// Queue is a driver.Queue that is captured.
type Queue struct {
	driver.Queue
	arena   *ring.Arena
	link    int    // interface in the file
	index   uint32 // of the queue
	snap    int
	buf     *buffer
	off     atomic.Bool
	dropped atomic.Uint64

	// Of the last RxBatch, if a Tap reports the fate of its packets; they are not
	// published before that.
	judged bool
	batch  []received
	open   bool // the batch is not published
}

// received is a packet of the last RxBatch: its first frame, and its record.
type received struct {
	frame ring.Frame
	at    uint64
}

// Wrap captures q, whose frames are in a. The caller uses the result in its
// place.
func (c *Capture) Wrap(q driver.Queue, a *ring.Arena) *Queue {
	return c.wrap(q, a, 0, -1, false)
}

// wrap captures a queue of interface link; index -1 is the next one.
func (c *Capture) wrap(q driver.Queue, a *ring.Arena, link, index int, judged bool) *Queue {
	c.mu.Lock()
	defer c.mu.Unlock()
	if index < 0 {
		index = len(c.queues)
	}
	w := &Queue{
		Queue: q, arena: a, link: link, index: uint32(index), snap: c.opt.SnapLen, buf: newBuffer(c.opt.Buffer),
		judged: judged, batch: make([]received, 0, 256),
	}
	c.queues = append(c.queues, w)
	return w
}

// RxBatch implements driver.Queue.
func (q *Queue) RxBatch(ds []ring.Desc) int {
	n := q.Queue.RxBatch(ds)
	q.batch = q.batch[:0]
	q.record(ds[:n], false)
	return n
}

// TxBatch implements driver.Queue. Checksums that the device completes, and
// packets that it segments, are recorded as they were handed to it.
func (q *Queue) TxBatch(ds []ring.Desc) int {
	n := q.Queue.TxBatch(ds)
	q.record(ds[:n], true)
	return n
}

func (q *Queue) record(ds []ring.Desc, out bool) {
	if len(ds) == 0 || q.off.Load() {
		return
	}
	now := time.Now().UnixNano()
	for len(ds) > 0 {
		k, bytes := ring.PacketLen(ds)
		at, ok := q.buf.push(q.arena, ds[:k], bytes, min(bytes, q.snap), now, out)
		switch {
		case !ok:
			q.dropped.Add(1)
		case !out && q.judged:
			q.batch = append(q.batch, received{ds[0].Frame, at})
			q.open = true
		}
		ds = ds[k:]
	}
	if !q.open { // if it is open, done publishes an answer with the packet that it answers
		q.buf.publish()
	}
}

// drop notes why the packet that began with frame f was dropped.
func (q *Queue) drop(f ring.Frame, why uint16) {
	if !q.open {
		return
	}
	for _, r := range q.batch {
		if r.frame == f {
			q.buf.setWhy(r.at, why)
			return
		}
	}
}

// done publishes what was received.
func (q *Queue) done() {
	q.open = false
	q.buf.publish()
}

// Device is a driver.Device of which every queue is captured.
type Device struct {
	driver.Device
	queues []driver.Queue
}

// WrapDevice captures all queues of d.
func (c *Capture) WrapDevice(d driver.Device) *Device {
	w := &Device{Device: d}
	for _, q := range d.Queues() {
		w.queues = append(w.queues, c.Wrap(q, d.Arena()))
	}
	return w
}

// Queues implements driver.Device.
func (d *Device) Queues() []driver.Queue { return d.queues }
