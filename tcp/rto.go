package tcp

import "github.com/onload-go/onload/ring"

// timeout is what an expired retransmission timer means to recovery. Overdue frames
// are lost, the first frame in any case, and sending begins anew with one segment
// (RFC 5681, RFC 6675 section 5.1, RFC 8985 section 6.3).
func (c *Conn) timeout(now int64) {
	a := c.h.Arena
	// One loss is answered by one reduction: not by one for each expiry, and by
	// none where fast recovery has reduced already (RFC 5681 section 3.1, as
	// Linux).
	first := c.backoff == 0 && c.recovery != inRecovery
	// F-RTO is for a timeout outside of recovery, and its repetitions (RFC 5682
	// section 2.1, step 1).
	frto := c.recovery == noRecovery || c.backoff > 0 && c.has(markTimeout)
	// A peer that dropped data which it had SACKed is not believed: forget all its
	// SACKs (RFC 2018 section 8).
	renege := a.Meta(c.sndHead).Flags&frameSacked != 0
	wait := int64(0)
	if c.has(markSACK) && !renege && c.rack.sentAt != 0 {
		wait = c.rack.rtt + c.rack.window(c)
	}
	for f := c.sndHead; f != ring.NoFrame && f != c.sndNext; f = a.Meta(f).Next {
		m := a.Meta(f)
		if renege && m.Flags&frameSacked != 0 {
			m.Flags &^= frameSacked
			c.sacked -= frameLen(m)
			c.makeRare().reneged += uint64(frameLen(m))
		}
		if f == c.sndHead || m.SentAt+wait <= now {
			c.markLost(f, now)
		}
	}
	if renege {
		c.rack.high = c.sndUna
		c.h.Stats.TCPSACKReneging.Add(1)
	}
	if c.dupAcks >= dupThresh && !c.has(markSACK) {
		c.reordering = dupThresh // those were for a loss (as Linux)
	}
	c.dupSacked, c.dupAcks = 0, 0
	c.lostHint = c.sndHead
	if first {
		c.beginEpisode(now)
		c.set(markTimeout)
		// A window that was lowered for the peer's echo is not lowered again.
		first = c.ecn&ecnReducing == 0
		c.setIf(markUndo, first)
	}
	c.clear(markTLP | markFRTO | markFRTONew)
	c.setIf(markFRTO, frto && !renege && c.has(markUndo))
	c.recoverSeq = c.sndNxt
	c.recovery = inLoss
	c.cc.OnRTO(first)
	c.reduced()
	if pipe := c.pipe(); pipe > 0 {
		c.cc.SetCwnd(uint32(pipe) + uint32(c.mss)) // beside the data that is not overdue
	}
}

// checkFRTO reports whether a timeout was spurious (RFC 5682 section 3.1, with SACK
// or without, as Linux): data arrives that was in flight at the timeout and was not
// sent again. To find out, the first acknowledgement that moves SND.UNA is answered
// by new data instead of retransmissions.
func (c *Conn) checkFRTO(st *ackState, dup bool) (spurious bool) {
	c.clear(markFRTONew)
	// Without SACK an acknowledgement of the retransmission may cover data that had
	// arrived before the timeout.
	if st.original && (c.has(markSACK) || !st.retransOK) {
		return true
	}
	switch {
	case seqGT(c.sndNxt, c.recoverSeq): // step 3
		if st.sacked || dup {
			c.clear(markFRTO) // a duplicate: the loss was real
		}
	case st.acked > 0 && seqLT(c.sndUna, c.recoverSeq): // step 2
		if c.sndNext != ring.NoFrame && seqGT(c.sndUna+c.sndWnd, c.sndNxt) {
			c.set(markFRTONew)
		} else {
			c.clear(markFRTO) // nothing to send, nothing to learn
		}
	}
	return false
}

// sendFRTO sends the new data of step 2b. If nothing can be sent, F-RTO learns
// nothing, and retransmission follows.
func (c *Conn) sendFRTO(now int64) bool {
	if !c.sendNew(now) {
		return false
	}
	if c.sndNxt == c.recoverSeq {
		c.clear(markFRTO | markFRTONew)
	}
	return true
}
