package capture

import (
	"encoding/binary"
	"sync/atomic"

	"github.com/onload-go/onload/ring"
)

// record is a packet that waits for the file.
type record struct {
	data   []byte // valid until the next pop
	length int    // of the packet, bytes; data may be less
	at     int64  // Unix time, ns
	out    bool
	why    uint16 // why the packet was dropped, see Capture.reason; 0: it was not
}

// The head of a record in the buffer: bytes kept (4), length with the direction
// in the top bit (4), time (8), reason (2).
const (
	recordWhy  = 16
	recordHead = 18
)

// buffer holds records one behind the other in a ring of bytes. The stack is
// its producer, the writer of the file its consumer.
type buffer struct {
	b    []byte
	mask uint64
	next uint64 // end of the last record; the producer's
	_    [64]byte
	tail atomic.Uint64 // end of the last record that the consumer may see
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

// push adds keep bytes of a packet, for publish to show. ok is false when there
// is no room. at is the position of the record.
func (b *buffer) push(a *ring.Arena, ds []ring.Desc, length, keep int, now int64, out bool) (at uint64, ok bool) {
	at = b.next
	if at-b.head.Load()+uint64(recordHead+keep) > uint64(len(b.b)) {
		return 0, false
	}
	var h [recordHead]byte
	binary.LittleEndian.PutUint32(h[:], uint32(keep))
	l := uint32(length)
	if out {
		l |= 1 << 31
	}
	binary.LittleEndian.PutUint32(h[4:], l)
	binary.LittleEndian.PutUint64(h[8:], uint64(now))
	b.put(at, h[:])
	t := at + recordHead
	for _, d := range ds {
		p := a.Data(d)
		p = p[:min(len(p), keep)]
		b.put(t, p)
		t += uint64(len(p))
		keep -= len(p)
	}
	b.next = t
	return at, true
}

// setWhy writes the reason into the record at position at, which the consumer
// does not see yet.
func (b *buffer) setWhy(at uint64, why uint16) {
	var p [2]byte
	binary.LittleEndian.PutUint16(p[:], why)
	b.put(at+recordWhy, p[:])
}

// publish shows the consumer all records.
func (b *buffer) publish() { b.tail.Store(b.next) }

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
	r = record{
		data: b.tmp[:n], length: int(l &^ (1 << 31)), at: int64(binary.LittleEndian.Uint64(h[8:])), out: l>>31 != 0,
		why: binary.LittleEndian.Uint16(h[recordWhy:]),
	}
	b.get(at+recordHead, r.data)
	b.head.Store(at + recordHead + uint64(n))
	return r, true
}
