package tcp

import "github.com/onload-go/onload/ring"

// sackSteps bounds the frames that one ACK's SACK blocks may make us look at.
// SACK is advice: what is left out now is in the next block (CVE-2019-11478).
const sackSteps = 2048

// ackState collects what one acknowledgement brought.
type ackState struct {
	acked     uint32 // bytes acknowledged cumulatively
	delivered uint32 // bytes newly known to have arrived, SACKed ones included
	sacked    bool   // a frame was newly SACKed
	dsack     bool   // a duplicate was reported
	reordered bool   // an old hole was filled without retransmission
	retransOK bool   // a retransmitted frame was delivered
	rttAt     int64  // when the oldest frame acknowledged that was sent once was sent; 0: none
	rtt       int64  // sample; 0: none
}

// sackInput marks the frames that the segment's SACK blocks name.
func (c *Conn) sackInput(s *Segment, st *ackState, now int64) {
	blocks := s.Opt.SACK[:s.Opt.NSACK]
	budget := sackSteps
	for i := range blocks {
		b := &blocks[i]
		if !seqLT(b.Start, b.End) || seqGT(b.End, c.sndNxt) {
			continue
		}
		if i == 0 && c.isDSACK(blocks, s.Ack) {
			c.dsackInput(b, st)
			continue
		}
		if seqLE(b.Start, c.sndUna) || seqLE(b.Start, s.Ack) {
			continue // old, or nonsense
		}
		c.sackBlock(b, &budget, st, now)
	}
}

// isDSACK: the first block reports a duplicate where it lies below the
// acknowledgement or inside the second (RFC 2883 section 4).
func (c *Conn) isDSACK(blocks []SACKBlock, ack uint32) bool {
	b := &blocks[0]
	if seqLE(b.End, ack) {
		return true
	}
	return len(blocks) > 1 && seqGE(b.Start, blocks[1].Start) && seqLE(b.End, blocks[1].End)
}

// dsackInput learns from a duplicate report: retransmissions were needless.
func (c *Conn) dsackInput(b *SACKBlock, st *ackState) {
	// What we never sent twice, or in another age, proves nothing.
	if seqLT(b.Start, c.sndUna-max(c.maxWnd, 1<<16)) {
		return
	}
	st.dsack = true
	c.h.Stats.TCPDSACKRecv.Add(1)
	if c.undoRetrans > 0 && seqGE(b.Start, c.undoSeq) {
		c.undoRetrans--
	}
}

// sackBlock marks the frames that lie in b as a whole.
func (c *Conn) sackBlock(b *SACKBlock, budget *int, st *ackState, now int64) {
	a := c.h.Arena
	f := c.seek(b.Start, budget)
	for ; f != ring.NoFrame && f != c.sndNext && *budget > 0; *budget-- {
		m := a.Meta(f)
		if seqGT(m.Seq+frameLen(m), b.End) {
			break
		}
		c.sackHint = f
		if m.Flags&frameSacked == 0 {
			c.sackFrame(f, m, st, now)
		}
		f = m.Next
	}
}

// seek returns the first sent frame that begins at or after seq. It walks from
// the nearest of three known places: the head, the last SACK, the end.
func (c *Conn) seek(seq uint32, budget *int) ring.Frame {
	a := c.h.Arena
	f := c.sackHint
	if f == ring.NoFrame || f == c.sndNext {
		f = c.sndHead
	}
	if f == ring.NoFrame {
		return f
	}
	at := a.Meta(f).Seq
	if d := seq - c.sndUna; int32(at-seq) > 0 && d < at-seq {
		f = c.sndHead
		at = a.Meta(f).Seq
	} else if seqGT(seq, at) && c.sndNxt-seq < seq-at {
		last := c.sndTail
		if c.sndNext != ring.NoFrame {
			last = a.Meta(c.sndNext).Prev
		}
		if last != ring.NoFrame {
			f = last
			at = a.Meta(f).Seq
		}
	}
	for ; seqGT(at, seq) && *budget > 0; *budget-- {
		p := a.Meta(f).Prev
		if p == ring.NoFrame {
			return f
		}
		if at = a.Meta(p).Seq; seqLT(at, seq) {
			return f
		}
		f = p
	}
	for ; f != ring.NoFrame && f != c.sndNext && *budget > 0; *budget-- {
		m := a.Meta(f)
		if seqGE(m.Seq, seq) {
			return f
		}
		f = m.Next
	}
	if *budget == 0 && f != ring.NoFrame && f != c.sndNext {
		c.sackHint = f // go on from here next time
		return ring.NoFrame
	}
	return f
}

// sackFrame notes that the peer holds f.
func (c *Conn) sackFrame(f ring.Frame, m *ring.Meta, st *ackState, now int64) {
	n := frameLen(m)
	c.noteDelivered(m, st, now)
	if m.Flags&(frameLost|frameRetrans) == 0 && seqLT(m.Seq, c.rack.high) {
		st.reordered = true
	}
	c.unmark(m, n)
	c.timeRemove(f)
	m.Flags |= frameSacked
	c.sacked += n
	st.sacked = true
	if end := m.Seq + n; seqGT(end, c.rack.high) {
		c.rack.high = end
	}
}

// unmark takes m out of the counts of lost and retransmitted bytes.
func (c *Conn) unmark(m *ring.Meta, n uint32) {
	if m.Flags&frameLost != 0 {
		c.lost -= n
	}
	if m.Flags&frameRetrans != 0 {
		c.retrans -= n
	}
	m.Flags &^= frameLost | frameRetrans
}

// markLost takes f for lost; a retransmission of it that is in flight, too.
func (c *Conn) markLost(f ring.Frame) {
	a := c.h.Arena
	m := a.Meta(f)
	n := frameLen(m)
	if m.Flags&frameSacked != 0 {
		return
	}
	if m.Flags&frameRetrans != 0 {
		c.retrans -= n
	}
	if m.Flags&frameLost == 0 {
		c.lost += n
	}
	m.Flags = m.Flags&^frameRetrans | frameLost
	// What duplicate ACKs stand for cannot be what is lost.
	c.dupSacked = min(c.dupSacked, c.sndNxt-c.sndUna-c.lost)
	c.timeRemove(f)
	if c.lostHint == ring.NoFrame || c.lostHint == c.sndNext || seqLT(m.Seq, a.Meta(c.lostHint).Seq) {
		c.lostHint = f
	}
}

// noteDelivered is called once for each frame that arrived, SACKed or
// acknowledged.
func (c *Conn) noteDelivered(m *ring.Meta, st *ackState, now int64) {
	n := frameLen(m)
	st.delivered += n
	c.delivered += uint64(n)
	if m.Retrans == 0 {
		if st.rttAt == 0 || m.SentAt < st.rttAt {
			st.rttAt = m.SentAt
		}
	} else {
		st.retransOK = true
	}
	c.rack.update(c, m, now)
}

// timeAppend puts f at the end of the list by time of transmission.
func (c *Conn) timeAppend(f ring.Frame) {
	a := c.h.Arena
	c.timeRemove(f)
	m := a.Meta(f)
	m.Flags |= frameTimed
	m.TimeNext, m.TimePrev = ring.NoFrame, c.timeTail
	if c.timeTail == ring.NoFrame {
		c.timeHead = f
	} else {
		a.Meta(c.timeTail).TimeNext = f
	}
	c.timeTail = f
}

// timeRemove takes f off that list, where it is on it.
func (c *Conn) timeRemove(f ring.Frame) {
	a := c.h.Arena
	m := a.Meta(f)
	if m.Flags&frameTimed == 0 {
		return
	}
	m.Flags &^= frameTimed
	if m.TimePrev == ring.NoFrame {
		c.timeHead = m.TimeNext
	} else {
		a.Meta(m.TimePrev).TimeNext = m.TimeNext
	}
	if m.TimeNext == ring.NoFrame {
		c.timeTail = m.TimePrev
	} else {
		a.Meta(m.TimeNext).TimePrev = m.TimePrev
	}
}
