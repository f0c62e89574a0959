package ring

import "sync/atomic"

// A Mailbox hands frames from any goroutine to one taker without a lock. It
// lives in the frames' metadata, so an empty one owns nothing. The zero value
// is ready.
type Mailbox struct {
	head atomic.Uint32 // frame+1, newest first
}

// Push adds f. It reports whether the taker had nothing left to take.
func (m *Mailbox) Push(a *Arena, f Frame) (wasEmpty bool) {
	for {
		h := m.head.Load()
		a.meta[f].link.Store(h)
		if m.head.CompareAndSwap(h, uint32(f)+1) {
			return h == 0
		}
	}
}

// Empty reports whether there is nothing to take.
func (m *Mailbox) Empty() bool { return m.head.Load() == 0 }

// TakeAll takes every frame, oldest first, as a list through Meta.Next; first
// is NoFrame when there was none. Any number of takers may call it, each gets
// different frames.
func (m *Mailbox) TakeAll(a *Arena) (first, last Frame) {
	if m.head.Load() == 0 {
		return NoFrame, NoFrame
	}
	h := m.head.Swap(0)
	first, last = NoFrame, NoFrame
	for h != 0 {
		f := Frame(h - 1)
		h = a.meta[f].link.Load()
		a.meta[f].Next = first
		if first == NoFrame {
			last = f
		}
		first = f
	}
	return first, last
}

// TakeNewest takes the frame that was added last, NoFrame if there is none. Nobody
// calls Push meanwhile, else a frame that came back could be mistaken for the one
// that was there.
func (m *Mailbox) TakeNewest(a *Arena) Frame {
	for {
		h := m.head.Load()
		if h == 0 {
			return NoFrame
		}
		if m.head.CompareAndSwap(h, a.meta[h-1].link.Load()) {
			return Frame(h - 1)
		}
	}
}
