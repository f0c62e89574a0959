package udp

import (
	"encoding/binary"
	"math"

	"github.com/onload-go/onload/ring"
)

// A datagram of a few bytes holds a whole frame. When many wait, the producer takes
// them back and packs them: it copies later ones behind the payload of an earlier
// one, as records of length, Info and payload. Meta.Seq is then the end of the last
// record. Frames that the reader has already taken are not touched.
const (
	recordHead = 3 // length of the payload, length of the Info

	// smallPart says which datagrams are worth packing: those below this part of a
	// frame.
	smallPart = 4
	// packAfter is how many small datagrams wait before they are packed while there
	// still is room. Below that, the frames are not worth the copy.
	packAfter = 64
)

// sparse reports whether most of the held bytes are in nearly empty frames. It is
// true once in packAfter datagrams at most, and in a long queue once in half of its
// length. So a datagram costs two copies at most on average.
func (q *Queue) sparse(held int64) bool {
	loose := int64(q.loose * q.arena.FrameSize())
	return q.loose >= packAfter && held >= int64(packAfter*q.arena.FrameSize()) && 2*loose >= held
}

// pack moves small datagrams together. The order stays: what it puts back is
// older than all that Push adds later, and younger than all that the reader has.
func (q *Queue) pack() {
	q.loose = 0
	f, _ := q.box.TakeAll(q.arena)
	into := ring.NoFrame
	for f != ring.NoFrame {
		m := q.arena.Meta(f)
		next := m.Next
		if into != ring.NoFrame && q.append(into, f) {
			q.arena.Free(f)
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

// Add copies a small datagram behind the one that was queued last, if the reader
// has not taken that. It takes no frame. false: Push is to queue the datagram. It
// has the callers of Push.
func (q *Queue) Add(p []byte, info *Info) bool { return q.add(p, info, math.MaxInt64) }

// squeeze is Push for a queue without room: a small datagram may still fit into the
// frame of the last one, of which the queue has counted all.
func (q *Queue) squeeze(ds []ring.Desc, info *Info) bool {
	d := ds[0]
	if len(ds) > 1 || info.Seg != 0 {
		return false
	}
	ok := q.add(q.arena.Bytes(d.Frame)[d.Off:][:d.Len], info, q.limit.Load())
	if ok {
		q.arena.Free(d.Frame)
	}
	return ok
}

// add is Add, unless more than limit bytes were held then.
func (q *Queue) add(p []byte, info *Info, limit int64) bool {
	if !q.small(len(p)) {
		return false
	}
	f := q.box.TakeNewest(q.arena)
	if f == ring.NoFrame {
		return false
	}
	m, b := q.arena.Meta(f), q.arena.Bytes(f)
	at := int(max(m.Seq, uint32(m.Off)+uint32(m.Len)))
	end := at + recordHead + info.room() + len(p)
	ok := end <= len(b) && m.Prev == ring.NoFrame && !joined(b, int(m.Off))
	before := q.charge(f)
	more := q.bytesCharge(end-int(m.Off)) - before
	if ok = ok && q.held.Load()+more <= limit; ok {
		binary.BigEndian.PutUint16(b[at:], uint16(len(p)))
		b[at+recordHead-1] = byte(info.room())
		info.put(b, at+recordHead+info.room())
		copy(b[end-len(p):], p)
		m.Seq = uint32(end)
		q.held.Add(more)
	}
	q.box.Push(q.arena, f)
	return ok
}

// append copies the datagram in f, and the records behind it, to the end of those
// in into. It returns false where they do not fit, or one of the two has several
// frames or is joined.
func (q *Queue) append(into, f ring.Frame) bool {
	to, from := q.arena.Meta(into), q.arena.Meta(f)
	b, src := q.arena.Bytes(into), q.arena.Bytes(f)
	if to.Prev != ring.NoFrame || from.Prev != ring.NoFrame || joined(b, int(to.Off)) || joined(src, int(from.Off)) {
		return false
	}
	at := int(max(to.Seq, uint32(to.Off)+uint32(to.Len)))
	room := roomAt(src, int(from.Off))
	start := int(from.Off) - room
	end := int(max(from.Seq, uint32(from.Off)+uint32(from.Len)))
	dst := b[at:]
	if recordHead+end-start > len(dst) {
		return false
	}
	before := q.charge(into) + q.charge(f)
	binary.BigEndian.PutUint16(dst, from.Len)
	dst[recordHead-1] = byte(room)
	copy(dst[recordHead:], src[start:end])
	to.Seq = uint32(at + recordHead + end - start)
	q.held.Add(q.charge(into) - before)
	return true
}

// joined reports whether the payload at off is that of several datagrams.
func joined(b []byte, off int) bool { return binary.BigEndian.Uint16(b[off-offSeg:]) != 0 }
