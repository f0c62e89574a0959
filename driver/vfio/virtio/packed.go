package virtio

import (
	"sync/atomic"
)

// packed is a packed virtqueue (2.8): one ring of descriptors, in which the device
// writes over those that it has used.
type packed struct {
	place
	driver, device int // offsets in mem of the event suppression structures (2.8.10)
	tables         tables

	next   spot   // where the next chain goes
	start  spot   // the first descriptor that the device does not see yet
	hidden int    // descriptors from there to next
	first  uint16 // the flags that publish gives the descriptor at start

	used    spot // where the next used chain will be
	out     int  // descriptors of published chains that are not taken
	settled atomic.Uint32

	free  []uint16
	count []uint16 // descriptors of the chain with this name, 0 where there is none
}

// spot is a descriptor's index and a wrap counter (2.8.1), which has the value of the
// flags that the descriptor has when it is available (next) or used.
type spot struct {
	at   uint16
	wrap bool
}

func (s *spot) move(n, size int) {
	at := int(s.at) + n
	if at >= size {
		at -= size
		s.wrap = !s.wrap
	}
	s.at = uint16(at)
}

// word is the spot for pending.
func (s spot) word() uint32 {
	w := uint32(s.at)
	if s.wrap {
		w |= 1 << 15
	}
	return w
}

const (
	packedAvail = 1 << 7
	packedUsed  = 1 << 15

	eventsEnable  = 0
	eventsDisable = 1
)

// available are the flags of a descriptor that the device may use, hidden those of
// one that is neither available nor used yet (2.8.1).
func (s spot) available() uint16 {
	if s.wrap {
		return packedAvail
	}
	return packedUsed
}

func (s spot) hidden() uint16 { return s.available() ^ (packedAvail | packedUsed) }

// newPacked makes a packed virtqueue, which no device knows yet. Chains have at most
// buffers buffers.
func newPacked(c allocator, size, buffers int, features uint64) (q *packed, err error) {
	q = &packed{driver: descLen * size, device: descLen*size + 4}
	q.size = size
	if q.mem, q.iova, err = c.Alloc(descLen*size + 8); err != nil {
		return nil, err
	}
	if buffers > 1 && features&featIndirect != 0 {
		if q.tables, err = newTables(c, size, buffers); err != nil {
			return nil, err
		}
	}
	// Both wrap counters begin with 1 (2.8.1).
	q.next, q.start, q.used = spot{wrap: true}, spot{wrap: true}, spot{wrap: true}
	q.count = make([]uint16, size)
	for id := size - 1; id >= 0; id-- {
		q.free = append(q.free, uint16(id))
	}
	q.settle()
	q.interrupts(false)
	return q, nil
}

func (q *packed) parts() (desc, driver, device uint64) {
	return q.iova, q.iova + uint64(q.driver), q.iova + uint64(q.device)
}

func (q *packed) where() *place { return &q.place }

func (q *packed) memory() [][]byte { return [][]byte{q.mem, q.tables.mem} }

// add writes the chain's descriptors (2.8.21.1). All but the first that the device
// does not see yet are available at once: it looks at them behind that one only.
func (q *packed) add(bufs []buffer) uint16 {
	last := len(q.free) - 1
	id := q.free[last]
	q.free = q.free[:last]
	if len(bufs) > 1 && q.tables.mem != nil {
		q.put(q.table(id, bufs), descIndirect, id)
		q.count[id] = 1
		return id
	}
	for i, b := range bufs {
		flags := uint16(descNext)
		if i == len(bufs)-1 {
			flags = 0
		}
		q.put(b, flags, id)
	}
	q.count[id] = uint16(len(bufs))
	return id
}

func (q *packed) put(b buffer, flags, id uint16) {
	if b.write {
		flags |= descWrite
	}
	at := descLen * int(q.next.at)
	q.mem.Put64(at, b.addr)
	if q.hidden == 0 {
		q.first = flags | q.next.available()
		flags |= q.next.hidden()
	} else {
		flags |= q.next.available()
	}
	q.mem.Put64(at+8, word(b.n, id, flags))
	q.next.move(1, q.size)
	q.hidden++
}

// table writes the chain into the table of id (2.8.8): its descriptors follow one
// another without a flag.
func (q *packed) table(id uint16, bufs []buffer) buffer {
	at := q.tables.each * int(id)
	t := buffer{addr: q.tables.iova + uint64(at), n: uint32(descLen * len(bufs))}
	for _, b := range bufs {
		flags := uint16(0)
		if b.write {
			flags = descWrite
		}
		q.tables.mem.Put64(at, b.addr)
		q.tables.mem.Put64(at+8, word(b.n, 0, flags))
		at += descLen
	}
	return t
}

// publish makes the first hidden descriptor available, after all behind it
// (2.8.21.2).
func (q *packed) publish() {
	if q.hidden == 0 {
		return
	}
	at := descLen*int(q.start.at) + 12
	q.mem.Store32(at, q.mem.Get32(at)&0xffff|uint32(q.first)<<16)
	q.out += q.hidden
	q.hidden, q.start = 0, q.next
}

// notify looks behind a barrier, which publish ended with, at the device's event
// suppression structure (2.8.21.3.1): the device wants notifications or none. Without
// VIRTIO_F_EVENT_IDX it may not name a descriptor (2.8.10).
func (q *packed) notify() {
	if q.mem.Load32(q.device)>>16&3 != eventsDisable {
		q.ring()
	}
}

// interrupts writes the driver's event suppression structure (2.8.10).
func (q *packed) interrupts(on bool) {
	flags := uint32(eventsDisable)
	if on {
		flags = eventsEnable
	}
	q.mem.Store32(q.driver, flags<<16)
}

// isUsed reads the name and the flags of the descriptor at s together.
func (q *packed) isUsed(s spot) (id uint16, ok bool) {
	w := q.mem.Load32(descLen*int(s.at) + 12)
	avail, used := w>>16&packedAvail != 0, w>>16&packedUsed != 0
	return uint16(w), avail == s.wrap && used == s.wrap
}

// peek reads used descriptors (2.8.22). The device writes one for a chain, at the
// place of the chain's first.
func (q *packed) peek(i int) (id uint16, n uint32, ok bool, err error) {
	s := q.used
	s.move(i, q.size)
	if id, ok = q.isUsed(s); !ok {
		return 0, 0, false, nil
	}
	switch {
	case i >= q.out:
		return 0, 0, false, errTooMuch
	case int(id) >= q.size || q.count[id] == 0:
		return 0, 0, false, errBadUsed
	}
	return id, q.mem.Get32(descLen*int(s.at) + 8), true, nil
}

// take skips the chain's descriptors.
func (q *packed) take(id uint16) {
	n := int(q.count[id])
	q.count[id] = 0
	q.out -= n
	q.free = append(q.free, id)
	q.used.move(n, q.size)
}

func (q *packed) settle() { q.settled.Store(q.used.word()) }

func (q *packed) pending() bool {
	w := q.settled.Load()
	_, ok := q.isUsed(spot{uint16(w & 0x7fff), w>>15 != 0})
	return ok
}
