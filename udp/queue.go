package udp

import (
	"encoding/binary"
	"runtime"
	"sync/atomic"

	"github.com/onload-go/onload/ring"
)

// Queue is the receive queue of a socket, bounded in the memory that it holds, as
// the kernel would count it (charge.go). A queued datagram is its received frames,
// linked through Meta.Prev behind the first. Push, Add and SetLimit have one caller
// at a time, Read, Ready and Drain another; the two need no lock between them.
type Queue struct {
	arena *ring.Arena
	box   ring.Mailbox
	held  atomic.Int64 // charges of what is queued; counted when it is in box
	limit atomic.Int64

	next ring.Frame // reader's: taken off box, not yet read to its end
	pos  int        // reader's: next record in that frame, see pack.go; 0: the datagram itself
	part part       // reader's: what is left of joined datagrams

	loose int // producer's: small datagrams since the last pack
}

// Init makes the queue empty, and bounds it to limit bytes.
func (q *Queue) Init(a *ring.Arena, limit int) {
	q.arena, q.next, q.pos, q.loose = a, ring.NoFrame, 0, 0
	q.part.left = 0
	q.held.Store(0)
	q.limit.Store(int64(limit))
}

// SetLimit changes the bound. What is queued stays.
func (q *Queue) SetLimit(limit int) { q.limit.Store(int64(limit)) }

// Limit is the bound.
func (q *Queue) Limit() int { return int(q.limit.Load()) }

// Held is what the queued datagrams count, in bytes. Anybody may call it.
func (q *Queue) Held() int { return int(max(q.held.Load(), 0)) }

// Ready reports whether Read would return a datagram. The reader calls it.
//
// It looks at held, not at box: box is empty for a moment while the producer
// packs, and a reader that went to sleep then might not be woken.
func (q *Queue) Ready() bool { return q.next != ring.NoFrame || q.held.Load() > 0 }

// Push queues the datagram whose payload, without headers, is ds, and takes its
// frames. Datagrams that came as one (info.Seg) stay together until Read cuts them.
// false: the queue is full, or ds[0] has no room for info in front; the frames are
// still the caller's. An empty queue takes any datagram.
func (q *Queue) Push(ds []ring.Desc, info *Info) bool {
	if int(ds[0].Off) < info.room() {
		return false
	}
	n := q.chargeOf(ds)
	if !q.room(n) {
		return q.squeeze(ds, info)
	}
	last := ring.NoFrame
	for i := len(ds) - 1; i >= 0; i-- {
		m := q.arena.Meta(ds[i].Frame)
		m.Off, m.Len, m.Prev, m.Seq = ds[i].Off, ds[i].Len, last, 0
		last = ds[i].Frame
	}
	info.put(q.arena.Bytes(last), int(ds[0].Off))
	if len(ds) == 1 && info.Seg == 0 && q.small(int(ds[0].Len)) {
		q.loose++
	}
	q.box.Push(q.arena, last)
	q.held.Add(n)
	return true
}

// room makes room for n bytes if possible, and reports whether there is.
func (q *Queue) room(n int64) bool {
	held := q.held.Load()
	full := held > 0 && held+n > q.limit.Load()
	if q.loose > 1 && (full || q.sparse(held)) {
		q.pack()
		held = q.held.Load()
		full = held > 0 && held+n > q.limit.Load()
	}
	return !full
}

// Read copies one datagram to p, and fills info. The datagram has full bytes, of
// which n are copied; the rest is lost. If joined is true, datagrams that came as
// one are read as one, and info.Seg says where to cut them; otherwise info.Seg is
// 0. ok is false if there is none; then Ready reports whether to try again at once.
func (q *Queue) Read(p []byte, info *Info, joined bool) (n, full int, ok bool) {
	if q.next == ring.NoFrame {
		if q.next, _ = q.box.TakeAll(q.arena); q.next == ring.NoFrame {
			if q.held.Load() > 0 {
				runtime.Gosched() // the producer packs
			}
			return 0, 0, false
		}
	}
	f := q.next
	m := q.arena.Meta(f)
	b := q.arena.Bytes(f)
	if q.pos > 0 {
		full = int(binary.BigEndian.Uint16(b[q.pos:]))
		at := q.pos + recordHead
		at += int(b[at-1])
		info.get(b, at)
		n = copy(p, b[at:at+full])
		q.advance(at + full)
		return n, full, true
	}
	info.get(b, int(m.Off))
	if info.Seg != 0 || m.Prev != ring.NoFrame {
		n, full = q.readChain(p, f, info, joined)
		return n, full, true
	}
	full = int(m.Len)
	n = copy(p, b[m.Off:int(m.Off)+full])
	q.advance(int(m.Off) + full)
	return n, full, true
}

// advance moves to the record at pos of the current frame, or, behind the
// last, to the next frame.
func (q *Queue) advance(pos int) {
	m := q.arena.Meta(q.next)
	if pos < int(m.Seq) {
		q.pos = pos
		return
	}
	f := q.next
	n := q.charge(f)
	q.next, q.pos = m.Next, 0
	q.arena.Free(f)
	q.held.Add(-n)
}

// Drain frees everything queued. Nobody pushes meanwhile.
func (q *Queue) Drain() {
	var info Info
	for {
		if _, _, ok := q.Read(nil, &info, true); !ok {
			return
		}
	}
}
