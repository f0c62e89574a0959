package udp

import (
	"encoding/binary"
	"net/netip"
	"sync/atomic"

	"github.com/onload-go/onload/ring"
)

// A queued datagram is its received frames, linked through Meta.Prev behind
// the first. Where the headers were, in front of the payload, stand the
// addresses: the room of Ethernet, IPv4 and UDP headers is enough.
const (
	offSrc     = 36 // counted back from the payload
	offSrcPort = 20
	offDst     = 18
	offDstPort = 2
)

// MinRoom is the room that Push wants in front of a payload, in bytes.
const MinRoom = offSrc

// Queue is the receive queue of a socket, bounded in the memory that it
// holds: frames, not payload, so that small datagrams cannot pin the arena.
// Push has one caller at a time, Read another; they need no lock between them.
type Queue struct {
	arena *ring.Arena
	box   ring.Mailbox
	next  ring.Frame // taken off box by the reader, not yet read
	held  atomic.Int64
	limit atomic.Int64
}

// Init makes the queue empty, and bounds it to limit bytes of frames.
func (q *Queue) Init(a *ring.Arena, limit int) {
	q.arena, q.next = a, ring.NoFrame
	q.limit.Store(int64(limit))
}

// SetLimit changes the bound; what is queued stays.
func (q *Queue) SetLimit(limit int) { q.limit.Store(int64(limit)) }

// Ready tells whether Read would return a datagram. Of the reader's side.
func (q *Queue) Ready() bool { return q.held.Load() > 0 }

// Push queues the datagram whose payload ds is, and takes its frames. false:
// the queue is full, and the frames are still the caller's. An empty queue
// takes any datagram.
func (q *Queue) Push(ds []ring.Desc, src, dst netip.AddrPort) bool {
	n := int64(len(ds) * q.arena.FrameSize())
	if held := q.held.Load(); held > 0 && held+n > q.limit.Load() {
		return false
	}
	last := ring.NoFrame
	for i := len(ds) - 1; i >= 0; i-- {
		m := q.arena.Meta(ds[i].Frame)
		m.Off, m.Len, m.Prev = ds[i].Off, ds[i].Len, last
		last = ds[i].Frame
	}
	b := q.arena.Bytes(last)[ds[0].Off-MinRoom : ds[0].Off]
	put(b[MinRoom-offSrc:], src)
	put(b[MinRoom-offDst:], dst)
	// Counted before it can be read, so that held never is too small.
	q.held.Add(n)
	q.box.Push(q.arena, last)
	return true
}

func put(b []byte, a netip.AddrPort) {
	ip := a.Addr().As16()
	copy(b, ip[:])
	binary.BigEndian.PutUint16(b[16:], a.Port())
}

func get(b []byte) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom16([16]byte(b)).Unmap(), binary.BigEndian.Uint16(b[16:]))
}

// Read copies one datagram to p: n bytes of the full that it has. ok is false
// when there is none.
func (q *Queue) Read(p []byte) (n, full int, src, dst netip.AddrPort, ok bool) {
	f := q.pop()
	if f == ring.NoFrame {
		return 0, 0, src, dst, false
	}
	off := q.arena.Meta(f).Off
	b := q.arena.Bytes(f)[off-MinRoom : off]
	src, dst = get(b[MinRoom-offSrc:]), get(b[MinRoom-offDst:])
	frames := 0
	for f != ring.NoFrame {
		m := q.arena.Meta(f)
		next, size := m.Prev, int(m.Len)
		if n < len(p) {
			n += copy(p[n:], q.arena.Bytes(f)[m.Off:int(m.Off)+size])
		}
		full += size
		q.arena.Free(f)
		frames++
		f = next
	}
	q.held.Add(-int64(frames * q.arena.FrameSize()))
	return n, full, src, dst, true
}

// pop takes the oldest datagram.
func (q *Queue) pop() ring.Frame {
	if q.next == ring.NoFrame {
		q.next, _ = q.box.TakeAll(q.arena)
	}
	f := q.next
	if f != ring.NoFrame {
		q.next = q.arena.Meta(f).Next
	}
	return f
}

// Drain frees all that is queued.
func (q *Queue) Drain() {
	for {
		if _, _, _, _, ok := q.Read(nil); !ok {
			return
		}
	}
}
