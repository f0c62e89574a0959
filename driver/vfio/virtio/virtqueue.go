package virtio

import (
	"errors"

	"github.com/onload-go/onload/driver/vfio"
)

// virtqueue is a ring of buffers that the device fills or sends (2.6), in the split
// (2.7) or the packed (2.8) layout. Both lie in memory that the device writes too. So
// they check what the device says against what the driver remembers in memory of its
// own.
type virtqueue interface {
	// entries is the number of descriptors.
	entries() int
	// add puts a chain of buffers on the ring, which has a descriptor for each, and
	// returns its name. The device sees the chain after publish.
	add(bufs []buffer) (id uint16)
	publish()
	// notify tells the device what was published, unless it looks by itself.
	notify()
	// peek returns chain i of those that the device has used and take has not taken,
	// and how many bytes the device wrote; ok is false where there is none. Only where
	// all chains have one buffer may i exceed 0.
	peek(i int) (id uint16, n uint32, ok bool, err error)
	// take takes the first used chain, whose name is id, from the ring.
	take(id uint16)
	// settle comes after some calls of take, and before pending.
	settle()
	// pending reports whether peek(0) would find a chain. It is safe without a lock.
	pending() bool
	// interrupts has the device interrupt at the next chain that it uses, or not.
	interrupts(on bool)
	// parts are the device's addresses of the descriptors, and of what each side writes.
	parts() (desc, driver, device uint64)
	where() *place
	// memory is what the ring has mapped.
	memory() [][]byte
}

// buffer is a piece of memory, at the device's address of it.
type buffer struct {
	addr  uint64
	n     uint32
	write bool // the device writes
}

var (
	errBadUsed  = errors.New("virtio: the device has used a buffer that it does not have")
	errTooMuch  = errors.New("virtio: the device has used more buffers than it has")
	errBadLen   = errors.New("virtio: the device says a length that its buffer does not have")
	errCut      = errors.New("virtio: the device has used a part of a packet")
	errNotAgree = errors.New("virtio: the device describes a packet with features that were not agreed on")
)

// Flags of a descriptor (2.7.5, 2.8.1).
const (
	descLen      = 16
	descNext     = 1 // more follows
	descWrite    = 2 // the device writes
	descIndirect = 4 // a table of descriptors
)

// tables are a table of descriptors for each chain, which then takes one descriptor
// of the ring (2.7.5.3, 2.8.8).
type tables struct {
	mem  vfio.Regs
	iova uint64
	each int // bytes
}

func newTables(c allocator, chains, buffers int) (t tables, err error) {
	t.each = descLen * buffers
	t.mem, t.iova, err = c.Alloc(chains * t.each)
	return t, err
}

// allocator makes memory that the device reads and writes: a vfio.Container.
type allocator interface {
	Alloc(n int) (mem vfio.Regs, iova uint64, err error)
}

// word is the second half of a descriptor: its length; flags and the next one in a
// split ring (2.7.5), a name and flags in a packed one (2.8.13).
func word(n uint32, third, fourth uint16) uint64 {
	return uint64(n) | uint64(third)<<32 | uint64(fourth)<<48
}

// newVirtqueue makes a virtqueue in the layout that was agreed on.
func newVirtqueue(c allocator, size, buffers int, features uint64) (virtqueue, error) {
	if features&featPacked != 0 {
		return newPacked(c, size, buffers, features)
	}
	return newSplit(c, size, buffers, features)
}
