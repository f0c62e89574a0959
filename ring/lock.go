package ring

import (
	"runtime"
	"sync/atomic"
)

// Work is a piece of work that its owner left for the holder of a Lock. It is a
// field of the value that it belongs to, and is on at most one list at a time.
type Work struct {
	next   *Work
	queued atomic.Bool
	Kind   uint8 // names the type that it is a field of, for the Lock's owner; set before first use
}

// Lock is the stack lock: one word that holds the locked bit and the list of
// deferred work. A caller that finds it taken leaves its work on the list instead
// of waiting, and the holder does that work before it unlocks.
//
// The word is nil when unlocked, the sentinel when locked with no work, else
// the newest Work.
type Lock struct {
	word atomic.Pointer[Work]
	held Work // sentinel

	waiters  atomic.Int32
	starving atomic.Int32 // waiters that were overtaken too often
	sema     chan bool    // true: the lock is handed over with it
	rounds   int          // of work, while somebody waits; the holder's

	// Contention, as counters for the operator.
	Deferred  atomic.Uint64 // work left for the holder
	Contended atomic.Uint64 // Lock calls that had to wait
}

// NewLock returns an unlocked Lock.
func NewLock() *Lock { return &Lock{sema: make(chan bool, 1)} }

// TryLock takes the lock if it is free.
func (l *Lock) TryLock() bool {
	return l.word.Load() == nil && l.word.CompareAndSwap(nil, &l.held)
}

// lockSpins is how often Lock tries before it parks: a poll turn takes some
// microseconds, a parked goroutine tens.
const lockSpins = 100

// starveAfter is how often a parked waiter is woken in vain, because a polling
// goroutine took the lock again, before it is handed the lock.
const starveAfter = 4

// Lock takes the lock, waiting for it. For control operations only.
func (l *Lock) Lock() {
	if l.TryLock() {
		return
	}
	l.Contended.Add(1)
	for i := 0; i < lockSpins; i++ {
		if l.TryLock() {
			return
		}
		runtime.Gosched()
	}
	l.waiters.Add(1)
	for woken := 0; !l.TryLock(); woken++ {
		if woken == starveAfter {
			l.starving.Add(1)
			defer l.starving.Add(-1)
		}
		if <-l.sema {
			break
		}
	}
	l.waiters.Add(-1)
}

// Defer takes the lock if it is free and returns true: the caller then does all of
// w's work itself and unlocks. Otherwise Defer leaves w for the holder and returns
// false. Work that is on the list already stays there once. The goroutine that does
// the work sees everything that the caller wrote before.
func (l *Lock) Defer(w *Work) (locked bool) {
	for {
		h := l.word.Load()
		if h == nil {
			if l.word.CompareAndSwap(nil, &l.held) {
				return true
			}
			continue
		}
		// Swap, rather than load, even if the mark is set already. The swap orders
		// our writes before the mark, and Take's swap reads that mark before the
		// work is done. A load could overtake our writes.
		if w.queued.Swap(true) {
			return false
		}
		for {
			w.next = h
			if l.word.CompareAndSwap(h, w) {
				l.Deferred.Add(1)
				return false
			}
			if h = l.word.Load(); h == nil {
				break
			}
		}
		w.queued.Swap(false)
	}
}

// Post leaves w on the list for a caller that holds the lock itself, to be done
// before it unlocks. Unlike Defer it is no contention, and is not counted.
func (l *Lock) Post(w *Work) {
	if w.queued.Swap(true) {
		return
	}
	for {
		h := l.word.Load()
		w.next = h
		if l.word.CompareAndSwap(h, w) {
			return
		}
	}
}

// HasWork reports, to the holder, whether work was left.
func (l *Lock) HasWork() bool { return l.word.Load() != &l.held }

// Take calls do for every Work left so far, oldest first. The holder calls
// it. do must not call Take.
func (l *Lock) Take(do func(*Work)) {
	if l.word.Load() == &l.held {
		return
	}
	w := l.word.Swap(&l.held)
	var first *Work
	for w != &l.held {
		next := w.next
		w.next = first
		first, w = w, next
	}
	for first != nil {
		w, first = first, first.next
		w.next = nil
		w.queued.Swap(false)
		do(w)
	}
}

// TryUnlock unlocks, unless work was left since the last Take. In that case it
// returns false, and the holder has to Take again; or it returns true after some
// rounds, where a goroutine in Lock has the lock then, and is to do the work.
func (l *Lock) TryUnlock() bool {
	if l.starving.Load() > 0 && l.word.Load() == &l.held {
		select {
		case l.sema <- true: // the receiver holds the lock
			return true
		default:
		}
	}
	if !l.word.CompareAndSwap(&l.held, nil) {
		return l.passOn()
	}
	if l.waiters.Load() > 0 {
		select {
		case l.sema <- false:
		default:
		}
	}
	return true
}

// passAfter is how many rounds of work the holder does while somebody waits in Lock.
const passAfter = 16

// passOn hands the lock, and the work that was left, to a goroutine that waits in Lock.
// Otherwise a stream of work without end would keep it waiting for good: only a lock
// that is free, or has no work, goes to it.
//
//go:noinline
func (l *Lock) passOn() bool {
	if l.waiters.Load() == 0 {
		return false
	}
	if l.rounds++; l.rounds < passAfter {
		return false
	}
	l.rounds = 0
	select {
	case l.sema <- true: // the receiver holds the lock
		return true
	default:
		return false
	}
}

// Held reports whether somebody holds the lock.
func (l *Lock) Held() bool { return l.word.Load() != nil }
