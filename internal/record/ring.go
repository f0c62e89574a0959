// Package record keeps recorded packets in a ring of memory, which a process may share
// with the one that reads them. The writer never waits: what finds no room is counted and
// lost.
//
// # The ring
//
// A ring has one writer and one reader. It begins with a head of headSize bytes; its data,
// a power of two of bytes, follows. All numbers are little-endian.
//
//	offset  written by
//	0       writer  magic: the ring is in use
//	8       writer  tail: where the next record begins that the reader does not see yet
//	16      writer  packets that were lost because the ring was full
//	64      reader  head: where the first record begins that the reader has not taken
//
// Head and tail count on for ever; a place is their remainder by the size of the data. The
// writer believes the reader nothing but head, and that only as far as it makes sense.
//
// A record has a head of recordSize bytes and data that fills up to a multiple of 8.
package record

import (
	"encoding/binary"
	"sync/atomic"
	"unsafe"
)

const (
	magic    = 0x31646c6f6e6f // "onold1"
	headSize = 128

	offMagic = 0
	offTail  = 8
	offLost  = 16
	offHead  = 64
)

// Kinds of records.
const (
	kindPacket    = 1
	kindInterface = 2 // data: the name of the interface with that number
	kindReason    = 3 // data: the reason with that number
)

// The head of a record.
const (
	atSize   = 0  // 4 bytes: of the whole record
	atKind   = 4  // 1
	atFlags  = 5  // 1
	atReason = 6  // 2: why the packet was dropped; 0: it was not
	atTime   = 8  // 8: Unix time, ns
	atLength = 16 // 4: of the packet, bytes
	atKept   = 20 // 4: of its data here
	atLink   = 24 // 2: number of the interface
	atQueue  = 26 // 2

	recordSize = 32
)

const (
	flagOut  = 1 // the packet was sent
	flagSkip = 2 // the record is none
)

// Size returns how many bytes of memory a ring takes that keeps at least n bytes.
func Size(n int) int {
	data := 4096
	for data < n {
		data *= 2
	}
	return headSize + data
}

// memory is a ring, for both sides.
type memory struct {
	magic, tail, lost, head *atomic.Uint64
	data                    []byte
	mask                    uint64
}

// over is a ring in mem, which begins at a multiple of 8. ok is false where mem has no
// size of a ring.
func over(mem []byte) (m memory, ok bool) {
	n := len(mem) - headSize
	if n < 4096 || n&(n-1) != 0 {
		return m, false
	}
	at := func(off int) *atomic.Uint64 { return (*atomic.Uint64)(unsafe.Pointer(&mem[off])) }
	return memory{at(offMagic), at(offTail), at(offLost), at(offHead), mem[headSize:], uint64(n - 1)}, true
}

// put copies p to position at.
func (m *memory) put(at uint64, p []byte) {
	n := copy(m.data[at&m.mask:], p)
	copy(m.data, p[n:])
}

// get is put's counterpart.
func (m *memory) get(at uint64, p []byte) {
	n := copy(p, m.data[at&m.mask:])
	copy(p[n:], m.data)
}

// head is the head of a record.
type head [recordSize]byte

func (h *head) put16(at int, v uint16) { binary.LittleEndian.PutUint16(h[at:], v) }
func (h *head) put32(at int, v uint32) { binary.LittleEndian.PutUint32(h[at:], v) }
func (h *head) put64(at int, v uint64) { binary.LittleEndian.PutUint64(h[at:], v) }

func (h *head) get16(at int) uint16 { return binary.LittleEndian.Uint16(h[at:]) }
func (h *head) get32(at int) uint32 { return binary.LittleEndian.Uint32(h[at:]) }
func (h *head) get64(at int) uint64 { return binary.LittleEndian.Uint64(h[at:]) }

// padded is n bytes of data with the head of their record, up to a multiple of 8.
func padded(n int) uint64 { return uint64(recordSize+n+7) &^ 7 }
