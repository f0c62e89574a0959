package stack

import (
	"iter"
	"math/bits"
)

// table is a set of values that carry their own key. It takes a pointer of eight
// bytes for each, and no copy of the key as a map does. It is not safe for
// concurrent use.
//
// A group of seven pointers takes a cache line, together with a byte of the hash of
// each, so that a search looks at hardly any value but the one it finds. A value
// whose group is full goes to the next one. Each group counts the values that have
// passed it, and a search ends where none has. The table grows and shrinks a little
// at each change, so that nobody waits for all of it to be moved.
type table[T any] struct {
	hash  func(*T) uint64
	n     int
	cur   []group[T]
	old   []group[T] // what the table was before; nil: all has moved
	moved int        // groups of old that are empty
}

// group is one cache line.
type group[T any] struct {
	// The lowest seven bytes are the slots' tags, 0 where a slot is free. The
	// highest is how many values have passed the group; passedMost means that many
	// or more.
	tags  uint64
	slots [groupSlots]*T
}

const (
	groupSlots  = 7
	groupsLeast = 4
	groupsMoved = 4 // at each change
	eachTag     = 0x01010101010101
	tagUsed     = 0x80 // set in every tag
	passedOne   = 1 << 56
	passedMost  = 255
)

// The table grows by half above groupFull values in a group, on average, and
// shrinks to two thirds below groupEmpty. So a value takes 11 to 16 bytes, and
// 27 while a table that has just grown is moved.
const (
	groupFull  = 6
	groupEmpty = 1
)

func newTable[T any](hash func(*T) uint64) table[T] { return table[T]{hash: hash} }

// tagOf takes the low bits of a hash, home the high ones.
func tagOf(hash uint64) uint64 { return hash&(tagUsed-1) | tagUsed }

// home is the group, of so many, in which the search for a value with that hash
// begins.
func home(hash uint64, groups int) int {
	i, _ := bits.Mul64(hash, uint64(groups))
	return int(i)
}

// next is the group after i.
func next(i, groups int) int {
	if i++; i == groups {
		return 0
	}
	return i
}

func (g *group[T]) passed() uint64 { return g.tags >> 56 }

// len is the number of values.
func (t *table[T]) len() int { return t.n }

// find returns the value with that hash for which is holds, or nil.
func (t *table[T]) find(hash uint64, is func(*T) bool) *T {
	if x := findIn(t.cur, hash, is); x != nil || t.old == nil {
		return x
	}
	return findIn(t.old, hash, is)
}

func findIn[T any](gs []group[T], hash uint64, is func(*T) bool) *T {
	if len(gs) == 0 {
		return nil
	}
	want := tagOf(hash) * eachTag
	i := home(hash, len(gs))
	for range gs {
		g := &gs[i]
		// A byte of x is zero where the tag is the one sought. A tag above such a
		// byte may look equal too; its slot is then in use.
		x := g.tags ^ want
		for m := (x - eachTag) &^ x & (eachTag * tagUsed); m != 0; m &= m - 1 {
			if v := g.slots[bits.TrailingZeros64(m)/8]; is(v) {
				return v
			}
		}
		if g.passed() == 0 {
			return nil
		}
		i = next(i, len(gs))
	}
	return nil
}

// add puts in a value that is not there.
func (t *table[T]) add(x *T) {
	if t.n >= len(t.cur)*groupFull {
		t.resize(max(len(t.cur)+len(t.cur)/2, groupsLeast))
	}
	t.n++
	addTo(t.cur, x, t.hash(x))
	t.move()
}

// addTo puts x in its group, or the next that has room. The caller knows that one
// has.
func addTo[T any](gs []group[T], x *T, hash uint64) {
	for i := home(hash, len(gs)); ; i = next(i, len(gs)) {
		g := &gs[i]
		if free := ^g.tags & (eachTag * tagUsed); free != 0 {
			slot := bits.TrailingZeros64(free) / 8
			g.tags |= tagOf(hash) << (8 * slot)
			g.slots[slot] = x
			return
		}
		if g.passed() < passedMost {
			g.tags += passedOne
		}
	}
}

// remove takes a value out. false: it is not there.
func (t *table[T]) remove(x *T) bool {
	h := t.hash(x)
	if !removeFrom(t.cur, x, h) && !removeFrom(t.old, x, h) {
		return false
	}
	t.n--
	if t.n < len(t.cur)*groupEmpty && len(t.cur) > groupsLeast {
		t.resize(max(len(t.cur)*2/3, groupsLeast))
	}
	t.move()
	return true
}

func removeFrom[T any](gs []group[T], x *T, hash uint64) bool {
	first := home(hash, len(gs))
	i := first
	for range gs {
		g := &gs[i]
		for slot := range g.slots {
			if g.slots[slot] != x {
				continue
			}
			g.slots[slot] = nil
			g.tags &^= 0xff << (8 * slot)
			for j := first; j != i; j = next(j, len(gs)) { // the groups that it has passed
				if g := &gs[j]; g.passed() < passedMost {
					g.tags -= passedOne
				}
			}
			return true
		}
		if g.passed() == 0 {
			return false
		}
		i = next(i, len(gs))
	}
	return false
}

// resize begins to move everything to another number of groups.
func (t *table[T]) resize(groups int) {
	for t.old != nil { // at most a few: a change moves more than it adds
		t.move()
	}
	t.cur, t.old, t.moved = make([]group[T], groups), t.cur, 0
}

// move moves some of the old groups.
func (t *table[T]) move() {
	for i := 0; i < groupsMoved && t.old != nil; i++ {
		if t.moved == len(t.old) {
			t.old = nil
			return
		}
		g := &t.old[t.moved]
		t.moved++
		for slot, x := range g.slots {
			if x == nil {
				continue
			}
			addTo(t.cur, x, t.hash(x))
			g.slots[slot] = nil
			g.tags &^= 0xff << (8 * slot) // the count of values that passed stays
		}
	}
}

// all visits the values, in no order. The table must not change meanwhile.
func (t *table[T]) all() iter.Seq[*T] {
	return func(yield func(*T) bool) {
		for _, gs := range [...][]group[T]{t.cur, t.old} {
			for i := range gs {
				for _, x := range gs[i].slots {
					if x != nil && !yield(x) {
						return
					}
				}
			}
		}
	}
}
