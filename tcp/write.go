package tcp

import (
	"github.com/onload-go/onload/ip"
	"github.com/onload-go/onload/ring"
)

// Bits of Meta.Flags on the send queue.
const (
	frameSacked   = 1 << iota // the peer holds it (RFC 2018)
	frameLost                 // taken for lost
	frameRetrans              // its retransmission is in flight
	frameFIN                  // stands for the FIN; no payload
	frameTimed                // on the list by time of transmission
	frameStamped              // it carries a stamp for rate samples
	frameLimited              // the application did not fill the path when it was sent
	frameUnsummed             // Meta.Sum is still to be computed, if needed
	frameMoved                // it came as a whole frame, not by a copy
)

// writeBatch is how many frames Write takes from the arena at once.
const writeBatch = 32

// sendFrames is the number of frames that a send buffer of limit bytes may hold:
// enough for full segments of 512 bytes. The limit keeps tiny writes from pinning
// the arena.
func sendFrames(limit int) int { return limit/512 + 16 }

// Write copies from p into the send buffer and returns how many bytes. 0 means that
// the buffer is full, or closed for writing. The caller lets Output run afterwards,
// also when n is 0: Output sees that a writer waits. Safe without the lock, for one
// writer at a time.
func (c *Conn) Write(p []byte) (n int) {
	n = c.write(p)
	if n == len(p) || c.flags.Load()&sharedNoWrite != 0 {
		return n
	}
	// The buffer is full. Say so, then look again: an acknowledgement in between
	// saw no waiting writer.
	c.flags.Or(sharedWantWrite)
	return n + c.write(p[n:])
}

func (c *Conn) write(p []byte) (n int) {
	a := c.h.Arena
	var fs [writeBatch]ring.Frame
	for n < len(p) {
		r := c.reserve(fs[:], len(p)-n)
		if r.n == 0 {
			break
		}
		for _, f := range fs[:r.n] {
			k := min(r.bytes, r.chunk)
			m := a.Meta(f)
			m.Sum = c.h.Fill(a.Bytes(f)[ring.Headroom:], p[n:n+k])
			m.Off, m.Len = ring.Headroom, uint16(k)
			c.sndBox.Push(a, f)
			n += k
			r.bytes -= k
		}
	}
	return n
}

// WriteNow is Write under the lock, for data that fits into one frame. It avoids
// the hand-over that Write pays for. It takes all of p or nothing; in the latter
// case the caller uses Write.
func (c *Conn) WriteNow(p []byte) bool {
	frames, used := c.sndUsed.load()
	limit := int(c.sndLimit.Load())
	if len(p) > int(c.chunk.Load()) || used+len(p) > limit || c.flags.Load()&sharedNoWrite != 0 || c.has(markFinQueued|markDead) {
		return false
	}
	c.pull()
	if c.extend(p) {
		return true
	}
	if frames >= min(sendFrames(limit), c.sendShare()) {
		return false
	}
	f, ok := c.h.Cache.Alloc()
	if !ok {
		return false
	}
	m := c.h.Arena.Meta(f)
	m.Sum = c.h.Fill(c.h.Arena.Bytes(f)[ring.Headroom:], p)
	m.Off, m.Len = ring.Headroom, uint16(len(p))
	c.sndUsed.add(1, len(p))
	c.enqueue(f)
	return true
}

// extend writes p behind the last unsent frame, if there is room for all of it.
func (c *Conn) extend(p []byte) bool {
	if c.sndNext == ring.NoFrame {
		return false
	}
	a := c.h.Arena
	m := a.Meta(c.sndTail)
	if int(m.Len)+len(p) > min(int(c.chunk.Load()), a.FrameSize()-int(m.Off)) {
		return false
	}
	sum := c.h.Fill(a.Bytes(c.sndTail)[m.Off+m.Len:], p)
	if m.Len&1 != 0 {
		sum = ip.Swap(sum)
	}
	m.Sum = ip.Add(m.Sum, sum)
	m.Len += uint16(len(p))
	c.sndUsed.add(0, len(p))
	return true
}

// Writable reports whether at least a third of the send buffer is free, or Write
// would fail. After a Write that took less than asked it is false until EvWritable:
// the buffer may have room for which the arena has no frames. Safe without the
// lock.
func (c *Conn) Writable() bool {
	// Do not ask about memory on behalf of a writer that was just woken: if others
	// have taken the memory meanwhile, nobody would wake it again. Its Write finds
	// out.
	f := c.flags.Load()
	_, room := c.bufferRoom()
	return f&sharedNoWrite != 0 || f&sharedWantWrite == 0 && room
}

// sendRoom reports whether there is room enough to wake a writer.
func (c *Conn) sendRoom() bool {
	frames, ok := c.bufferRoom()
	share := c.sendShare()
	return ok && share > 0 && frames <= share/3*2
}

// bufferRoom reports whether the send buffer has room, whatever memory there is,
// and how many frames it holds.
func (c *Conn) bufferRoom() (frames int, ok bool) {
	frames, used := c.sndUsed.load()
	limit := int(c.sndLimit.Load())
	return frames, used <= limit/3*2 && frames <= sendFrames(limit)/3*2
}

// wakeWriter notifies a writer that found the buffer full, once there is room
// enough.
func (c *Conn) wakeWriter() {
	if c.flags.Load()&sharedWantWrite == 0 {
		return
	}
	if c.sndNext == ring.NoFrame && c.sndBox.Empty() {
		c.tuneSnd()
	}
	if c.sendRoom() {
		c.flags.And(^uint32(sharedWantWrite))
		c.owner.Notify(EvWritable)
	}
}

// pull moves written frames to the end of the send queue.
func (c *Conn) pull() {
	if c.sndBox.Empty() {
		return
	}
	a := c.h.Arena
	f, _ := c.sndBox.TakeAll(a)
	for f != ring.NoFrame {
		next := a.Meta(f).Next
		c.enqueue(f)
		f = next
	}
}

// enqueue puts one written frame on the send queue.
func (c *Conn) enqueue(f ring.Frame) {
	if c.has(markFinQueued | markDead) {
		// It was written while the other side of the user closed.
		c.sndUsed.add(-1, -int(c.h.Arena.Meta(f).Len))
		c.h.Cache.Free(f)
	} else if !c.merge(f) {
		c.append(f)
	}
}

// append puts f at the end of the send queue, unsent.
func (c *Conn) append(f ring.Frame) {
	a := c.h.Arena
	m := a.Meta(f)
	m.Next, m.Prev = ring.NoFrame, c.sndTail
	if c.sndTail == ring.NoFrame {
		c.sndHead = f
		m.Seq = c.sndNxt
	} else {
		t := a.Meta(c.sndTail)
		t.Next = f
		m.Seq = t.Seq + frameLen(t)
	}
	c.sndTail = f
	if c.sndNext == ring.NoFrame {
		c.sndNext = f
	}
}

// frameLen is the sequence space that a frame takes.
func frameLen(m *ring.Meta) uint32 {
	if m.Flags&frameFIN != 0 {
		return 1
	}
	return uint32(m.Len)
}

// merge tops up the last unsent frame from f, so that many small writes leave as
// few packets. It reports whether f was used up, and freed.
func (c *Conn) merge(f ring.Frame) bool {
	// A full frame is not worth copying. Nor is one that was moved: moving it was
	// to avoid the copy.
	most := int(c.chunk.Load())
	m := c.h.Arena.Meta(f)
	if m.Flags&frameMoved != 0 {
		most /= 2
	}
	return int(m.Len) < most && c.topUp(f)
}

// topUp is merge whatever f holds.
func (c *Conn) topUp(f ring.Frame) bool {
	if c.sndNext == ring.NoFrame {
		return false
	}
	a := c.h.Arena
	t, m := a.Meta(c.sndTail), a.Meta(f)
	room := min(int(c.chunk.Load()), a.FrameSize()-int(t.Off)) - int(t.Len)
	if room <= 0 {
		return false
	}
	src := a.Bytes(f)[m.Off : m.Off+m.Len]
	k := copy(a.Bytes(c.sndTail)[t.Off+t.Len:][:room], src)
	if (t.Flags|m.Flags)&frameUnsummed != 0 {
		t.Flags |= frameUnsummed
		m.Flags |= frameUnsummed
	}
	sum := m.Sum
	if k < len(src) {
		m.Off += uint16(k)
		m.Len -= uint16(k)
		if m.Flags&frameUnsummed == 0 {
			sum = c.h.sum(src[:k])
			m.Sum = c.h.sum(src[k:])
		}
	}
	if t.Len&1 != 0 {
		sum = ip.Swap(sum)
	}
	t.Sum = ip.Add(t.Sum, sum)
	t.Len += uint16(k)
	if k < len(src) {
		return false
	}
	c.sndUsed.add(-1, 0)
	c.h.Cache.Free(f)
	return true
}

// split cuts frame f after n payload bytes. The rest becomes a frame of its own
// behind it. false: there is no frame for it.
func (c *Conn) split(f ring.Frame, n int) bool {
	a := c.h.Arena
	g, ok := c.h.Cache.Alloc()
	if !ok {
		return false
	}
	m, k := a.Meta(f), a.Meta(g)
	k.Off, k.Len = ring.Headroom, m.Len-uint16(n)
	k.Sum = c.h.Fill(a.Bytes(g)[ring.Headroom:], a.Bytes(f)[int(m.Off)+n:m.Off+m.Len])
	k.Seq = m.Seq + uint32(n)
	k.Flags, k.Retrans = m.Flags&^frameUnsummed, m.Retrans
	k.Stamp, k.Lost = m.Stamp, m.Lost
	m.Len = uint16(n)
	c.sum(f, m)
	k.Prev, k.Next = f, m.Next
	m.Next = g
	if k.Next != ring.NoFrame {
		a.Meta(k.Next).Prev = g
	} else {
		c.sndTail = g
	}
	if k.Flags&frameTimed != 0 {
		k.TimePrev, k.TimeNext = f, m.TimeNext
		m.TimeNext = g
		if k.TimeNext != ring.NoFrame {
			a.Meta(k.TimeNext).TimePrev = g
		} else {
			c.timeTail = g
		}
	}
	c.sndUsed.add(1, 0)
	return true
}

// sum computes the sum of what f holds, as Host.sum does.
func (c *Conn) sum(f ring.Frame, m *ring.Meta) {
	m.Sum = c.h.sum(c.h.Arena.Bytes(f)[m.Off : m.Off+m.Len])
	m.Flags &^= frameUnsummed
}

// private makes sure that f's headers may be written. It replaces a frame that is
// in the NIC's ring by a copy, and returns the frame to use.
func (c *Conn) private(f ring.Frame) (ring.Frame, bool) {
	a := c.h.Arena
	if !a.InNIC(f) {
		return f, true
	}
	g, ok := c.h.Cache.Alloc()
	if !ok {
		return f, false
	}
	m, k := a.Meta(f), a.Meta(g)
	k.Next, k.Prev, k.Seq, k.Sum = m.Next, m.Prev, m.Seq, m.Sum
	k.TimeNext, k.TimePrev = m.TimeNext, m.TimePrev
	k.Off, k.Len, k.Flags, k.Retrans = ring.Headroom, m.Len, m.Flags, m.Retrans
	k.Stamp, k.Lost = m.Stamp, m.Lost
	copy(a.Bytes(g)[ring.Headroom:], a.Bytes(f)[m.Off:m.Off+m.Len])
	relink(a, k.Prev, f, g, &c.sndHead, false, false)
	relink(a, k.Next, f, g, &c.sndTail, true, false)
	if k.Flags&frameTimed != 0 {
		relink(a, k.TimePrev, f, g, &c.timeHead, false, true)
		relink(a, k.TimeNext, f, g, &c.timeTail, true, true)
	}
	for _, p := range []*ring.Frame{&c.sndNext, &c.sackHint, &c.lostHint} {
		if *p == f {
			*p = g
		}
	}
	c.h.Cache.Release(f)
	return g, true
}

// relink makes at's link to old point to f. If at is no frame, *end does.
func relink(a *ring.Arena, at, old, f ring.Frame, end *ring.Frame, back, timed bool) {
	if at == ring.NoFrame {
		if *end == old {
			*end = f
		}
		return
	}
	m := a.Meta(at)
	switch {
	case back && timed:
		m.TimePrev = f
	case back:
		m.Prev = f
	case timed:
		m.TimeNext = f
	default:
		m.Next = f
	}
}

// dropSendQueue releases everything written.
func (c *Conn) dropSendQueue() {
	a := c.h.Arena
	c.pullRaw()
	frames, bytes := 0, 0
	for f := c.sndHead; f != ring.NoFrame; {
		m := a.Meta(f)
		next := m.Next
		if m.Flags&frameFIN == 0 {
			frames++
			bytes += int(m.Len)
		}
		c.h.Cache.Release(f)
		f = next
	}
	c.sndUsed.add(-frames, -bytes)
	c.sndHead, c.sndNext, c.sndTail = ring.NoFrame, ring.NoFrame, ring.NoFrame
	c.timeHead, c.timeTail = ring.NoFrame, ring.NoFrame
	c.sackHint, c.lostHint = ring.NoFrame, ring.NoFrame
	c.sacked, c.lost, c.retrans, c.dupSacked = 0, 0, 0, 0
}

// pullRaw drops the frames in the mailbox.
func (c *Conn) pullRaw() {
	a := c.h.Arena
	f, _ := c.sndBox.TakeAll(a)
	for f != ring.NoFrame {
		m := a.Meta(f)
		next := m.Next
		c.sndUsed.add(-1, -int(m.Len))
		c.h.Cache.Free(f)
		f = next
	}
}
