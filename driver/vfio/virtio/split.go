package virtio

import (
	"sync/atomic"

	"github.com/onload-go/onload/driver/vfio"
)

// split is a split virtqueue (2.7).
type split struct {
	place
	avail, used int // offsets in mem
	tables      tables
	events      bool // VIRTIO_F_EVENT_IDX

	next      uint16 // of the available ring
	published uint16 // how far the device sees that
	notified  uint16 // how far it was told, or looked by itself
	seen      uint16 // of the used ring
	ready     int    // used chains of which it is known
	settled   atomic.Uint32

	flags   uint16 // of the available ring
	wake    bool
	wakesAt uint16 // index of the used ring behind which the device interrupts

	free  []uint16
	chain []uint16 // the next descriptor, of each
	count []uint16 // descriptors of the chain that begins here, 0 where none does
}

// place is where a virtqueue lies, and the register that notifies the device of it.
type place struct {
	mem   vfio.Regs
	iova  uint64
	size  int
	index uint16
	bell  vfio.Regs
	rings uint64 // how often that was written
}

func (p *place) entries() int { return p.size }

// ring notifies the device (2.9).
func (p *place) ring() {
	p.bell.Write16(0, p.index)
	p.rings++
}

const (
	usedLen          = 8
	availNoInterrupt = 1
	usedNoNotify     = 1
)

// Sizes and alignments of the parts (2.7).
func splitBytes(size int) (avail, used, total int) {
	avail = descLen * size
	used = (avail + 4 + 2*size + 2 + 3) &^ 3
	return avail, used, used + 4 + usedLen*size + 4
}

// newSplit makes a split virtqueue with a power of two of entries, which no device
// knows yet. Chains have at most buffers buffers.
func newSplit(c allocator, size, buffers int, features uint64) (q *split, err error) {
	q = &split{events: features&featEventIdx != 0}
	q.size = size
	var total int
	q.avail, q.used, total = splitBytes(size)
	if q.mem, q.iova, err = c.Alloc(total); err != nil {
		return nil, err
	}
	if buffers > 1 && features&featIndirect != 0 {
		if q.tables, err = newTables(c, size, buffers); err != nil {
			return nil, err
		}
	}
	q.chain, q.count = make([]uint16, size), make([]uint16, size)
	for id := size - 1; id >= 0; id-- {
		q.free = append(q.free, uint16(id))
	}
	q.interrupts(false)
	return q, nil
}

// parts are where the device finds the descriptors, and what each side writes.
func (q *split) parts() (desc, driver, device uint64) {
	return q.iova, q.iova + uint64(q.avail), q.iova + uint64(q.used)
}

func (q *split) where() *place { return &q.place }

func (q *split) memory() [][]byte { return [][]byte{q.mem, q.tables.mem} }

// put writes a descriptor of the ring (2.7.5).
func (q *split) put(id uint16, b buffer, flags, next uint16) {
	if b.write {
		flags |= descWrite
	}
	at := descLen * int(id)
	q.mem.Put64(at, b.addr)
	q.mem.Put64(at+8, word(b.n, flags, next))
}

// pop takes a free descriptor.
func (q *split) pop() uint16 {
	last := len(q.free) - 1
	id := q.free[last]
	q.free = q.free[:last]
	return id
}

// add puts the chain into the descriptors, and its head on the available ring
// (2.7.13.1, 2.7.13.2).
func (q *split) add(bufs []buffer) uint16 {
	head := q.pop()
	if last := len(bufs) - 1; last > 0 && q.tables.mem != nil {
		q.put(head, q.table(head, bufs), descIndirect, 0)
		q.count[head] = 1
	} else {
		at := head
		for _, b := range bufs[:last] {
			next := q.pop()
			q.put(at, b, descNext, next)
			q.chain[at] = next
			at = next
		}
		q.put(at, bufs[last], 0, 0)
		q.count[head] = uint16(len(bufs))
	}
	q.mem.Put16(q.avail+4+2*(int(q.next)&(q.size-1)), head)
	q.next++
	return head
}

// table writes the chain into the table of id (2.7.5.3).
func (q *split) table(id uint16, bufs []buffer) buffer {
	at := q.tables.each * int(id)
	t := buffer{addr: q.tables.iova + uint64(at), n: uint32(descLen * len(bufs))}
	for i, b := range bufs {
		flags, next := uint16(descNext), uint16(i+1)
		if i == len(bufs)-1 {
			flags, next = 0, 0
		}
		if b.write {
			flags |= descWrite
		}
		q.tables.mem.Put64(at, b.addr)
		q.tables.mem.Put64(at+8, word(b.n, flags, next))
		at += descLen
	}
	return t
}

// publish moves the available ring's index (2.7.13.3).
func (q *split) publish() {
	q.published = q.next
	q.mem.Store32(q.avail, uint32(q.next)<<16|uint32(q.flags))
}

// notify looks behind a barrier, which publish ended with (2.7.13.4.1): at the index
// at which the device wants to be told (2.7.10), or else at its flag.
func (q *split) notify() {
	want := false
	if q.events {
		want = passes(uint16(q.mem.Load32(q.used+4+usedLen*q.size)), q.notified, q.published)
	} else {
		want = q.mem.Load32(q.used)&usedNoNotify == 0
	}
	q.notified = q.published
	if want {
		q.ring()
	}
}

// passes reports whether an index passes event on its way from one position to
// another, modulo 2^16 (2.7.10.1's vring_need_event).
func passes(event, from, to uint16) bool { return to-event-1 < to-from }

// interrupts sets the available ring's flag, or the index behind which the device
// interrupts (2.7.7.1). That index cannot mean never: it is half the way around.
func (q *split) interrupts(on bool) {
	q.wake = on
	switch {
	case q.events && on:
		q.wakeAt(q.seen)
	case q.events:
		q.wakeAt(q.seen + 1<<15)
	default:
		q.flags = availNoInterrupt
		if on {
			q.flags = 0
		}
		q.mem.Store32(q.avail, uint32(q.published)<<16|uint32(q.flags))
	}
}

func (q *split) wakeAt(index uint16) {
	q.wakesAt = index
	q.mem.Store32(q.avail+4+2*q.size, uint32(index)) // two bytes of it are padding
}

// usedIndex is how far the device is, modulo 2^16.
func (q *split) usedIndex() uint16 { return uint16(q.mem.Load32(q.used) >> 16) }

// peek reads the used ring (2.7.14).
func (q *split) peek(i int) (id uint16, n uint32, ok bool, err error) {
	if i >= q.ready {
		if q.ready = int(q.usedIndex() - q.seen); q.ready > int(q.published-q.seen) {
			q.ready = 0
			return 0, 0, false, errTooMuch
		}
		if i >= q.ready {
			return 0, 0, false, nil
		}
	}
	at := q.used + 4 + usedLen*(int(q.seen+uint16(i))&(q.size-1))
	name := q.mem.Get32(at)
	if name >= uint32(q.size) || q.count[name] == 0 {
		return 0, 0, false, errBadUsed
	}
	return uint16(name), q.mem.Get32(at + 4), true, nil
}

// take frees the chain's descriptors.
func (q *split) take(id uint16) {
	q.seen++
	q.ready--
	n := q.count[id]
	q.count[id] = 0
	for ; n > 0; n-- {
		q.free = append(q.free, id)
		id = q.chain[id]
	}
}

// settle keeps the index that is not to be reached ahead of the device, and the one
// that is to be reached at the next chain.
func (q *split) settle() {
	q.settled.Store(uint32(q.seen))
	if q.events && (q.wake && q.wakesAt != q.seen || q.wakesAt-q.seen < 1<<14 && !q.wake) {
		q.interrupts(q.wake)
	}
}

func (q *split) pending() bool { return uint32(q.usedIndex()) != q.settled.Load() }
