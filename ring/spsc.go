package ring

import "sync/atomic"

// SPSC is a bounded queue from one goroutine to one other, without a lock
// (Lamport's, each side keeping a copy of the other's index so that it reads
// the shared one only when the copy no longer suffices). Which goroutine
// either side is may change, if the changes are ordered by something else,
// such as a Lock.
type SPSC[T any] struct {
	buf  []T
	mask uint32

	_        [64]byte
	tail     atomic.Uint32 // written by the producer
	headSeen uint32        // producer's copy of head

	_        [64]byte
	head     atomic.Uint32 // written by the consumer
	tailSeen uint32        // consumer's copy of tail
	_        [64]byte
}

// NewSPSC returns an empty queue of n values; if n is no power of two, somewhat
// more.
func NewSPSC[T any](n int) *SPSC[T] {
	size := 1
	for size < n {
		size *= 2
	}
	return &SPSC[T]{buf: make([]T, size), mask: uint32(size - 1)}
}

// Push adds v. It returns false if the queue is full. The producer calls it.
func (q *SPSC[T]) Push(v T) bool {
	t := q.tail.Load()
	if t-q.headSeen > q.mask {
		if q.headSeen = q.head.Load(); t-q.headSeen > q.mask {
			return false
		}
	}
	q.buf[t&q.mask] = v
	q.tail.Store(t + 1)
	return true
}

// Pop takes the oldest value. ok is false if there is none. The consumer calls it.
func (q *SPSC[T]) Pop() (v T, ok bool) {
	h := q.head.Load()
	if h == q.tailSeen {
		if q.tailSeen = q.tail.Load(); h == q.tailSeen {
			return v, false
		}
	}
	var zero T
	p := &q.buf[h&q.mask]
	v, *p = *p, zero
	q.head.Store(h + 1)
	return v, true
}

// Len is the number of values, a moment ago. Anybody may call it.
func (q *SPSC[T]) Len() int {
	h := q.head.Load() // first: the tail never falls behind it
	return int(min(q.tail.Load()-h, q.mask+1))
}

// Cap is the number of values that the queue holds.
func (q *SPSC[T]) Cap() int { return len(q.buf) }
