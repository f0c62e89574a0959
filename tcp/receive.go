package tcp

import (
	"github.com/onload-go/onload/ring"
)

const (
	quickAcks = 16   // segments acknowledged at once at the start, as Linux
	delAck    = 40e6 // longest delay of an acknowledgement, ns
)

// receive takes the payload of an acceptable segment: RFC 9293 section 3.10.7.4,
// seventh. In s.Payload, frames that it keeps become NoFrame.
func (c *Conn) receive(s *Segment, now int64) {
	end := s.Seq + uint32(s.Len)
	gap := now - c.lastData
	c.lastData = now
	if gap > c.rtt.RTO() {
		// The peer may be in slow start after idle: do not hold it up.
		c.quick = max(c.quick, quickAcks)
	}
	if seqLE(end, c.rcvNxt) {
		c.h.Stats.TCPDSACKOldSent.Add(1)
		c.noteDSACK(s.Seq, end)
		c.enterQuickAck()
		c.set(markAckNow)
		return
	}
	edge := c.rcvAdv
	if c.has(markFinSeen) && seqLT(c.finSeq, edge) {
		edge = c.finSeq
	}
	if seqGE(s.Seq, edge) || seqGE(c.rcvNxt, edge) {
		// There is no room: this is a zero-window probe, answered at once. If it
		// begins with old data, there is no byte of it for us either.
		if seqLT(s.Seq, c.rcvNxt) {
			c.noteDSACK(s.Seq, c.rcvNxt)
		}
		c.h.Stats.TCPZeroWindowDrop.Add(1)
		c.set(markAckNow)
		return
	}
	if c.ecn&ecnOn != 0 {
		c.receiveECN(s)
	}
	c.measureMSS(s)
	if seqGT(s.Seq, c.rcvNxt) {
		c.receiveOOO(s, edge, now)
		return
	}
	old := seqLT(s.Seq, c.rcvNxt)
	if old {
		c.noteDSACK(s.Seq, c.rcvNxt)
	}
	// Receive queues do not take the last frames either. Acknowledgements need
	// some, and so do the writers that unread data waits for.
	if !c.mayKeep(s.Len) || !c.roomFor(len(s.Payload)) {
		c.h.Stats.TCPRcvQDrop.Add(1)
		c.set(markAckNow)
		return
	}
	held, _ := c.rcvUsed.load()
	wake := false
	seq := s.Seq
	for i := range s.Payload {
		d := &s.Payload[i]
		at := seq
		seq += uint32(d.Len)
		if seqLE(seq, c.rcvNxt) || seqGE(at, edge) {
			continue
		}
		m := c.h.Arena.Meta(d.Frame)
		m.Off, m.Len, m.Seq = d.Off, d.Len, at
		trimFrame(m, c.rcvNxt, edge)
		f := d.Frame
		d.Frame = ring.NoFrame
		wake = c.deliver(f, m) || wake
	}
	if c.ooo != nil {
		if lo, hi, ok := c.ooo.overlap(s.Seq, end); ok && !old {
			c.h.Stats.TCPDSACKOfoSent.Add(1)
			c.noteDSACK(lo, hi)
		}
		wake = c.drainOOO() || wake
		c.set(markAckNow) // a hole was filled: RFC 5681 section 4.2
	}
	if held > 0 && s.Len < c.h.Arena.FrameSize()/2 {
		c.squeezeSoon(now)
	}
	c.growClamp(s, now)
	c.scheduleAck(s, now)
	if wake {
		c.owner.Notify(EvReadable)
	}
}

// trimFrame cuts m to [lo, hi).
func trimFrame(m *ring.Meta, lo, hi uint32) {
	if d := int32(lo - m.Seq); d > 0 {
		m.Seq += uint32(d)
		m.Off += uint16(d)
		m.Len -= uint16(d)
	}
	if d := int32(m.Seq + uint32(m.Len) - hi); d > 0 {
		m.Len -= uint16(d)
	}
}

// deliver puts the next frame in order into the reader's mailbox.
func (c *Conn) deliver(f ring.Frame, m *ring.Meta) (wake bool) {
	n := uint32(m.Len)
	c.rcvNxt += n
	c.received += uint64(n)
	c.rcvUsed.add(1, int(n))
	return c.rcvBox.Push(c.h.Arena, f)
}

// receiveOOO keeps the payload of a segment that came early, and tells the peer at
// once what is missing (RFC 5681 section 4.2).
func (c *Conn) receiveOOO(s *Segment, edge uint32, now int64) {
	share := c.h.earlyShare()
	if share == 0 {
		// Memory is short for everybody: data behind a hole can come again.
		c.h.Stats.OfoPruned.Add(1)
		c.dropOOO()
		c.sendAck(now)
		return
	}
	if c.ooo == nil {
		c.ooo = c.h.takeReassembly()
	}
	frames, _ := c.rcvUsed.load()
	r := c.ooo
	seq, noted := s.Seq, false
	for i := range s.Payload {
		d := &s.Payload[i]
		at := seq
		seq += uint32(d.Len)
		if d.Len == 0 || seqGE(at, edge) {
			continue
		}
		m := c.h.Arena.Meta(d.Frame)
		m.Off, m.Len, m.Seq = d.Off, d.Len, at
		trimFrame(m, at, edge)
		lo, hi := m.Seq, m.Seq+uint32(m.Len)
		f := d.Frame
		d.Frame = ring.NoFrame
		if lo, hi, ok := r.overlap(lo, hi); ok && (!noted || lo == c.dsackHi) {
			noted = true
			c.h.Stats.TCPDSACKOfoSent.Add(1)
			c.noteDSACK(lo, hi)
		}
		r.insert(c.h.Cache, f, min(c.heldLimit()-frames, share))
	}
	if r.empty() {
		c.dropOOO()
	} else {
		c.retrySoon(now, squeezeAfter)
	}
	c.h.Stats.TCPOFOQueue.Add(1)
	c.enterQuickAck()
	c.sendAck(now)
}

// drainOOO delivers frames that have become next in order.
func (c *Conn) drainOOO() (wake bool) {
	r := c.ooo
	for {
		f := r.pop(c.h.Cache, c.rcvNxt)
		if f == ring.NoFrame {
			break
		}
		wake = c.deliver(f, c.h.Arena.Meta(f)) || wake
	}
	if r.empty() {
		c.dropOOO()
	}
	return wake
}

// dropOOO releases the out-of-order queue.
func (c *Conn) dropOOO() {
	if c.ooo != nil {
		c.ooo.clear(c.h.Cache)
		c.h.putReassembly(c.ooo)
		c.ooo = nil
	}
}

// heldLimit is how many frames the receive buffer may hold: three times its size,
// since frames are seldom full, and a few more.
func (c *Conn) heldLimit() int {
	return c.h.Arena.InFrames(int(c.rcvLimit.Load()))*3 + 64
}

// roomFor reports whether n more frames may be queued. If small segments fill the
// limit, it copies them together first (CVE-2018-5390: the limit counts frames
// held, not payload).
func (c *Conn) roomFor(n int) bool {
	limit := c.heldLimit()
	frames, used := c.rcvUsed.load()
	if frames+n <= limit/2 {
		c.collapseAt = 0
		return true
	}
	if frames >= int(c.collapseAt) && used < frames*c.h.Arena.FrameSize()/2 {
		c.collapse()
		frames, _ = c.rcvUsed.load()
		// The remaining frames may be full, or in the reader's hands. Trying again
		// for each segment would gain nothing.
		c.collapseAt = uint32(frames + limit/8)
	}
	for c.ooo != nil && frames+c.ooo.frames+n > limit {
		if !c.ooo.evict(c.h.Cache) {
			break
		}
	}
	if c.ooo != nil && c.ooo.empty() {
		c.dropOOO()
	}
	return frames+n <= limit
}

// measureMSS estimates the size of the peer's segments by the largest that came, up
// to the MSS that we announced, as Linux does.
func (c *Conn) measureMSS(s *Segment) {
	n := s.Len
	if len(s.Payload) > 0 && s.Payload[0].SegSize > 0 {
		n = int(s.Payload[0].SegSize)
	}
	if n > int(c.rcvMSS) {
		most := int(c.mtu) - c.ipHeaderLen() - c.headerLen()
		c.rcvMSS = uint16(max(min(n, most), minRcvMSS))
	}
}

// scheduleAck decides when to acknowledge data that came in order: at once at the
// start and for every second full segment, otherwise delayed (RFC 5681 section 4.2,
// RFC 9293 section 3.8.6.3). Output sends the acknowledgement.
func (c *Conn) scheduleAck(s *Segment, now int64) {
	if c.ackAt == 0 {
		c.ackAt = now + delAck
	}
	unacked := c.rcvNxt - c.rcvAcked
	switch {
	case unacked > uint32(c.rcvMSS):
		if c.quick > 0 && !c.has(markPingPong) || !c.gather(s, unacked) {
			c.set(markAckNow)
		}
	case c.quick > 0 && !c.has(markPingPong):
		c.ackSoon(now)
	}
}

// ackSoon has an acknowledgement sent at once, except for a moment in which the
// user may answer: the answer carries it.
func (c *Conn) ackSoon(now int64) {
	if !c.h.Gather {
		c.set(markAckNow)
		return
	}
	c.set(markGather)
	if c.ackAt == 0 {
		c.ackAt = now + delAck
	}
}

const (
	// gatherMost is how much one acknowledgement covers in a stream: as much as
	// kernels merge into one packet (GRO).
	gatherMost = 64 << 10
	// gatherPause is for how many acknowledgements a stream that stopped in the
	// middle is not gathered. A peer that our silence holds up stops each time, one
	// that was interrupted does not. So the pause begins with gatherPauseMin and
	// doubles each time. An acknowledgement of gatherGood segments takes one
	// doubling back.
	gatherPauseMin = 2
	gatherPause    = 32
	gatherGood     = 8
)

// gather reports whether the acknowledgement of a segment in a stream may wait for
// the segments right behind it. Each acknowledgement costs both ends more than a
// segment does, and the peer counts bytes (RFC 3465). Two things end the wait: the
// last segment that the peer has for now (PSH), and an eighth of the window, so
// that the peer never stands still because of us. The owner, which set Host.Gather,
// keeps each wait short. The rule of two segments is a SHOULD, for the peer's sake.
func (c *Conn) gather(s *Segment, unacked uint32) bool {
	if !c.h.Gather || s.Flags&(FlagPSH|FlagFIN) != 0 || c.gatherOff > 0 ||
		unacked >= min(gatherMost, (c.rcvAdv-c.rcvAcked)/8) {
		return false
	}
	c.set(markGather)
	return true
}

// Gathering reports whether an acknowledgement waits for more segments or for an
// answer, since when, and when the last segment came.
func (c *Conn) Gathering() (ok bool, since, last int64) {
	since = c.ackAt - delAck
	return c.has(markGather), since, max(since, c.lastData)
}

// EndGather has the next Output send the waiting acknowledgement. late: nothing
// more came for a while.
func (c *Conn) EndGather(late bool) {
	c.clear(markGather)
	c.set(markAckNow)
	if late {
		if c.gatherOff = gatherPauseMin << c.gatherStop; c.gatherOff < gatherPause {
			c.gatherStop++
		}
	}
}

// enterQuickAck suspends delayed acknowledgements: the peer is recovering.
func (c *Conn) enterQuickAck() {
	c.quick = quickAcks
	c.clear(markPingPong)
}

func (c *Conn) spendQuick() {
	if c.quick > 0 && !c.has(markQuickAck) {
		c.quick--
	}
}

// noteInteractive is called when data is sent. If it answers data that came just
// before, this is a dialogue, in which our data carries the acknowledgement.
func (c *Conn) noteInteractive(now int64) {
	if c.received > 0 && now-c.lastData < delAck && !c.has(markQuickAck) {
		c.set(markPingPong)
	}
}

// noteDSACK remembers a duplicate to report (RFC 2883): the first one of the newest
// segment (section 4).
func (c *Conn) noteDSACK(lo, hi uint32) {
	if !c.has(markSACK) {
		return
	}
	if c.has(markDSACK) && lo == c.dsackHi {
		c.dsackHi = hi // the same segment, next frame
		return
	}
	c.dsackLo, c.dsackHi = lo, hi
	c.set(markDSACK)
}

// sackBlocks fills b with the blocks to report: a duplicate first (RFC 2883), then
// the newest blocks (RFC 2018 section 4).
func (c *Conn) sackBlocks(b []SACKBlock) (n int) {
	if c.has(markDSACK) {
		b[0] = SACKBlock{Start: c.dsackLo, End: c.dsackHi}
		n = 1
	}
	if c.ooo != nil {
		at := n
		n += c.ooo.blocks(b[n:])
		// A FIN takes a sequence number too. SACKed with its data, it need not come
		// again.
		for i := range b[at:n] {
			if k := &b[at+i]; c.has(markFinSeen) && k.End == c.finSeq {
				k.End++
			}
		}
	}
	return n
}
