package nic

import (
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/driver/steer"
	"github.com/onload-go/onload/ring"
)

// Queue is the part of a queue that knows no ring.
type Queue struct {
	Dev   *Base
	Arena *ring.Arena
	Count Counters

	Flight     int    // Descs that the device has, or will get, to send
	MaxSegment uint16 // most bytes of a segment that the device cuts; 0: any

	line    Line
	rings   Rings
	armed   bool
	edges   atomic.Bool
	fdMu    sync.Mutex
	fd      int // of the receive interrupt; -1 after Close
	noEdges bool
	event   [8]byte

	sent []ring.Frame // frames that the device has: see Hold
	lent [][]ring.Frame

	broken  atomic.Pointer[error]
	headers steer.Headers // scratch: no packet costs an allocation
}

// Line is the receive interrupt of a queue.
type Line interface {
	// Enable has the device interrupt at each packet that comes from now on. When it
	// returns the device has heard.
	Enable()
	// Disable ends that. When it returns the device has heard.
	Disable()
	// Lost returns the fault of a device that is gone, or nil.
	Lost() error
}

// Counters are those that drivers of rings count.
type Counters struct {
	RxPackets, RxBytes, TxPackets, TxBytes   atomic.Uint64
	Kicks, KickErrors                        atomic.Uint64
	RxDropped, RxInvalid, TxInvalid, BadDesc atomic.Uint64
	TxFull, TxNone                           atomic.Uint64
}

// Init makes the eventfd of a queue. An interrupt that once makes no edges until Enable
// is called again.
func (q *Queue) Init(dev *Base, line Line, rings Rings, once bool) (fd int, err error) {
	q.Dev, q.Arena, q.line, q.rings, q.noEdges = dev, dev.arena, line, rings, once
	q.fd, err = unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	return q.fd, err
}

func (q *Queue) close() {
	q.fdMu.Lock()
	defer q.fdMu.Unlock()
	_ = unix.Close(q.fd) // an eventfd has nothing to lose
	q.fd = -1
}

// Fail breaks the queue with the first fault.
func (q *Queue) Fail(err error) { q.broken.CompareAndSwap(nil, &err) }

// Bad breaks the queue with a statement of the device that cannot be.
func (q *Queue) Bad(err error) {
	q.Count.BadDesc.Add(1)
	q.Fail(err)
}

// Broken reports whether Err has an error.
func (q *Queue) Broken() bool { return q.broken.Load() != nil }

// Err implements driver.Queue.
func (q *Queue) Err() error {
	if p := q.broken.Load(); p != nil {
		return *p
	}
	return nil
}

// Caps implements driver.Queue.
func (q *Queue) Caps() *driver.Caps { return &q.Dev.Traits }

// Ours reports whether the stack takes a packet of total bytes.
func (q *Queue) Ours(first ring.Desc, total int) bool {
	if q.Dev.takeAll {
		return true
	}
	b := q.Arena.Data(first)
	return q.headers.Parse(b, total) && q.Dev.Ours(b, &q.headers)
}

// Arm implements driver.Queue.
func (q *Queue) Arm() (alreadyReady bool) {
	if !q.Broken() {
		if err := q.line.Lost(); err != nil {
			q.Fail(err)
		}
	}
	if q.Broken() {
		return true
	}
	q.armed = true
	q.line.Enable()
	q.drain() // also the interrupt of a packet that was taken before
	// The device first shows a packet and then looks whether we want an interrupt.
	// Here it is the other way round, so one sees the other.
	if q.rings.RxPending() || q.Broken() { // drain may have taken Wake's
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
	if q.Broken() {
		return
	}
	if !q.edges.Load() {
		q.line.Disable()
	}
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

// Wake makes WaitFD readable, as an interrupt does.
func (q *Queue) Wake() {
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
	if q.noEdges {
		return -1
	}
	fd := q.WaitFD()
	if fd >= 0 && !q.Broken() && !q.edges.Swap(true) {
		q.line.Enable()
	}
	return fd
}

// NoEdges implements driver.Queue. Interrupts end with the next Disarm.
func (q *Queue) NoEdges() { q.edges.Store(false) }

// Stats implements driver.Queue.
func (q *Queue) Stats() driver.Stats {
	s := &q.Count
	return driver.Stats{
		RxPackets: s.RxPackets.Load(), RxBytes: s.RxBytes.Load(), TxPackets: s.TxPackets.Load(), TxBytes: s.TxBytes.Load(),
		Kicks: s.Kicks.Load(), KickErrors: s.KickErrors.Load(),
		RxDropped: s.RxDropped.Load(), RxInvalid: s.RxInvalid.Load(), TxInvalid: s.TxInvalid.Load(),
		TxRingFull: s.TxFull.Load(), TxRingNone: s.TxNone.Load(), BadDesc: s.BadDesc.Load(),
	}
}
