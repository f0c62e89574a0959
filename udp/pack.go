package udp

import (
	"encoding/binary"

	"github.com/onload-go/onload/ring"
)

// A datagram of a few bytes holds a whole frame. When many wait, the producer
// takes them back and packs them: the bytes of later ones go behind the
// payload of an earlier one as records, each its length, its addresses and
// its payload. Meta.Seq is then the end of the last record. Frames that the
// reader has taken already are not touched.
const (
	recordLen = 2 + offSrc

	// smallPart: a datagram below this part of a frame is worth packing.
	smallPart = 4
	// packAfter is how many small datagrams wait before they are packed while
	// there still is room: below, the frames are not worth the copy.
	packAfter = 64
)

// sparse reports whether most of the held bytes are in frames with little in
// them. It is true once in packAfter datagrams at most, and in a long queue
// once in half of its length, so that a datagram costs two copies at most on
// average.
func (q *Queue) sparse(held int64) bool {
	loose := int64(q.loose * q.arena.FrameSize())
	return q.loose >= packAfter && held >= int64(packAfter*q.arena.FrameSize()) && 2*loose >= held
}

// pack moves small datagrams together. Order is kept: what is put back is
// older than all that Push adds later, and younger than all that the reader
// has.
func (q *Queue) pack() {
	q.loose = 0
	f, _ := q.box.TakeAll(q.arena)
	into := ring.NoFrame
	for f != ring.NoFrame {
		m := q.arena.Meta(f)
		next := m.Next
		if into != ring.NoFrame && q.append(into, f) {
			q.arena.Free(f)
			q.held.Add(-int64(q.arena.FrameSize()))
			f = next
			continue
		}
		if into != ring.NoFrame {
			q.box.Push(q.arena, into)
		}
		into = f
		f = next
	}
	if into != ring.NoFrame {
		q.box.Push(q.arena, into)
	}
}

// append copies the datagram in f, and the records behind it, behind what
// into holds; false: they do not fit, or one of the two has more frames.
func (q *Queue) append(into, f ring.Frame) bool {
	to, from := q.arena.Meta(into), q.arena.Meta(f)
	if to.Prev != ring.NoFrame || from.Prev != ring.NoFrame {
		return false
	}
	at := int(max(to.Seq, uint32(to.Off)+uint32(to.Len)))
	start := int(from.Off) - MinRoom
	end := int(max(from.Seq, uint32(from.Off)+uint32(from.Len)))
	dst := q.arena.Bytes(into)[at:]
	if 2+end-start > len(dst) {
		return false
	}
	binary.BigEndian.PutUint16(dst, from.Len)
	copy(dst[2:], q.arena.Bytes(f)[start:end])
	to.Seq = uint32(at + 2 + end - start)
	return true
}
