package tcp

import "github.com/onload-go/onload/ring"

// Recovery with a peer that has no SACK: RFC 5681, 3042 and 6582.

const (
	dupThresh     = 3   // duplicate ACKs that mean loss (RFC 5681 section 3.2)
	maxReordering = 128 // and at most
)

// countDupAcks keeps, for a peer without SACK, an estimate of the data that
// duplicate ACKs stand for, so that it counts as delivered (RFC 3042, RFC 5681).
func (c *Conn) countDupAcks(st *ackState, dup bool) {
	switch {
	case st.acked > 0:
		if c.recovery == noRecovery && seqGT(c.sndUna, c.recoverSeq) {
			c.recoverSeq = c.sndUna - 1 // less than half of the sequence space behind
		}
		st.dupAcks, c.dupAcks = c.dupAcks, 0
		st.delivered -= min(st.delivered, c.dupSacked)
		if c.recovery == noRecovery || c.dupSacked+uint32(c.mss) <= st.acked {
			c.dupSacked = 0
		} else {
			c.dupSacked -= st.acked - min(st.acked, uint32(c.mss))
		}
	case dup:
		if c.dupAcks < 255 {
			c.dupAcks++
		}
		n := uint32(c.mss)
		if c.dupSacked+n <= c.sndNxt-c.sndUna-min(c.lost, c.sndNxt-c.sndUna) {
			c.dupSacked += n
			st.delivered += n
		}
	}
	// It is never more than may be in the network besides the losses.
	if most := c.sndNxt - c.sndUna - c.lost; c.dupSacked > most {
		c.dupSacked = most
	}
}

// detectLossNoSACK marks the first segment lost after enough duplicate ACKs, and at
// each partial acknowledgement (RFC 6582).
func (c *Conn) detectLossNoSACK(st *ackState, now int64) (fresh bool) {
	if c.sndHead == ring.NoFrame || c.sndHead == c.sndNext {
		return false
	}
	m := c.h.Arena.Meta(c.sndHead)
	switch {
	case c.recovery == noRecovery:
		// The duplicates that one recovery caused do not start another: only an ACK
		// of data sent after recovery began is new (section 3.2, step 2).
		if c.dupAcks < c.dupAckThresh() || seqLE(c.sndUna, c.recoverSeq) {
			return false
		}
	case c.recovery != inRecovery || st.acked == 0 || m.Flags&frameLost != 0:
		return false
	}
	c.markLost(c.sndHead, now)
	return true
}

// dupAckThresh is how many duplicate ACKs mean loss: three, or more where the path
// was seen to reorder and enough is in flight to cause so many.
func (c *Conn) dupAckThresh() uint8 {
	if c.reordering <= dupThresh {
		return dupThresh
	}
	flight := (c.sndNxt - c.sndUna) / uint32(c.mss)
	return uint8(max(min(uint32(c.reordering), flight-min(flight, 1)), dupThresh))
}

// noteReordering remembers how far a segment was overtaken.
func (c *Conn) noteReordering(segs uint32) {
	c.reordering = uint8(min(max(segs, uint32(c.reordering)), maxReordering))
}
