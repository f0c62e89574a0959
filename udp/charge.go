package udp

import "github.com/onload-go/onload/ring"

// frameOverhead is what a frame counts besides its bytes: the kernel adds its struct
// sk_buff (256 bytes) and struct skb_shared_info (320) to each buffer (skb->truesize),
// and rounds up. With it a queue keeps at least as many datagrams as the kernel's
// socket does with the same SO_RCVBUF (TestUDPRcvbufAsKernel).
const frameOverhead = 512

// charge returns what the datagrams in the frames from f on count against the limit:
// their bytes and the overhead of each frame, at most whole frames. A small datagram
// that has a frame to itself counts all of it. There may be many of those, and once
// they are packed they count less than the kernel's.
func (q *Queue) charge(f ring.Frame) (n int64) {
	m := q.arena.Meta(f)
	if m.Prev == ring.NoFrame && m.Seq == 0 && q.small(int(m.Len)) {
		return int64(q.arena.FrameSize())
	}
	for {
		end := max(m.Seq, uint32(m.Off)+uint32(m.Len))
		n += q.bytesCharge(int(end) - int(m.Off))
		if m.Prev == ring.NoFrame {
			return n
		}
		m = q.arena.Meta(m.Prev)
	}
}

// chargeOf is charge of a datagram that is not queued yet.
func (q *Queue) chargeOf(ds []ring.Desc) (n int64) {
	if len(ds) == 1 && q.small(int(ds[0].Len)) {
		return int64(q.arena.FrameSize())
	}
	for i := range ds {
		n += q.bytesCharge(int(ds[i].Len))
	}
	return n
}

// bytesCharge is the charge of n bytes in a frame.
func (q *Queue) bytesCharge(n int) int64 { return int64(min(q.arena.FrameSize(), frameOverhead+n)) }

// small reports whether a datagram of n bytes is worth packing.
func (q *Queue) small(n int) bool { return n <= q.arena.FrameSize()/smallPart }
