package ring

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Meta is what the stack knows of a frame, in one cache line without pointers. Its
// fields belong to the current owner of the frame. Ownership moves with the frame
// through the free list, a Mailbox or the stack lock.
type Meta struct {
	link atomic.Uint32 // free list and Mailbox

	// Links of the list that the owner keeps the frame on.
	Next, Prev Frame

	Seq      uint32 // TCP sequence number of the first payload byte
	Off, Len uint16 // payload inside the frame, bytes
	Sum      uint16 // TX: ones' complement sum of the payload, see ip.Sum, once it is known
	Flags    uint16 // owner's
	refs     uint16 // holders: the owner, and each time that it is in the NIC's ring
	inNIC    uint16 // how often it is in the NIC's ring
	Retrans  uint16 // times retransmitted
	Lost     uint16 // bytes taken for lost at SentAt, in TCP's unit

	Stamp // of the last transmission

	// A second list of the owner's: TCP keeps frames by time of transmission
	// too (RFC 8985).
	TimeNext, TimePrev Frame
}

// Stamp is when a frame was sent, and what TCP had seen by then (delivery rate
// samples). TCP chooses the unit of the ages.
type Stamp struct {
	SentAt    int64  // ns
	Delivered uint32 // bytes delivered, modulo 2^32
	AckAge    uint32 // time since something was last delivered
	SendAge   uint32 // time since the newest of that was sent
	Flight    uint32 // bytes in flight, this frame included
}

// Arena is a block of memory off the Go heap, cut into equal frames. It is the UMEM
// of an AF_XDP socket or the DMA memory of a NIC. Alloc and Free may be called from
// any goroutine; everything else belongs to the frame's owner.
type Arena struct {
	mem   []byte
	meta  []Meta
	shift uint
	size  int
	huge  bool
	file  *os.File // of a shared arena; else nil

	closed atomic.Bool

	_    [64]byte
	head atomic.Uint64 // tag<<32 | frame+1; the tag defeats ABA
	_    [56]byte
	free atomic.Int64
}

// NewArena maps frames chunks of frameSize bytes (2048 or 4096). It takes
// huge pages where the system has them reserved.
func NewArena(frames, frameSize int) (*Arena, error) {
	return newArena(frames, frameSize, (*Arena).mapMem)
}

func newArena(frames, frameSize int, mapMem func(a *Arena, n int) ([]byte, error)) (*Arena, error) {
	if frameSize != 2048 && frameSize != 4096 {
		return nil, fmt.Errorf("ring: frame size %d: must be 2048 or 4096", frameSize)
	}
	if frames <= 0 || frames > 1<<24 {
		return nil, fmt.Errorf("ring: %d frames: must be 1 to 16777216", frames)
	}
	a := &Arena{size: frameSize}
	mapped, err := mapMem(a, frames*frameSize)
	if err != nil {
		return nil, fmt.Errorf("ring: mmap of %d frames: %w", frames, err)
	}
	// A child that is forked (cgo) does without: the device has these pages, and the
	// kernel would copy them all or, before Linux 5.19, leave it the child's copy.
	_ = unix.Madvise(mapped, unix.MADV_DONTFORK)
	runtime.AddCleanup(a, func(mem []byte) { _ = unix.Munmap(mem) }, mapped)
	for a.shift = 11; 1<<a.shift != frameSize; a.shift++ {
	}
	a.meta = make([]Meta, frames)
	for i := frames - 1; i >= 0; i-- {
		a.push(Frame(i), Frame(i))
	}
	a.free.Store(int64(frames))
	return a, nil
}

const hugePage = 2 << 20

// mapMem sets mem to n bytes and returns the mapping that holds them. Reserved huge
// pages are best, transparent ones next: inside a virtual machine a page-table walk
// for each small page costs most.
func (a *Arena) mapMem(n int) (mapped []byte, err error) {
	const prot, flags = unix.PROT_READ | unix.PROT_WRITE, unix.MAP_PRIVATE | unix.MAP_ANONYMOUS
	if n < hugePage {
		a.mem, err = unix.Mmap(-1, 0, n, prot, flags|unix.MAP_POPULATE)
		return a.mem, err
	}
	if n%hugePage == 0 {
		a.mem, err = unix.Mmap(-1, 0, n, prot, flags|unix.MAP_HUGETLB|unix.MAP_POPULATE)
		if err == nil {
			a.huge = true
			return a.mem, nil
		}
	}
	mapped, err = unix.Mmap(-1, 0, n+hugePage, prot, flags)
	if err != nil {
		return nil, err
	}
	off := -int(uintptr(unsafe.Pointer(&mapped[0]))) & (hugePage - 1)
	a.mem = mapped[off : off+n : off+n]
	// An old or small kernel may refuse either. Then pages are small, or come only
	// when they are first used.
	_ = unix.Madvise(a.mem, unix.MADV_HUGEPAGE)
	_ = unix.Madvise(a.mem, unix.MADV_POPULATE_WRITE)
	return mapped, nil
}

// Close gives the pages back; no device may use them any more. The addresses
// stay mapped until nothing refers to the Arena: a goroutine that reads a
// frame at this moment finds zeros, not a fault.
func (a *Arena) Close() error {
	if a.closed.Swap(true) {
		return errors.New("ring: arena closed twice")
	}
	if a.file != nil {
		return a.dropShared()
	}
	return unix.Madvise(a.mem, unix.MADV_DONTNEED)
}

// Mem is the whole area, for registration with a device.
func (a *Arena) Mem() []byte { return a.mem }

// FrameSize is the size of a frame in bytes.
func (a *Arena) FrameSize() int { return a.size }

// InFrames is how many whole frames fit into n bytes.
func (a *Arena) InFrames(n int) int { return n >> a.shift }

// Frames is the number of frames.
func (a *Arena) Frames() int { return len(a.meta) }

// FreeFrames is the number of free frames, a moment ago.
func (a *Arena) FreeFrames() int { return int(a.free.Load()) }

// Huge reports whether the memory is on huge pages.
func (a *Arena) Huge() bool { return a.huge }

// Meta returns what is known of f.
func (a *Arena) Meta(f Frame) *Meta { return &a.meta[f] }

// Bytes returns the whole frame.
func (a *Arena) Bytes(f Frame) []byte {
	o := int(f) << a.shift
	return a.mem[o : o+a.size : o+a.size]
}

// Data returns the bytes that d names.
func (a *Arena) Data(d Desc) []byte {
	o := int(d.Frame)<<a.shift + int(d.Off)
	return a.mem[o : o+int(d.Len) : o+int(d.Len)]
}

// FrameAt returns the frame that holds byte off of Mem. ok is false if off is
// outside (a corrupted ring).
func (a *Arena) FrameAt(off uint64) (f Frame, ok bool) {
	f = Frame(off >> a.shift)
	return f, off < uint64(len(a.mem))
}

// Alloc takes a frame, with one reference and a cleared list position. ok is
// false when none is free.
func (a *Arena) Alloc() (f Frame, ok bool) {
	for {
		h := a.head.Load()
		if uint32(h) == 0 {
			return NoFrame, false
		}
		f = Frame(uint32(h) - 1)
		next := a.meta[f].link.Load()
		if a.head.CompareAndSwap(h, (h>>32+1)<<32|uint64(next)) {
			a.free.Add(-1)
			a.claim(f)
			return f, true
		}
	}
}

// AllocN takes up to len(fs) frames and returns how many it got.
func (a *Arena) AllocN(fs []Frame) int {
	n := a.takeN(fs)
	for _, f := range fs[:n] {
		a.claim(f)
	}
	return n
}

// takeN unlinks up to len(fs) frames from the free list.
func (a *Arena) takeN(fs []Frame) int {
	if len(fs) == 0 {
		return 0
	}
	for {
		h := a.head.Load()
		n, at := 0, uint32(h)
		// The walk may read links of frames that others take meanwhile. Then the
		// tag has moved, and the swap fails.
		for n < len(fs) && at != 0 {
			fs[n] = Frame(at - 1)
			at = a.meta[fs[n]].link.Load()
			n++
		}
		if n == 0 {
			return 0
		}
		if a.head.CompareAndSwap(h, (h>>32+1)<<32|uint64(at)) {
			a.free.Add(-int64(n))
			return n
		}
	}
}

func (a *Arena) claim(f Frame) {
	m := &a.meta[f]
	m.refs, m.inNIC, m.Flags, m.Retrans = 1, 0, 0, 0
	m.Next, m.Prev = NoFrame, NoFrame
}

// push links the chain first..last in front of the free list.
func (a *Arena) push(first, last Frame) {
	for {
		h := a.head.Load()
		a.meta[last].link.Store(uint32(h))
		if a.head.CompareAndSwap(h, (h>>32+1)<<32|uint64(first+1)) {
			return
		}
	}
}

// Free gives back a frame that has one reference and is in no ring. Release gives
// back frames that may have other holders.
func (a *Arena) Free(f Frame) {
	if a.meta[f].refs != 1 {
		panic(fmt.Sprintf("ring: free of frame %d with %d references", f, a.meta[f].refs))
	}
	a.meta[f].refs = 0
	a.free.Add(1)
	a.push(f, f)
}

// FreeN gives back frames like Free, in one step.
func (a *Arena) FreeN(fs []Frame) {
	for _, f := range fs {
		if a.meta[f].refs != 1 {
			panic(fmt.Sprintf("ring: free of frame %d with %d references", f, a.meta[f].refs))
		}
		a.meta[f].refs = 0
	}
	a.pushN(fs)
}

// pushN links frames without references in front of the free list.
func (a *Arena) pushN(fs []Frame) {
	if len(fs) == 0 {
		return
	}
	for i, f := range fs[1:] {
		a.meta[fs[i]].link.Store(uint32(f) + 1)
	}
	a.free.Add(int64(len(fs)))
	a.push(fs[0], fs[len(fs)-1])
}

// Release drops one reference, and frees f with the last. Like Posted and
// Completed it is called under the stack lock.
func (a *Arena) Release(f Frame) {
	m := &a.meta[f]
	if m.refs > 1 {
		m.refs--
		return
	}
	a.Free(f)
}

// Posted notes that f went into the NIC's transmit ring, which holds it.
func (a *Arena) Posted(f Frame) {
	a.meta[f].refs++
	a.meta[f].inNIC++
}

// Completed notes that the NIC is done with f once. ok is false if f was in no
// ring: the ring is corrupt.
func (a *Arena) Completed(f Frame) (ok bool) {
	m := &a.meta[f]
	if m.inNIC == 0 {
		return false
	}
	m.inNIC--
	a.Release(f)
	return true
}

// InNIC reports whether f is in the NIC's ring, so that its headers must not be
// overwritten.
func (a *Arena) InNIC(f Frame) bool { return a.meta[f].inNIC != 0 }
