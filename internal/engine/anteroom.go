package engine

import (
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/onload-go/onload/internal/outside"
	"github.com/onload-go/onload/internal/stack"
)

// anteroom is where the kernel's connections wait for the Accept of a Listener that no
// stack serves yet: its interface is another process's, or down.
type anteroom struct {
	left atomic.Pointer[stack.TCPListener] // where they wait from now on; nil: here

	mu     sync.Mutex
	news   *sync.Cond // of queue, by, left and closed
	queue  []interface{ Close() error }
	by     time.Time // deadline of Accept; zero: none
	timer  *time.Timer
	closed bool
}

func newAnteroom() *anteroom {
	r := &anteroom{}
	r.news = sync.NewCond(&r.mu)
	return r
}

// accept waits for what is injected. If to is not nil, all that came, and what is still
// to come, is there.
func (r *anteroom) accept() (to *stack.TCPListener, x any, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		switch to := r.left.Load(); {
		case to != nil:
			return to, nil, nil
		case r.closed:
			return nil, nil, stack.ErrClosed
		case !r.by.IsZero() && !time.Now().Before(r.by):
			return nil, nil, os.ErrDeadlineExceeded
		case len(r.queue) > 0:
			x := r.queue[0]
			r.queue = r.queue[1:]
			return nil, x, nil
		}
		r.news.Wait()
	}
}

func (r *anteroom) inject(x interface{ Close() error }) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if to := r.left.Load(); to != nil {
		return to.Inject(x)
	}
	if r.closed {
		return false
	}
	r.queue = append(r.queue, x)
	r.news.Signal()
	return true
}

func (r *anteroom) setDeadline(t time.Time) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if to := r.left.Load(); to != nil {
		return to.SetDeadline(t)
	}
	if r.closed {
		return stack.ErrClosed
	}
	r.by = t
	if r.timer != nil {
		r.timer.Stop()
		r.timer = nil
	}
	if !t.IsZero() {
		outside.Do(func() { r.timer = time.AfterFunc(time.Until(t), r.wake) })
	}
	r.news.Broadcast()
	return nil
}

func (r *anteroom) wake() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.news.Broadcast()
}

// leave has all that waits, and is still to come, wait at to.
func (r *anteroom) leave(to *stack.TCPListener) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.timer != nil {
		r.timer.Stop()
	}
	_ = to.SetDeadline(r.by)
	for _, x := range r.queue {
		if !to.Inject(x) {
			_ = x.Close()
		}
	}
	r.queue = nil
	r.left.Store(to)
	r.news.Broadcast()
}

// waits reports whether something waits for Accept.
func (r *anteroom) waits() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.queue) > 0
}

// close ends accept, and closes what nobody accepted.
func (r *anteroom) close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.left.Load() != nil {
		return nil // the stack's listener says whether it is the first time
	}
	if r.closed {
		return stack.ErrClosed
	}
	r.closed = true
	if r.timer != nil {
		r.timer.Stop()
	}
	for _, x := range r.queue {
		_ = x.Close()
	}
	r.queue = nil
	r.news.Broadcast()
	return nil
}
