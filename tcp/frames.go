package tcp

import (
	"github.com/onload-go/onload/ip"
	"github.com/onload-go/onload/ring"
)

// Frames are received frames on their way from one connection's receive queue
// to another's send queue. The caller of Take owns them until Give or Drop.
type Frames struct {
	arena *ring.Arena
	first ring.Frame // n of them through Meta.Next
	n     int
	bytes int
}

// Len is the number of payload bytes in t.
func (t *Frames) Len() int { return t.bytes }

// Take fills t, which is empty, with received frames of at most n bytes together.
// cut says that the first waiting frame has more than n bytes, so that Read must
// take a part of it. eof and update are as with Read. The reader may call it.
func (c *Conn) Take(t *Frames, n int) (cut, eof, update bool) {
	a := c.h.Arena
	*t = Frames{arena: a}
	f, last := c.readList, ring.NoFrame
	for t.bytes < n {
		if f == ring.NoFrame {
			// The mark first: the FIN is marked after all data was pushed.
			end := c.flags.Load()&sharedEOF != 0
			if f, _ = c.rcvBox.TakeAll(a); f == ring.NoFrame {
				eof = end && t.n == 0
				break
			}
		}
		m := a.Meta(f)
		if t.bytes+int(m.Len) > n {
			cut = t.n == 0
			break
		}
		if last == ring.NoFrame {
			t.first = f
		} else {
			a.Meta(last).Next = f
		}
		last, f = f, m.Next
		t.n++
		t.bytes += int(m.Len)
	}
	c.readList = f
	if t.n == 0 {
		return cut, eof, false
	}
	c.rcvUsed.add(-t.n, -t.bytes)
	return false, false, c.worthUpdate(c.rcvEdge.Load())
}

// Untake puts what is left in t in front of what waits. The reader may call it, if nobody
// has read since Take.
func (c *Conn) Untake(t *Frames) {
	if t.n == 0 {
		return
	}
	last := t.first
	for range t.n - 1 {
		last = t.arena.Meta(last).Next
	}
	t.arena.Meta(last).Next = c.readList
	c.readList = t.first
	c.rcvUsed.add(t.n, t.bytes)
	*t = Frames{arena: t.arena}
}

// Give moves frames of t to the send buffer and returns how many bytes that were.
// Frames that stay in t did not fit, or the buffer is closed for writing. Frames of
// another arena are copied, as are those that could not be sent as they are. As
// with Write, the caller lets Output run afterwards. Safe without the lock, for the
// writer.
func (c *Conn) Give(t *Frames) (n int) {
	n = c.give(t)
	if t.n == 0 || c.flags.Load()&sharedNoWrite != 0 {
		return n
	}
	c.flags.Or(sharedWantWrite) // and look again, as Write
	return n + c.give(t)
}

func (c *Conn) give(t *Frames) (n int) {
	if t.arena == c.h.Arena {
		n = c.move(t)
		if t.n == 0 || c.movable(t.arena.Meta(t.first)) {
			return n
		}
	}
	a := c.h.Arena
	var fs [writeBatch]ring.Frame
	for t.n > 0 {
		r := c.reserve(fs[:], t.bytes)
		if r.n == 0 {
			break
		}
		n += r.bytes
		for _, f := range fs[:r.n] {
			k := min(r.bytes, r.chunk)
			m := a.Meta(f)
			m.Sum = t.copyTo(c.h, a.Bytes(f)[ring.Headroom:ring.Headroom+k])
			m.Off, m.Len = ring.Headroom, uint16(k)
			c.sndBox.Push(a, f)
			r.bytes -= k
		}
	}
	return n
}

// movable reports whether a received frame can be sent as it is: there is room
// for the headers, and it is not longer than a packet.
func (c *Conn) movable(m *ring.Meta) bool {
	return m.Off >= ring.Headroom && uint32(m.Len) <= c.packet.Load()
}

// move hands over the frames of t up to the first that is not movable, or finds
// no room.
func (c *Conn) move(t *Frames) (n int) {
	if c.flags.Load()&sharedNoWrite != 0 {
		return 0
	}
	a := c.h.Arena
	limit := int(c.sndLimit.Load())
	for t.n > 0 {
		f := t.first
		m := a.Meta(f)
		frames, used := c.sndUsed.load()
		if !c.movable(m) || used+int(m.Len) > limit || frames >= min(sendFrames(limit), c.sendShare()) {
			break
		}
		k := int(m.Len)
		t.first = m.Next
		t.n--
		t.bytes -= k
		n += k
		m.Flags, m.Retrans = frameMoved, 0
		c.sumLater(f, m)
		c.sndUsed.add(1, k)
		c.sndBox.Push(a, f)
	}
	return n
}

// copyTo moves the first len(to) bytes of t to to, and returns their sum for h, as
// Host.Fill does. t has as many.
func (t *Frames) copyTo(h *Host, to []byte) (sum uint16) {
	a := t.arena
	for n := 0; n < len(to); {
		f := t.first
		m := a.Meta(f)
		k := min(int(m.Len), len(to)-n)
		s := h.Fill(to[n:], a.Bytes(f)[m.Off:int(m.Off)+k])
		if n&1 != 0 {
			s = ip.Swap(s)
		}
		sum = ip.Add(sum, s)
		n += k
		t.bytes -= k
		m.Off += uint16(k)
		if m.Len -= uint16(k); m.Len == 0 {
			t.first = m.Next
			t.n--
			a.Free(f)
		}
	}
	return sum
}

// Drop frees what is in t. Safe without the lock.
func (t *Frames) Drop() {
	for ; t.n > 0; t.n-- {
		f := t.first
		t.first = t.arena.Meta(f).Next
		t.arena.Free(f)
	}
	t.bytes = 0
}
