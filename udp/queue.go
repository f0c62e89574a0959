package udp

import (
	"encoding/binary"
	"net/netip"
	"runtime"
	"sync/atomic"

	"github.com/onload-go/onload/ring"
)

// A queued datagram is its received frames, linked through Meta.Prev behind
// the first. Where the headers were, in front of the payload, stand the
// addresses: the room of Ethernet, IPv4 and UDP headers is enough.
const (
	offSrc = 36 // counted back from the payload: address, port
	offDst = 18
)

// MinRoom is the room that Push wants in front of a payload, in bytes.
const MinRoom = offSrc

// Queue is the receive queue of a socket, bounded in the memory that it
// holds: frames, not payload. Push and SetLimit have one caller at a time,
// Read, Ready and Drain another; they need no lock between them.
type Queue struct {
	arena *ring.Arena
	box   ring.Mailbox
	held  atomic.Int64 // bytes of frames; counted when they are in box
	limit atomic.Int64

	next ring.Frame // reader's: taken off box, not yet read to its end
	pos  int        // reader's: next record in that frame, see pack.go; 0: the datagram itself

	loose int // producer's: small datagrams since the last pack
}

// Init makes the queue empty, and bounds it to limit bytes of frames.
func (q *Queue) Init(a *ring.Arena, limit int) {
	q.arena, q.next, q.pos, q.loose = a, ring.NoFrame, 0, 0
	q.held.Store(0)
	q.limit.Store(int64(limit))
}

// SetLimit changes the bound; what is queued stays.
func (q *Queue) SetLimit(limit int) { q.limit.Store(int64(limit)) }

// Held is the memory held, in bytes. For anybody.
func (q *Queue) Held() int { return int(max(q.held.Load(), 0)) }

// Ready reports whether Read would return a datagram. For the reader.
//
// It looks at held, not at box: box is empty for a moment while the producer
// packs, and a reader that went to sleep then might not be woken.
func (q *Queue) Ready() bool { return q.next != ring.NoFrame || q.held.Load() > 0 }

// Push queues the datagram whose payload ds is, headers cut, and takes its
// frames. false: the queue is full, or ds[0] has not MinRoom in front; the
// frames are still the caller's. An empty queue takes any datagram.
func (q *Queue) Push(ds []ring.Desc, src, dst netip.AddrPort) bool {
	if ds[0].Off < MinRoom {
		return false
	}
	n := int64(len(ds) * q.arena.FrameSize())
	if !q.room(n) {
		return false
	}
	last := ring.NoFrame
	for i := len(ds) - 1; i >= 0; i-- {
		m := q.arena.Meta(ds[i].Frame)
		m.Off, m.Len, m.Prev, m.Seq = ds[i].Off, ds[i].Len, last, 0
		last = ds[i].Frame
	}
	b := q.arena.Bytes(last)[ds[0].Off-MinRoom:]
	put(b[MinRoom-offSrc:], src)
	put(b[MinRoom-offDst:], dst)
	if len(ds) == 1 && int(ds[0].Len) <= q.arena.FrameSize()/smallPart {
		q.loose++
	}
	q.box.Push(q.arena, last)
	q.held.Add(n)
	return true
}

// room makes room for n bytes of frames, if that can be.
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

func put(b []byte, a netip.AddrPort) {
	ip := a.Addr().As16()
	copy(b, ip[:])
	binary.BigEndian.PutUint16(b[16:], a.Port())
}

func get(b []byte) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom16([16]byte(b)).Unmap(), binary.BigEndian.Uint16(b[16:]))
}

// Read copies one datagram to p: n bytes of the full that it has, the rest is
// lost. src and dst are where it came from and what it was sent to. ok is
// false when there is none; then Ready reports whether to try again at once.
func (q *Queue) Read(p []byte) (n, full int, src, dst netip.AddrPort, ok bool) {
	if q.next == ring.NoFrame {
		if q.next, _ = q.box.TakeAll(q.arena); q.next == ring.NoFrame {
			if q.held.Load() > 0 {
				runtime.Gosched() // the producer packs
			}
			return 0, 0, src, dst, false
		}
	}
	f := q.next
	m := q.arena.Meta(f)
	b := q.arena.Bytes(f)
	if q.pos > 0 {
		at := q.pos + recordLen
		full = int(binary.BigEndian.Uint16(b[q.pos:]))
		src, dst = get(b[at-offSrc:]), get(b[at-offDst:])
		n = copy(p, b[at:at+full])
		q.advance(at + full)
		return n, full, src, dst, true
	}
	src, dst = get(b[m.Off-offSrc:]), get(b[m.Off-offDst:])
	if m.Prev != ring.NoFrame {
		n, full = q.readChain(p, f)
		return n, full, src, dst, true
	}
	full = int(m.Len)
	n = copy(p, b[m.Off:int(m.Off)+full])
	q.advance(int(m.Off) + full)
	return n, full, src, dst, true
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
	q.next, q.pos = m.Next, 0
	q.arena.Free(f)
	q.held.Add(-int64(q.arena.FrameSize()))
}

// readChain reads a datagram of several frames.
func (q *Queue) readChain(p []byte, f ring.Frame) (n, full int) {
	var free [32]ring.Frame
	k, frames := 0, 0
	q.next = q.arena.Meta(f).Next
	for f != ring.NoFrame {
		m := q.arena.Meta(f)
		n += copy(p[n:], q.arena.Bytes(f)[m.Off:int(m.Off)+int(m.Len)])
		full += int(m.Len)
		if k == len(free) {
			q.arena.FreeN(free[:])
			k = 0
		}
		free[k] = f
		k++
		frames++
		f = m.Prev
	}
	q.arena.FreeN(free[:k])
	q.held.Add(-int64(frames * q.arena.FrameSize()))
	return n, full
}

// Drain frees all that is queued. Nobody pushes meanwhile.
func (q *Queue) Drain() {
	for {
		if _, _, _, _, ok := q.Read(nil); !ok {
			return
		}
	}
}
