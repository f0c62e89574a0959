package afxdp

import (
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/ring"
)

// Retire implements driver.Retirer.
func (d *Device) Retire() (left int) {
	for _, q := range d.queues.all() {
		q.failGone(unix.ENODEV)
		left += q.salvage()
	}
	return left
}

// Release implements driver.Retirer.
func (d *Device) Release() error { return d.shut() }

// Detach implements driver.Retirer: the program goes.
func (d *Device) Detach() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.link == nil {
		return nil
	}
	return d.link.Close()
}

// salvage takes the frames back that the kernel has, and returns how many it still has.
// The socket has lost its interface, so these are in packets that another interface has
// not received yet; the completion ring says when it has.
func (q *Queue) salvage() (left int) {
	if q.fd < 0 || !gone(recvKick(q.fd)) {
		return 0
	}
	q.reclaim()
	cons := atomic.LoadUint32(q.tx.cons)
	for c := cons; q.txSize > 0 && c != q.txProd && q.posted > 0; c++ {
		f, ok := q.arena.FrameAt(q.tx.slots[c&q.tx.mask].Addr)
		if !ok || !q.arena.Completed(f) {
			break // the ring is corrupt
		}
		q.posted--
	}
	q.txProd = cons
	if q.lent > 0 {
		for f, tag := range q.owner {
			if tag == q.tag {
				q.owner[f] = 0
				q.arena.Free(ring.Frame(f))
			}
		}
		q.lent = 0
	}
	return q.posted
}
