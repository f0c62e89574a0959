package tcp

import "github.com/onload-go/onload/ring"

const (
	// worstDelAck is the longest time that we expect a peer to hold back its
	// acknowledgement of a lone segment (WCDelAckT), as Linux.
	worstDelAck = 200e6
	tlpSlack    = 2e6 // added to two round trips where several segments are in flight, as Linux
	tlpNoRTT    = 1e9 // probe timeout without an RTT sample
)

// armTLP starts the retransmission timer as that of the tail loss probe (RFC 8985
// section 7.2), if a probe may be sent: the peer has SACK, nothing is SACKed, there
// is no recovery, and nothing is in flight twice after a recovery that was undone.
// advanced: an acknowledgement has just moved SND.UNA, and so restarted the RTO.
// false: the timer is as it was.
func (c *Conn) armTLP(advanced bool, now int64) bool {
	if c.mark&(markSACK|markTLP) != markSACK || c.sacked != 0 || c.recovery != noRecovery ||
		c.lost != 0 || c.backoff != 0 || c.sndUna == c.sndNxt {
		return false
	}
	a := c.h.Arena
	head := a.Meta(c.sndHead)
	pto := int64(tlpNoRTT)
	if c.rtt.Valid() {
		pto = 2 * c.rtt.SRTT()
		if c.sndNxt-c.sndUna <= uint32(c.mss) && a.Meta(c.lastSent()).SentAt == head.SentAt {
			pto += worstDelAck // one segment: its acknowledgement may be delayed
		} else {
			pto += tlpSlack
		}
	}
	rto := now
	if !advanced {
		rto = head.SentAt
	}
	at := min(now+pto, max(rto+c.rto(), now+1))
	c.clear(markPersist)
	c.set(markPTO)
	c.rtoAt = c.capped(at, now)
	return true
}

// lastSent returns the frame before SND.NXT. Something must be in flight.
func (c *Conn) lastSent() ring.Frame {
	if c.sndNext == ring.NoFrame {
		return c.sndTail
	}
	return c.h.Arena.Meta(c.sndNext).Prev
}

// expireTLP sends a loss probe, whose acknowledgement shows what is missing: new
// data if the peer's window takes it, else the last segment again (RFC 8985 section
// 7.3). There is one probe at a time, and none until an RTT sample has come since
// the last. In any case the RTO is next.
func (c *Conn) expireTLP(now int64) {
	if c.has(markTLP|markNoSample) || c.sndUna == c.sndNxt || c.lost != 0 {
		c.armRTO(now)
		return
	}
	sent, again := false, false
	if f := c.sndNext; f != ring.NoFrame &&
		int(int32(c.sndUna+c.sndWnd-c.sndNxt)) >= min(int(frameLen(c.h.Arena.Meta(f))), int(c.mss)) {
		sent = c.forceOut(now)
	} else {
		sent, again = c.resendTail(now), true
	}
	if sent {
		c.h.Stats.TCPLossProbes.Add(1)
		c.clear(markRescued)
		c.set(markTLP | markNoSample)
		c.setIf(markTLPRetrans, again)
		c.tlpEnd = c.sndNxt
	}
	c.armRTO(now)
}

// stopTLP makes the timer the RTO's again: no probe is needed any more to show what
// is missing.
func (c *Conn) stopTLP(now int64) {
	c.clear(markPTO)
	c.rtoAt = c.capped(max(c.h.Arena.Meta(c.sndHead).SentAt+c.rto(), now+1), now)
}

// resendTail sends the last segment once more, as a probe. The segment is not taken
// for lost.
func (c *Conn) resendTail(now int64) bool {
	a := c.h.Arena
	f := c.lastSent()
	if m := a.Meta(f); int(m.Len) > int(c.mss) {
		if !c.split(f, int(m.Len-1)/int(c.mss)*int(c.mss)) {
			return false
		}
		f = m.Next
	}
	// The FIN goes along with the data before it. A segment may have several
	// frames, which were sent together.
	at := a.Meta(f).SentAt
	count, bytes, fin := 0, 0, false
	for g := f; g != ring.NoFrame && count < c.h.MaxFrags; {
		m := a.Meta(g)
		if m.SentAt != at || bytes+int(m.Len) > int(c.mss) || m.Flags&(frameSacked|frameLost) != 0 {
			break
		}
		if m.Flags&frameFIN != 0 {
			fin = true
		} else {
			count, bytes = count+1, bytes+int(m.Len)
		}
		f, g = g, m.Prev
	}
	f, ok := c.private(f)
	return ok && c.transmit(f, count, bytes, fin, now)
}

// noteTail accounts for a frame that is sent again without being lost.
func (c *Conn) noteTail(f ring.Frame, count, bytes int, fin bool, now int64) {
	a := c.h.Arena
	if fin {
		count++
	}
	c.stampRetrans(now)
	if c.rare.rate != nil {
		c.stampRate(f, count, now)
	}
	for ; count > 0; count-- {
		m := a.Meta(f)
		m.SentAt = now
		if m.Retrans < 0xffff {
			m.Retrans++
		}
		c.timeAppend(f)
		if c.recovery == inRecovery {
			c.prrSent += frameLen(m)
		}
		f = m.Next
	}
	// Its duplicate report does not excuse another retransmission (RFC 3708 section
	// 3).
	c.undoRetrans = max(c.undoRetrans, 0) + 1
	c.countRetrans(bytes)
}

// tlpAcked looks whether a loss probe was answered. If no duplicate report shows
// the retransmission to be needless, it has repaired a loss, which asks for the
// same reduction as any (RFC 8985 section 7.4).
func (c *Conn) tlpAcked(s *Segment, st *ackState, dup bool, now int64) {
	switch {
	case seqLT(s.Ack, c.tlpEnd):
		return
	case !c.has(markTLPRetrans): // new data, and it arrived
	case st.dsack && st.dsackEnd == c.tlpEnd:
		st.dsack = false // the original and the probe arrived: no reordering
	case seqGT(s.Ack, c.tlpEnd):
		c.h.Stats.TCPLossProbeRecovery.Add(1)
		if c.recovery == noRecovery && c.ecn&ecnReducing == 0 {
			c.cc.EnterRecovery()
			c.cc.ExitRecovery()
			c.reduced()
			c.clear(markUndo) // this reduction is not to be undone
		}
	case dup && s.Opt.NSACK == 0: // both arrived, at a peer without DSACK
	default:
		return
	}
	c.clear(markTLP)
}
