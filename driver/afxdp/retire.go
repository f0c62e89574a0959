package afxdp

import (
	"sync/atomic"

	"github.com/onload-go/onload/ring"
)

// Retire implements driver.Retirer.
func (d *Device) Retire() error {
	for _, q := range d.queues.all() {
		q.salvage()
	}
	return d.shut()
}

// Detach implements driver.Retirer: the program goes.
func (d *Device) Detach() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.link == nil {
		return nil
	}
	return d.link.Close()
}

// salvage takes the frames back that the kernel has. The socket has lost its
// interface, so the kernel uses none of them, except for packets that another
// interface has not received yet. Nobody hears when those are received, so their
// frames are in use for good.
func (q *Queue) salvage() {
	if q.fd < 0 || !gone(recvKick(q.fd)) {
		return
	}
	q.reclaim()
	for c := atomic.LoadUint32(q.tx.cons); q.txSize > 0 && c != q.txProd && q.posted > 0; c++ {
		f, ok := q.arena.FrameAt(q.tx.slots[c&q.tx.mask].Addr)
		if !ok || !q.arena.Completed(f) {
			break // the ring is corrupt
		}
		q.posted--
	}
	for f, tag := range q.owner {
		if tag == q.tag {
			q.owner[f] = 0
			q.arena.Free(ring.Frame(f))
		}
	}
	q.lent = 0
}
