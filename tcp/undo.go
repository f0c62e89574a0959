package tcp

import "github.com/onload-go/onload/ring"

// undo takes the last reduction back if it was needless. There are three proofs.
// The acknowledgement is of the original, not of the retransmission (Eifel, RFC
// 3522); every retransmission was reported as a duplicate (RFC 3708; that may come
// after recovery too); or F-RTO found so (RFC 5682). The windows are restored, as
// in RFC 9438 section 4.9 and Linux.
func (c *Conn) undo(st *ackState, dup bool, now int64) bool {
	eifel, frto := false, false
	if c.recovery != noRecovery {
		eifel = st.acked > 0 && c.retransStamp != 0 && st.ecrOK && int32(st.ecr-c.retransStamp) < 0
		frto = c.has(markFRTO) && c.checkFRTO(st, dup)
	}
	if !eifel && !frto && !(st.dsack && c.undoRetrans == 0) {
		return false
	}
	timeout := c.has(markTimeout)
	switch {
	case !eifel && !frto:
		c.h.Stats.TCPDSACKUndo.Add(1)
	case timeout:
		c.h.Stats.TCPLossUndo.Add(1)
		if frto {
			c.h.Stats.TCPSpuriousRTOs.Add(1)
		}
	default:
		c.h.Stats.TCPFullUndo.Add(1)
	}
	if !timeout {
		c.set(markReordered) // late data was taken for lost
		c.noteReordering(uint32(st.dupAcks) + 1)
	}
	if c.cc.Undo() {
		c.ecn &^= ecnCWR | ecnHold // the peer need not be told
	}
	c.recovery = noRecovery
	c.dupSacked, c.dupAcks = 0, 0
	c.clear(markUndo | markFRTO | markFRTONew)
	c.unmarkAll()
	return true
}

// stampRetrans notes the timestamp of a retransmission, unless an older one is in
// flight.
func (c *Conn) stampRetrans(now int64) {
	if c.retransStamp == 0 || c.recovery == noRecovery && c.retrans == 0 {
		c.retransStamp = c.timestamp(now)
	}
}

// unmarkAll takes everything that waits for retransmission for in flight again.
func (c *Conn) unmarkAll() {
	a := c.h.Arena
	for f := c.lastSent(); f != ring.NoFrame && c.lost > c.retrans; f = a.Meta(f).Prev {
		m := a.Meta(f)
		if m.Flags&(frameLost|frameRetrans) == frameLost && c.timeInsert(f) {
			c.unmark(m, frameLen(m))
		}
	}
}

// insertSteps bounds the search for a frame's place by time.
const insertSteps = 64

// timeInsert puts f where it belongs on the list by time of transmission. That is
// mostly the front, since lost frames are old. false: the search would take long.
func (c *Conn) timeInsert(f ring.Frame) bool {
	a := c.h.Arena
	m := a.Meta(f)
	next := c.timeHead
	for n := 0; next != ring.NoFrame && a.Meta(next).SentAt < m.SentAt; n++ {
		if n == insertSteps {
			return false
		}
		next = a.Meta(next).TimeNext
	}
	if next == ring.NoFrame {
		c.timeAppend(f)
		return true
	}
	k := a.Meta(next)
	m.Flags |= frameTimed
	m.TimeNext, m.TimePrev = next, k.TimePrev
	if k.TimePrev == ring.NoFrame {
		c.timeHead = f
	} else {
		a.Meta(k.TimePrev).TimeNext = f
	}
	k.TimePrev = f
	return true
}
