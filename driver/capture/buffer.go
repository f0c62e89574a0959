package capture

import (
	"encoding/binary"
	"sync/atomic"

	"github.com/onload-go/onload/ring"
)

// record is a packet as it waits for the file.
type record struct {
	data   []byte // valid until the next pop
	length int    // of the packet; data may be less
	at     int64  // Unix time, ns
	out    bool
}

// recordHead is what stands before the data in the buffer: bytes kept,
// length with the direction in the top bit, time.
const recordHead = 16

// buffer holds records one after the other in a ring of bytes. The stack is
// its producer, the writer its consumer.
type buffer struct {
	b    []byte
	mask uint64
	_    [64]byte
	tail atomic.Uint64
	_    [64]byte
	head atomic.Uint64
	tmp  []byte // consumer's
}

func newBuffer(n int) *buffer {
	size := 4096
	for size < n {
		size *= 2
	}
	return &buffer{b: make([]byte, size), mask: uint64(size - 1)}
}

// put copies p to position at.
func (b *buffer) put(at uint64, p []byte) {
	n := copy(b.b[at&b.mask:], p)
	copy(b.b, p[n:])
}

// get is put's counterpart.
func (b *buffer) get(at uint64, p []byte) {
	n := copy(p, b.b[at&b.mask:])
	copy(p[n:], b.b)
}

// push adds keep bytes of a packet; false when there is no room.
func (b *buffer) push(a *ring.Arena, ds []ring.Desc, length, keep int, at int64, out bool) bool {
	t := b.tail.Load()
	if t-b.head.Load()+uint64(recordHead+keep) > uint64(len(b.b)) {
		return false
	}
	var h [recordHead]byte
	binary.LittleEndian.PutUint32(h[:], uint32(keep))
	l := uint32(length)
	if out {
		l |= 1 << 31
	}
	binary.LittleEndian.PutUint32(h[4:], l)
	binary.LittleEndian.PutUint64(h[8:], uint64(at))
	b.put(t, h[:])
	t += recordHead
	for _, d := range ds {
		p := a.Data(d)
		p = p[:min(len(p), keep)]
		b.put(t, p)
		t += uint64(len(p))
		keep -= len(p)
	}
	b.tail.Store(t)
	return true
}

// pop takes the oldest record.
func (b *buffer) pop() (r record, ok bool) {
	at := b.head.Load()
	if at == b.tail.Load() {
		return r, false
	}
	var h [recordHead]byte
	b.get(at, h[:])
	n := int(binary.LittleEndian.Uint32(h[:]))
	l := binary.LittleEndian.Uint32(h[4:])
	if cap(b.tmp) < n {
		b.tmp = make([]byte, n)
	}
	r = record{data: b.tmp[:n], length: int(l &^ (1 << 31)), at: int64(binary.LittleEndian.Uint64(h[8:])), out: l>>31 != 0}
	b.get(at+recordHead, r.data)
	b.head.Store(at + recordHead + uint64(n))
	return r, true
}
