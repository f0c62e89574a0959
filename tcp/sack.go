package tcp

import "github.com/onload-go/onload/ring"

// sackSteps bounds the frames that the SACK blocks of one ACK may make us look at.
// SACK is advice: blocks left out now come again (CVE-2019-11478).
const sackSteps = 2048

// ackState collects the effects of one acknowledgement.
type ackState struct {
	acked     uint32 // bytes acknowledged cumulatively
	delivered uint32 // bytes newly known to have arrived, SACKed ones included
	sacked    bool   // a frame was newly SACKed
	dsack     bool   // a duplicate was reported
	dsackEnd  uint32 // its end
	reordered bool   // an old hole was filled without retransmission
	retransOK bool   // a retransmitted frame was delivered
	original  bool   // it was in flight when recovery began, and not sent again since
	ecrOK     bool   // ecr is our timestamp that the peer echoes
	ecr       uint32
	high      uint32 // rack.high before
	dupAcks   uint8  // duplicate ACKs before this one, where the peer has no SACK
	rttAt     int64  // when the oldest frame was sent that is acknowledged now and was sent once; 0: there is none
	rtt       int64  // sample; 0: none
}

// sackInput marks the frames that the segment's SACK blocks name.
func (c *Conn) sackInput(s *Segment, st *ackState, now int64) {
	blocks := s.Opt.SACK[:s.Opt.NSACK]
	st.high = c.rack.high
	budget, hinted := sackSteps, false
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
		f := c.sackBlock(b, &budget, st, now)
		if !hinted && f != ring.NoFrame {
			// The newest block comes first, and in the next ACK again.
			c.sackHint, hinted = f, true
		}
	}
}

// isDSACK reports whether the first block is a duplicate report: it lies below the
// acknowledgement or inside the second block (RFC 2883 section 4).
func (c *Conn) isDSACK(blocks []SACKBlock, ack uint32) bool {
	b := &blocks[0]
	if seqLE(b.End, ack) {
		return true
	}
	return len(blocks) > 1 && seqGE(b.Start, blocks[1].Start) && seqLE(b.End, blocks[1].End)
}

// dsackInput learns from a duplicate report that retransmissions were needless.
func (c *Conn) dsackInput(b *SACKBlock, st *ackState) {
	// Reports from long ago prove nothing. Nor do reports of data that we never
	// sent twice: the network makes duplicates too (RFC 3708 section 3).
	if seqLT(b.Start, c.sndUna-max(c.maxWnd, 1<<16)) {
		return
	}
	n := max((b.End-b.Start+uint32(c.mss)-1)/uint32(c.mss), 1)
	if c.rare == &noRare {
		c.h.Stats.TCPDSACKIgnoredDubious.Add(1)
		return
	}
	r := c.rare
	if r.dsackDups += n; r.dsackDups > r.retransSegs {
		r.dsackDups = r.retransSegs
		c.h.Stats.TCPDSACKIgnoredDubious.Add(1)
		return
	}
	st.dsack, st.dsackEnd = true, b.End
	c.h.Stats.TCPDSACKRecv.Add(1)
	if c.undoRetrans > 0 && seqGE(b.Start, c.undoSeq) {
		c.undoRetrans = max(c.undoRetrans-int32(n), 0)
	}
}

// sackBlock marks the frames that lie in b as a whole, and returns the first.
func (c *Conn) sackBlock(b *SACKBlock, budget *int, st *ackState, now int64) ring.Frame {
	a := c.h.Arena
	first := c.seek(b.Start, budget)
	for f := first; f != ring.NoFrame && f != c.sndNext && *budget > 0; *budget-- {
		m := a.Meta(f)
		if m.Flags&frameSacked != 0 {
			// Mostly all of the block but its end is known.
			f = a.Meta(c.runEnd(f)).Next
			continue
		}
		if seqGT(m.Seq+frameLen(m), b.End) {
			break
		}
		c.sackFrame(f, m, st, now)
		f = m.Next
	}
	return first
}

// seek returns the first sent frame that begins at or after seq, or NoFrame. It
// walks from the hint or from the head, and jumps over SACKed runs, except the one
// that seq lies in.
func (c *Conn) seek(seq uint32, budget *int) ring.Frame {
	a := c.h.Arena
	f := c.sackHint
	if f == ring.NoFrame || seqGT(a.Meta(f).Seq, seq) {
		f = c.sndHead
	}
	for ; f != ring.NoFrame && f != c.sndNext && *budget > 0; *budget-- {
		m := a.Meta(f)
		if seqGE(m.Seq, seq) {
			return f
		}
		if m.Flags&frameSacked != 0 {
			if e := a.Meta(c.runEnd(f)); seqLE(e.Seq, seq) {
				m = e
			} else {
				return f // in the middle of a known run: walk on from there
			}
		}
		f = m.Next
	}
	return ring.NoFrame
}

// runEnd returns the last frame of the run of SACKed frames that f is in. It
// follows the links by time, which a SACKed frame no longer needs; each walk
// shortens the way of the next.
func (c *Conn) runEnd(f ring.Frame) ring.Frame {
	a := c.h.Arena
	end := f
	for {
		m := a.Meta(end)
		if m.TimeNext == ring.NoFrame {
			n := m.Next
			if n == ring.NoFrame || n == c.sndNext || a.Meta(n).Flags&frameSacked == 0 {
				break
			}
			m.TimeNext = n
		}
		end = m.TimeNext
	}
	for f != end {
		m := a.Meta(f)
		f, m.TimeNext = m.TimeNext, end
	}
	return end
}

// sackFrame notes that the peer holds f.
func (c *Conn) sackFrame(f ring.Frame, m *ring.Meta, st *ackState, now int64) {
	n := frameLen(m)
	c.noteDelivered(m, st, now)
	if m.Retrans == 0 && seqLT(m.Seq, st.high) {
		st.reordered = true
		c.noteReordering((st.high - m.Seq) / uint32(c.mss))
	}
	c.unmark(m, n)
	c.timeRemove(f)
	m.Flags |= frameSacked
	m.TimeNext = ring.NoFrame // see runEnd
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

// markLost takes f for lost, by congestion.
func (c *Conn) markLost(f ring.Frame, now int64) {
	if c.lose(f) && c.cc.models {
		c.modelLost(c.h.Arena.Meta(f), now)
	}
}

// lose takes f for lost, as well as its retransmission if one is in flight. false:
// f has arrived, or is known to be lost.
func (c *Conn) lose(f ring.Frame) bool {
	a := c.h.Arena
	m := a.Meta(f)
	n := frameLen(m)
	if m.Flags&frameSacked != 0 || m.Flags&(frameLost|frameRetrans) == frameLost {
		return false
	}
	if m.Flags&frameRetrans != 0 {
		c.retrans -= n
		c.h.Stats.TCPLostRetransmit.Add(1)
	}
	if m.Flags&frameLost == 0 {
		c.lost += n
	}
	if c.rare.rate != nil {
		c.rare.rate.lost += n
	}
	m.Flags = m.Flags&^frameRetrans | frameLost
	// Lost bytes cannot also be those that duplicate ACKs stand for.
	c.dupSacked = min(c.dupSacked, c.sndNxt-c.sndUna-c.lost)
	c.timeRemove(f)
	if c.lostHint == ring.NoFrame || c.lostHint == c.sndNext || seqLT(m.Seq, a.Meta(c.lostHint).Seq) {
		c.lostHint = f
	}
	return true
}

// noteDelivered is called once for each frame that arrived, SACKed or acknowledged.
func (c *Conn) noteDelivered(m *ring.Meta, st *ackState, now int64) {
	n := frameLen(m)
	st.delivered += n
	c.delivered += uint64(n)
	if m.Retrans == 0 {
		st.original = st.original || seqLE(m.Seq+n, c.recoverSeq)
		if st.rttAt == 0 || m.SentAt < st.rttAt {
			st.rttAt = m.SentAt
		}
	} else {
		st.retransOK = true
	}
	if c.rare.rate != nil {
		c.h.newest.delivered(m, m.Seq+n)
	}
	c.rack.update(c, m, st, now)
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

// timeRemove takes f off that list if it is on it.
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
