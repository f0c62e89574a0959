package ring

import (
	"math"
	"math/bits"
)

// The wheel has wheelLevels rings of wheelSlots slots. A slot of level 0 is
// one tick, a slot of level n+1 is a whole ring of level n: 1 ms to 13 days.
const (
	tickBits    = 20 // a tick is 2^20 ns, about 1 ms
	slotBits    = 6
	wheelSlots  = 1 << slotBits
	wheelLevels = 5
	topShift    = (wheelLevels - 1) * slotBits
	wheelReach  = (wheelSlots - 1) << topShift // ticks; what lies further is cascaded again
)

// TickNanos is the resolution of a Wheel, in ns: a timer fires at most that late.
const TickNanos = 1 << tickBits

// Two more lists stand behind the slots: timers that are due, and those that
// Advance is about to fire.
const (
	dueList    = wheelLevels * wheelSlots
	firingList = dueList + 1
)

// A Timer is a node of a Wheel, embedded in what it belongs to. The zero
// value is a stopped timer.
type Timer struct {
	next, prev *Timer // circular
	at         int64
	list       uint16 // list+1; 0: not armed
	Kind       uint8  // names the type that it is a field of, for the Wheel's owner
}

// Armed reports whether t will fire.
func (t *Timer) Armed() bool { return t.list != 0 }

// At is the time that t was last set to.
func (t *Timer) At() int64 { return t.at }

// Wheel is a hierarchical timer wheel. It is not safe for concurrent use: it
// lives under the stack lock.
//
// A timer lies on the lowest level on which its tick and the current one
// differ in the slot's digit only. So every level holds later timers than the
// level below, and the first set bit of the lowest occupied level is the next
// event.
type Wheel struct {
	cur    int64 // tick up to which all is done
	bitmap [wheelLevels]uint64
	lists  [firingList + 1]*Timer
}

// NewWheel returns an empty wheel that begins at now.
func NewWheel(now int64) *Wheel { return &Wheel{cur: now >> tickBits} }

// Set arms t to fire at at, or moves it there. A time in the past fires at the next
// Advance.
func (w *Wheel) Set(t *Timer, at int64) {
	l := w.listFor(at)
	t.at = at
	if t.list == l+1 {
		return
	}
	w.Stop(t)
	w.link(t, l)
}

// Stop disarms t.
func (w *Wheel) Stop(t *Timer) {
	if t.list == 0 {
		return
	}
	l := t.list - 1
	t.list = 0
	if t.next == t {
		w.lists[l] = nil
		if l < dueList {
			w.bitmap[l>>slotBits] &^= 1 << (l & (wheelSlots - 1))
		}
	} else {
		t.prev.next, t.next.prev = t.next, t.prev
		if w.lists[l] == t {
			w.lists[l] = t.next
		}
	}
	t.next, t.prev = nil, nil
}

// Advance moves the wheel to now and calls fire for every timer whose tick has
// come, in the order of their ticks. A timer is disarmed when it is fired. fire may
// Set and Stop any timer, the fired one included; a time already past fires at the
// next Advance. It must not call Advance.
func (w *Wheel) Advance(now int64, fire func(*Timer)) {
	for end := now >> tickBits; ; {
		tick, l := w.nextEvent()
		if tick > end {
			w.cur = max(w.cur, end)
			break
		}
		w.cur = tick
		w.cascade(l)
	}
	w.lists[firingList], w.lists[dueList] = w.lists[dueList], nil
	if t := w.lists[firingList]; t != nil {
		for t.list == dueList+1 {
			t.list = firingList + 1
			t = t.next
		}
	}
	for t := w.lists[firingList]; t != nil; t = w.lists[firingList] {
		w.Stop(t)
		fire(t)
	}
}

// Next is the time at which Advance has something to do: fire a timer, or move some
// to a finer level. So it is early by up to a slot of their level, and never later
// than the tick at which they fire. It is math.MaxInt64 if no timer is armed, and
// not after the last Advance if one is due already.
func (w *Wheel) Next() int64 {
	if w.lists[dueList] != nil {
		return w.cur << tickBits
	}
	tick, _ := w.nextEvent()
	if tick >= math.MaxInt64>>tickBits {
		return math.MaxInt64
	}
	return tick << tickBits
}

// nextEvent finds the first occupied slot, and the tick at which it begins.
func (w *Wheel) nextEvent() (tick int64, list int) {
	for level := 0; level < wheelLevels-1; level++ {
		if b := w.bitmap[level]; b != 0 {
			slot := bits.TrailingZeros64(b)
			shift := uint(level * slotBits)
			tick = w.cur>>(shift+slotBits)<<(shift+slotBits) | int64(slot)<<shift
			return tick, level<<slotBits | slot
		}
	}
	// The top level goes round: its slots count from the current one.
	if b := w.bitmap[wheelLevels-1]; b != 0 {
		base := w.cur >> topShift
		d := bits.TrailingZeros64(bits.RotateLeft64(b, -int(base&(wheelSlots-1))))
		slot := (int(base) + d) & (wheelSlots - 1)
		return (base + int64(d)) << topShift, (wheelLevels-1)<<slotBits | slot
	}
	return math.MaxInt64, 0
}

// cascade empties a slot whose first tick is now the current one. Its timers become
// due, or move to lower levels.
func (w *Wheel) cascade(l int) {
	for t := w.lists[l]; t != nil; t = w.lists[l] {
		w.Stop(t)
		w.link(t, w.listFor(t.at))
	}
}

// listFor chooses the list of a timer that fires at at. The tick is rounded
// up, so that no timer fires early.
func (w *Wheel) listFor(at int64) uint16 {
	tick := at >> tickBits
	if at&(TickNanos-1) != 0 {
		tick++
	}
	if tick <= w.cur {
		return dueList
	}
	if tick-w.cur > wheelReach {
		tick = w.cur + wheelReach
	}
	level := min(uint(63-bits.LeadingZeros64(uint64(tick^w.cur)))/slotBits, wheelLevels-1)
	return uint16(level<<slotBits | uint(tick>>(level*slotBits))&(wheelSlots-1))
}

// link appends t to a list.
func (w *Wheel) link(t *Timer, l uint16) {
	t.list = l + 1
	head := w.lists[l]
	if head == nil {
		t.next, t.prev = t, t
		w.lists[l] = t
		if l < dueList {
			w.bitmap[l>>slotBits] |= 1 << (l & (wheelSlots - 1))
		}
		return
	}
	t.next, t.prev = head, head.prev
	head.prev.next = t
	head.prev = t
}
