package control

import (
	"sync"
	"time"

	"github.com/onload-go/onload/internal/outside"
)

// expiry watches what the kernel knows of single paths: an MTU that a router said, or a
// redirect (Linux's fib_nh_exception, rt6_exception). Its answers have them until they
// expire, of which no notice comes.
type expiry struct {
	mu    sync.Mutex
	timer *time.Timer // nil: nothing has expired yet
	next  time.Time   // when the first expires; zero: nothing will
}

const (
	// clockTick is the kernel's unit of an answer's time (USER_HZ).
	clockTick = 10 * time.Millisecond
	// expirySlack is added, so that several that expire together are one change.
	expirySlack = 500 * time.Millisecond
)

// expires notes that an answer holds for so long.
func (k *Kernel) expires(ticks int32) {
	if ticks <= 0 {
		return
	}
	after := time.Duration(ticks)*clockTick + expirySlack
	at := time.Now().Add(after)
	e := &k.expiry
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case k.ctx.Err() != nil || !e.next.IsZero() && !at.Before(e.next):
		return
	case e.timer == nil:
		outside.Do(func() { e.timer = time.AfterFunc(after, k.expired) })
	default:
		outside.Do(func() { e.timer.Reset(after) })
	}
	e.next = at
}

// expired has every route asked for again.
func (k *Kernel) expired() {
	k.expiry.mu.Lock()
	k.expiry.next = time.Time{}
	k.expiry.mu.Unlock()
	if k.ctx.Err() != nil {
		return
	}
	k.cache.forget()
	k.gen.Add(1)
	k.notify([]Change{{Kind: RouteChanged}})
}

// stop ends the watch. The mirror's context has ended.
func (e *expiry) stop() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.timer != nil {
		e.timer.Stop()
	}
}
