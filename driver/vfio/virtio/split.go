package virtio

import (
	"fmt"

	"github.com/onload-go/onload/driver/vfio"
)

// split is a split virtqueue (2.7), in memory that the device writes too. It checks
// what the device says against what the driver remembers in memory of its own.
type split struct {
	mem           vfio.Regs // descriptor table, available ring, used ring
	size          int       // a power of two
	avail, used   int       // offsets in mem
	notify        vfio.Regs // the queue's register
	index         uint16
	next          uint16 // of the available ring
	seen          uint16 // of the used ring
	flags         uint16 // of the available ring
	outstanding   int    // chains that the device has
	free          []uint16
	notifications uint64
}

const (
	descLen   = 16
	descNext  = 1 // more follows
	descWrite = 2 // the device writes

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

// newSplit makes queue i of the device, with at most most entries (4.1.5.1.3).
func newSplit(c *vfio.Container, s *structures, i uint16, most int, vector uint16) (*split, error) {
	r := s.common
	r.Write16(regQueueSelect, i)
	size := int(r.Read16(regQueueSize))
	for size > most {
		size /= 2
	}
	if size == 0 || size&(size-1) != 0 {
		return nil, fmt.Errorf("virtio: queue %d has %d entries", i, r.Read16(regQueueSize))
	}
	q := &split{size: size, index: i, flags: availNoInterrupt}
	var total int
	q.avail, q.used, total = splitBytes(size)
	mem, iova, err := c.Alloc(total)
	if err != nil {
		return nil, err
	}
	q.mem = mem
	for id := size - 1; id >= 0; id-- {
		q.free = append(q.free, uint16(id))
	}
	r.Write16(regQueueSize, uint16(size))
	r.Write16(regQueueVector, vector)
	if got := r.Read16(regQueueVector); got != vector {
		return nil, fmt.Errorf("virtio: queue %d: the device refuses interrupt %d", i, vector)
	}
	for reg, off := range map[int]int{regQueueDesc: 0, regQueueDriver: q.avail, regQueueDevice: q.used} {
		r.Store32(reg, uint32(iova+uint64(off)))
		r.Store32(reg+4, uint32((iova+uint64(off))>>32))
	}
	at := int(r.Read16(regQueueNotifyOff)) * s.multiplier
	if at+2 > len(s.notify) {
		return nil, fmt.Errorf("virtio: queue %d is notified beyond the notify structure", i)
	}
	q.notify = s.notify[at:]
	q.publish()
	r.Write16(regQueueEnable, 1)
	return q, nil
}

// put writes descriptor id.
func (q *split) put(id uint16, addr uint64, n int, flags, next uint16) {
	at := descLen * int(id)
	q.mem.Put64(at, addr)
	q.mem.Put64(at+8, uint64(n)|uint64(flags)<<32|uint64(next)<<48)
}

// offer puts the chain that begins at id on the available ring. The device sees it
// after publish.
func (q *split) offer(id uint16) {
	q.mem.Put16(q.avail+4+2*(int(q.next)&(q.size-1)), id)
	q.next++
	q.outstanding++
}

// publish shows the device what was offered (2.7.13.3).
func (q *split) publish() { q.mem.Store32(q.avail, uint32(q.next)<<16|uint32(q.flags)) }

// interrupts has the device interrupt at the next chain that it has used, or not
// (2.7.7).
func (q *split) interrupts(on bool) {
	q.flags = availNoInterrupt
	if on {
		q.flags = 0
	}
	q.publish()
}

// ring notifies the device unless it looks by itself (2.7.10).
func (q *split) ring() {
	if q.mem.Load32(q.used)&usedNoNotify == 0 {
		q.notify.Write16(0, q.index)
		q.notifications++
	}
}

// usedIndex is how far the device is, modulo 2^16.
func (q *split) usedIndex() uint16 { return uint16(q.mem.Load32(q.used) >> 16) }

// ready returns how many used chains nobody has taken. It is an error if the device
// claims more than it was given.
func (q *split) ready() (int, error) {
	n := int(q.usedIndex() - q.seen)
	if n > q.outstanding {
		return 0, fmt.Errorf("virtio: queue %d: the device has used %d of %d chains", q.index, n, q.outstanding)
	}
	return n, nil
}

// peek returns used element i of those that are ready.
func (q *split) peek(i int) (id, n uint32) {
	at := q.used + 4 + usedLen*(int(q.seen+uint16(i))&(q.size-1))
	return q.mem.Get32(at), q.mem.Get32(at + 4)
}

// taken gives up n used elements.
func (q *split) taken(n int) {
	q.seen += uint16(n)
	q.outstanding -= n
}
