package virtio

import (
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/ring"
)

// Queue is a receive and a transmit virtqueue. It implements driver.Queue.
type Queue struct {
	dev   *Device
	arena *ring.Arena

	rx      virtqueue
	lent    []ring.Frame // of each chain, for the device to receive into
	fill    []ring.Frame // scratch of Refill
	lacks   int
	headers headers // scratch of RxBatch

	tx       virtqueue
	sent     []slot
	slots    []uint16 // free ones of sent
	first    []uint16 // slot of each chain
	unkicked bool

	bufs [tsoFrags]buffer // scratch

	armed bool
	edges atomic.Bool
	fdMu  sync.Mutex
	fd    int // of the receive interrupt; -1 after Close
	event [8]byte

	broken atomic.Pointer[error]
	stats  counters
}

var _ driver.Queue = (*Queue)(nil)

type counters struct {
	rxPackets, rxBytes, txPackets, txBytes, kicks, kickErrors atomic.Uint64
	txInvalid, txFull, txNone, badDesc                        atomic.Uint64
}

// fail breaks the queue with the first fault.
func (q *Queue) fail(err error) { q.broken.CompareAndSwap(nil, &err) }

// Arm implements driver.Queue.
func (q *Queue) Arm() (alreadyReady bool) {
	if q.broken.Load() == nil {
		if err := q.dev.lost(); err != nil {
			q.fail(err)
		}
	}
	if q.broken.Load() != nil {
		return true
	}
	q.drain()
	q.armed = true
	q.rx.interrupts(true)
	// The device first shows a packet and then looks whether we want an
	// interrupt. Here it is the other way round, so one sees the other.
	if q.RxPending() {
		q.Disarm()
		return true
	}
	return false
}

// Disarm implements driver.Queue.
func (q *Queue) Disarm() {
	if !q.armed {
		return
	}
	q.armed = false
	if q.broken.Load() != nil {
		return
	}
	q.rx.interrupts(q.edges.Load())
	q.drain()
}

// drain takes back interrupts, so that the descriptor is not readable.
func (q *Queue) drain() {
	q.fdMu.Lock()
	defer q.fdMu.Unlock()
	if q.fd >= 0 {
		_, _ = unix.Read(q.fd, q.event[:]) // non-blocking; nothing to read is as good
	}
}

// wake makes the descriptor readable: whoever sleeps looks at Err.
func (q *Queue) wake() {
	q.fdMu.Lock()
	defer q.fdMu.Unlock()
	if q.fd >= 0 {
		_, _ = unix.Write(q.fd, []byte{1, 0, 0, 0, 0, 0, 0, 0}) // readable already, if it is full
	}
}

// WaitFD implements driver.Queue.
func (q *Queue) WaitFD() int {
	q.fdMu.Lock()
	defer q.fdMu.Unlock()
	return q.fd
}

// EdgeFD implements driver.Queue: each interrupt is an edge.
func (q *Queue) EdgeFD() int {
	fd := q.WaitFD()
	if fd >= 0 && q.broken.Load() == nil && !q.edges.Swap(true) {
		q.rx.interrupts(true)
	}
	return fd
}

// NoEdges implements driver.Queue. Interrupts end with the next Disarm.
func (q *Queue) NoEdges() { q.edges.Store(false) }

// Stats implements driver.Queue.
func (q *Queue) Stats() driver.Stats {
	s := &q.stats
	return driver.Stats{
		RxPackets: s.rxPackets.Load(), RxBytes: s.rxBytes.Load(), TxPackets: s.txPackets.Load(), TxBytes: s.txBytes.Load(),
		Kicks: s.kicks.Load(), KickErrors: s.kickErrors.Load(), TxInvalid: s.txInvalid.Load(),
		TxRingFull: s.txFull.Load(), TxRingNone: s.txNone.Load(), BadDesc: s.badDesc.Load(),
	}
}

// Err implements driver.Queue.
func (q *Queue) Err() error {
	if p := q.broken.Load(); p != nil {
		return *p
	}
	return nil
}

// Caps implements driver.Queue.
func (q *Queue) Caps() *driver.Caps { return &q.dev.caps }
