package control

import (
	"errors"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

const (
	// askAgain is how long a resolution may be under way before Resolve asks
	// once more; the kernel gives up after 3 s by itself.
	askAgain = 5 * time.Second
	// ConfirmEvery is how often the kernel hears that a neighbour is in use.
	// It forgets unused ones after 60 s (gc_stale_time), if it needs room.
	ConfirmEvery = 10 * time.Second
	// maxRequests bounds the requests waiting and the resolutions under way,
	// as the kernel bounds its table (gc_thresh3).
	maxRequests = 1024
)

// neighborRequests queues the requests of Resolve and Confirm for the goroutine
// that may wait for the kernel.
type neighborRequests struct {
	mu      sync.Mutex
	waiting []neighborKey
	// asked are the resolutions under way, with the time of the request.
	asked map[neighborKey]time.Time
	wake  chan struct{}
}

func (r *neighborRequests) init() {
	r.asked = map[neighborKey]time.Time{}
	r.wake = make(chan struct{}, 1)
}

// put queues a request; when the queue is full it is lost. With r.mu held.
func (r *neighborRequests) put(key neighborKey) bool {
	if len(r.waiting) >= maxRequests {
		return false
	}
	r.waiting = append(r.waiting, key)
	select {
	case r.wake <- struct{}{}:
	default:
	}
	return true
}

func (r *neighborRequests) take() []neighborKey {
	r.mu.Lock()
	defer r.mu.Unlock()
	w := r.waiting
	r.waiting = nil
	return w
}

// done forgets a resolution that has ended.
func (r *neighborRequests) done(key neighborKey) {
	r.mu.Lock()
	delete(r.asked, key)
	r.mu.Unlock()
}

// repeat asks again for resolutions under way that the kernel does not know, since
// the notice of their end was lost.
func (r *neighborRequests) repeat(known []neighborEvent) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for key := range r.asked {
		if !slices.ContainsFunc(known, func(e neighborEvent) bool { return e.neighborKey == key }) {
			r.put(key)
		}
	}
}

// Resolve implements Network. Requests are dropped while too many wait, as
// the kernel drops packets for neighbours then.
func (k *Kernel) Resolve(link int, addr netip.Addr) {
	key := neighborKey{link, addr.WithZone("")}
	r := &k.requests
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	if at, ok := r.asked[key]; ok && now.Sub(at) < askAgain {
		return
	}
	if len(r.asked) >= maxRequests {
		for other, at := range r.asked {
			if now.Sub(at) >= askAgain {
				delete(r.asked, other)
			}
		}
		if len(r.asked) >= maxRequests {
			return
		}
	}
	if r.put(key) {
		r.asked[key] = now
	}
}

// Confirm implements Network.
func (k *Kernel) Confirm(link int, addr netip.Addr) {
	key := neighborKey{link, addr.WithZone("")}
	n, ok := (*k.neighbors.Load())[key]
	if !ok || n.fixed {
		return
	}
	now, last := time.Now().UnixNano(), n.confirmed.Load()
	if now-last < int64(ConfirmEvery) || !n.confirmed.CompareAndSwap(last, now) {
		return
	}
	k.requests.mu.Lock()
	k.requests.put(key)
	k.requests.mu.Unlock()
}

// Doubt implements Network. The kernel asks the neighbour either way.
func (k *Kernel) Doubt(link int, addr netip.Addr) { k.Confirm(link, addr) }

// serveNeighbors tells the kernel which neighbours are wanted.
func (k *Kernel) serveNeighbors() {
	for {
		select {
		case <-k.ctx.Done():
			return
		case <-k.requests.wake:
		}
		for _, key := range k.requests.take() {
			// NTF_USE would make a permanent entry an ordinary one.
			if n := (*k.neighbors.Load())[key]; n.fixed {
				k.answerResolve(key, true)
				continue
			}
			switch err := k.use(key); {
			case errors.Is(err, unix.ENOBUFS):
				// The kernel's table is full (gc_thresh3), perhaps of others that do
				// not answer. That says nothing of this one.
				k.later(key)
				continue
			case err != nil:
				k.log.Debug("neighbour", zap.Int("link", key.link), zap.Stringer("addr", key.addr), zap.Error(err))
				k.answerResolve(key, false)
				continue
			}
			k.solicit(key)
			// The kernel sends no event for an entry that is usable already.
			if _, ok := k.Neighbor(key.link, key.addr); ok {
				k.answerResolve(key, true)
			}
		}
	}
}

// use has the kernel treat the neighbour as if it had a packet for it: it
// resolves an unknown one, and probes a stale one.
func (k *Kernel) use(key neighborKey) error {
	err := k.requester.NeighSet(&netlink.Neigh{
		LinkIndex: key.link,
		IP:        key.addr.AsSlice(),
		Flags:     unix.NTF_USE,
	})
	if help := k.helper.Load(); help != nil && errors.Is(err, unix.EPERM) {
		return (*help)(key.link, key.addr)
	}
	return err
}

// HelpNeighbors has help ask for neighbours where the kernel lets this process not: that
// takes CAP_NET_ADMIN. help may wait.
func (k *Kernel) HelpNeighbors(help func(link int, addr netip.Addr) error) { k.helper.Store(&help) }

// solicit sends the solicitation that the kernel does not send, repeatedly while
// the resolution is under way.
func (k *Kernel) solicit(key neighborKey) {
	sent, err := k.solicitor.solicit(k.view.Load(), key)
	if err != nil {
		k.log.Debug("neighbour", zap.Int("link", key.link), zap.Stringer("addr", key.addr), zap.Error(err))
	}
	if sent {
		time.AfterFunc(retransTimer, func() { k.requests.again(key) })
	}
}

// fullWait is how long a request waits for which the kernel's table had no room.
const fullWait = 100 * time.Millisecond

// later puts the request for key again after a while.
func (k *Kernel) later(key neighborKey) {
	time.AfterFunc(fullWait, func() { k.requests.again(key) })
}

// soonest is when a resolution may have failed, after it was asked for. Linux
// solicits three times, a second apart, before it gives up.
const soonest = 500 * time.Millisecond

// interrupted reports whether a resolution that has just ended was not given the
// time to fail: the entry was deleted, by somebody or to make room in the table. It
// is asked for once more.
func (r *neighborRequests) interrupted(key neighborKey) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	at, ok := r.asked[key]
	return ok && time.Since(at) < soonest && r.put(key)
}

// again puts the request for key once more, if nobody has answered it. The
// kernel's entry fails after 3 s.
func (r *neighborRequests) again(key neighborKey) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if at, ok := r.asked[key]; ok && time.Since(at) < askAgain {
		r.put(key)
	}
}

// answerResolve answers a caller of Resolve that would wait in vain for an
// event.
func (k *Kernel) answerResolve(key neighborKey, up bool) {
	k.requests.mu.Lock()
	_, asked := k.requests.asked[key]
	delete(k.requests.asked, key)
	k.requests.mu.Unlock()
	if !asked {
		return
	}
	kind := NeighborFailed
	if up {
		kind = NeighborUp
	}
	k.notify([]Change{{kind, key.link, key.addr}})
}

// hear takes the kernel's news of neighbours.
func (k *Kernel) hear(events []neighborEvent, reset bool) {
	if len(events) == 0 && !reset {
		return
	}
	for i := range events {
		e := &events[i]
		if e.final && !e.usable && !reset && k.requests.interrupted(e.neighborKey) {
			e.final = false
		}
		if e.usable || e.final {
			k.requests.done(e.neighborKey)
		}
	}
	k.applyNeighbors(events, reset)
	if reset {
		k.requests.repeat(events)
	}
}
