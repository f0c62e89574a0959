package sim

import (
	"encoding/binary"
	"time"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/outside"
)

// newEventFD makes a descriptor that any process may have.
func newEventFD() (int, error) { return unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC) }

// Arm implements driver.Queue. The peer writes the eventfd only between Arm
// and the first packet, or Disarm.
func (q *Queue) Arm() (alreadyReady bool) {
	q.settle()
	q.armed.Store(true)
	// A sender first adds the packet and then looks whether the queue is armed.
	// Here it is the other way round, so one of the two sees the other. The look
	// at Err is for Break, which may have woken this wait before it began.
	if q.RxPending() || q.Err() != nil {
		q.Disarm()
		return true
	}
	q.schedule(q.nextDue.Load())
	return false
}

// Disarm implements driver.Queue.
func (q *Queue) Disarm() {
	q.armed.Store(false)
	q.settle()
}

// WaitFD implements driver.Queue.
func (q *Queue) WaitFD() int {
	q.wakeMu.Lock()
	defer q.wakeMu.Unlock()
	return q.fd
}

// EdgeFD implements driver.Queue. The peer writes it until NoEdges.
func (q *Queue) EdgeFD() int {
	q.wakeMu.Lock()
	defer q.wakeMu.Unlock()
	if q.edgeFD < 0 && !q.closed {
		fd, err := newEventFD()
		if err != nil {
			return -1
		}
		q.edgeFD = fd
	}
	q.edges.Store(q.edgeFD >= 0)
	return q.edgeFD
}

// edge reports an arrival.
func (q *Queue) edge() {
	q.wakeMu.Lock()
	defer q.wakeMu.Unlock()
	if q.edges.Load() && !q.closed {
		q.write(q.edgeFD)
	}
}

// notify is called after a packet was added.
func (q *Queue) notify() {
	edges := q.edges.Load()
	if !edges && !q.armed.Load() {
		return
	}
	if q.RxPending() {
		if edges {
			q.edge()
		}
		q.wake()
	} else {
		q.schedule(q.nextDue.Load())
	}
}

// OnArrival implements driver.Caller.
func (q *Queue) OnArrival(call func()) { q.call = call }

// wake makes WaitFD readable, once per Arm, or calls whom OnArrival named.
func (q *Queue) wake() {
	if q.armed.Load() && q.call != nil {
		q.call()
		return
	}
	if !q.armed.CompareAndSwap(true, false) {
		return
	}
	q.wakeMu.Lock()
	defer q.wakeMu.Unlock()
	if q.closed {
		return
	}
	q.write(q.fd)
	q.signalled = true
}

// write makes one of our eventfds readable. It fails only when the counter is
// full: readable it is then too.
func (q *Queue) write(fd int) {
	_, _ = unix.Write(fd, oneEvent)
	q.wakeups.Add(1)
}

// oneEvent adds one to an eventfd; a local array would be allocated under the
// race detector.
var oneEvent = binary.NativeEndian.AppendUint64(nil, 1)

// NoEdges implements driver.Queue.
func (q *Queue) NoEdges() { q.edges.Store(false) }

// settle takes back a wake-up, so that WaitFD is not readable any more.
func (q *Queue) settle() {
	q.wakeMu.Lock()
	defer q.wakeMu.Unlock()
	if q.signalled && !q.closed {
		_, _ = unix.Read(q.fd, q.event[:]) // non-blocking; nothing to read is as good
		q.signalled = false
	}
}

// schedule wakes an armed queue when the packet on the way is due. On virtual
// time Device.Step does that.
func (q *Queue) schedule(due int64) {
	if due == never || q.dev.virtualTime {
		return
	}
	q.wakeMu.Lock()
	defer q.wakeMu.Unlock()
	if q.closed || q.timerAt != 0 && q.timerAt <= due {
		return
	}
	q.timerAt = max(due, 1)
	d := time.Duration(due - q.dev.clock())
	if outside.Bubbled(time.Now()) { // whose timers would wait for its goroutines
		outside.Do(func() { q.startTimer(d) })
		return
	}
	q.startTimer(d)
}

// startTimer has expire called in d. q.wakeMu is held.
func (q *Queue) startTimer(d time.Duration) {
	if q.timer == nil {
		q.timer = time.AfterFunc(d, q.expire)
	} else {
		q.timer.Reset(d)
	}
}

func (q *Queue) expire() {
	q.wakeMu.Lock()
	q.timerAt = 0
	q.wakeMu.Unlock()
	q.notify()
}

func (q *Queue) close() {
	q.armed.Store(false)
	q.wakeMu.Lock()
	defer q.wakeMu.Unlock()
	if q.closed {
		return
	}
	q.closed = true
	if q.timer != nil {
		q.timer.Stop()
	}
	_ = unix.Close(q.fd) // an eventfd has nothing to lose
	q.fd = -1
	if q.edgeFD >= 0 {
		_ = unix.Close(q.edgeFD)
		q.edgeFD = -1
	}
}
