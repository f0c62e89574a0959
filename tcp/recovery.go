package tcp

import "github.com/onload-go/onload/ring"

// recoveryState is where loss recovery stands.
type recoveryState uint8

const (
	noRecovery recoveryState = iota
	inRecovery               // fast recovery
	inLoss                   // after a retransmission timeout
)

// dupThresh is the number of duplicate ACKs that mean loss (RFC 5681).
const dupThresh = 3

func (c *Conn) cwnd() int { return int(c.cc.Cwnd()) }

// startCongestion sets the initial window for the negotiated MSS.
func (c *Conn) startCongestion() { c.cc.SetMSS(int(c.mss)) }

// recover is the part of ACK processing that detects losses and steers the
// congestion window.
func (c *Conn) recover(s *Segment, st *ackState, dup bool, now int64) {
	if st.reordered {
		c.set(markReordered)
		c.h.Stats.TCPSACKReorder.Add(1)
	}
	if c.has(markTLP) {
		c.probeAcked(s, st, dup, now)
	}
	if st.dsack {
		c.rack.onDSACK(c)
	}
	if !c.has(markSACK) {
		c.countDupAcks(st, dup)
	}
	again := false
	if c.recovery != noRecovery && !c.undo(s, st, now) && seqGE(c.sndUna, c.recoverSeq) {
		c.exitRecovery(now)
		again = c.lost > 0 // losses of what was sent in recovery are new ones
	}
	fresh := false
	if c.has(markSACK) {
		fresh = c.detectLoss(now)
	} else {
		fresh = c.newReno(st)
	}
	if (fresh || again) && c.recovery == noRecovery {
		c.enterRecovery(now)
	}
	if c.recovery == inRecovery {
		c.prr(st.delivered, st.acked > 0 && !fresh)
		return
	}
	// Duplicates alone raise nothing (as Linux), but where the path reorders
	// they are what acknowledgements look like.
	if st.delivered > 0 && (st.acked > 0 || c.has(markReordered)) {
		c.h.sample = AckSample{
			Now: now, RTT: st.rtt, MinRTT: c.rtt.Min(), SRTT: c.rtt.SRTT(),
			Acked: st.delivered, Una: c.sndUna, Nxt: c.sndNxt,
			Limited: c.has(markLimited) || c.recovery == inLoss,
		}
		c.cc.OnAck(&c.h.sample)
	}
}

// countDupAcks keeps, for a peer without SACK, the estimate of what duplicate
// ACKs stand for, so that it counts as delivered (RFC 3042, RFC 5681).
func (c *Conn) countDupAcks(st *ackState, dup bool) {
	switch {
	case st.acked > 0:
		c.dupAcks = 0
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
	// Never more than what may be in the network besides the losses.
	if most := c.sndNxt - c.sndUna - c.lost; c.dupSacked > most {
		c.dupSacked = most
	}
}

// newReno marks the first segment lost on the third duplicate ACK, and at
// each partial acknowledgement (RFC 6582).
func (c *Conn) newReno(st *ackState) (fresh bool) {
	if c.sndHead == ring.NoFrame || c.sndHead == c.sndNext {
		return false
	}
	m := c.h.Arena.Meta(c.sndHead)
	switch {
	case c.recovery == noRecovery:
		// Not again for the duplicates of one recovery: section 3.2, step 2.
		if c.dupAcks < dupThresh || seqLT(c.sndUna, c.recoverSeq) {
			return false
		}
	case c.recovery != inRecovery || st.acked == 0 || m.Flags&frameLost != 0:
		return false
	}
	c.markLost(c.sndHead)
	return true
}

// enterRecovery begins fast recovery: RFC 6675 section 5, RFC 6937.
func (c *Conn) enterRecovery(now int64) {
	if c.has(markSACK) {
		c.h.Stats.TCPSackRecovery.Add(1)
	} else {
		c.h.Stats.TCPRenoRecovery.Add(1)
	}
	c.recovery = inRecovery
	if c.has(markPTO) {
		c.stopProbe(now)
	}
	c.beginEpisode()
	c.cc.EnterRecovery(now)
}

// beginEpisode remembers where recovery began, for its end and for undoing.
func (c *Conn) beginEpisode() {
	c.recoverSeq = c.sndNxt
	c.undoSeq = c.sndUna
	c.undoRetrans = 0
	c.retransStamp = 0
	c.prrDelivered, c.prrSent = 0, 0
	c.prrFlight = max(c.sndNxt-c.sndUna-c.sacked, 1)
	c.clear(markRescued | markTLP)
}

func (c *Conn) exitRecovery(now int64) {
	if c.recovery == inRecovery {
		c.cc.ExitRecovery(now)
	}
	c.recovery = noRecovery
	c.dupSacked = 0
	c.dupAcks = 0
	c.rack.onRecovered()
}

// prr is Proportional Rate Reduction (RFC 6937): it spreads the reduction of
// the window over the round trip.
func (c *Conn) prr(delivered uint32, progress bool) {
	mss := int(c.mss)
	c.prrDelivered += delivered
	pipe, ssthresh := c.pipe(), int(c.cc.Ssthresh())
	var n int
	if pipe > ssthresh {
		n = int((uint64(c.prrDelivered)*uint64(ssthresh)+uint64(c.prrFlight)-1)/uint64(c.prrFlight)) - int(c.prrSent)
	} else {
		n = max(int(c.prrDelivered)-int(c.prrSent), int(delivered))
		if progress {
			n += mss // slow start reduction bound
		}
		n = min(n, ssthresh-pipe)
	}
	if c.prrSent == 0 {
		n = max(n, mss) // the fast retransmission itself
	}
	c.cc.SetCwnd(uint32(max(pipe+n, mss)))
}

// undo takes a reduction back that was needless: every retransmission was
// reported as a duplicate (RFC 3708), or the acknowledgement was of the
// original (RFC 3522).
func (c *Conn) undo(s *Segment, st *ackState, now int64) bool {
	eifel := st.acked > 0 && c.retransStamp != 0 && c.has(markTS) && s.Opt.HasTS &&
		s.Opt.TSEcr != 0 && int32(s.Opt.TSEcr-c.retransStamp) < 0
	if !eifel && !(st.dsack && c.retransTotal > 0 && c.undoRetrans == 0 && c.retransStamp != 0) {
		return false
	}
	switch {
	case !eifel:
		c.h.Stats.TCPDSACKUndo.Add(1)
	case c.recovery == inLoss:
		c.h.Stats.TCPLossUndo.Add(1)
	default:
		c.h.Stats.TCPFullUndo.Add(1)
	}
	c.cc.Undo(now)
	c.recovery = noRecovery
	c.dupSacked, c.dupAcks = 0, 0
	c.retransStamp = 0
	c.unmarkAll()
	return true
}

// unmarkAll takes back the marks of what was never retransmitted. Such frames
// are older than all that are not lost.
func (c *Conn) unmarkAll() {
	a := c.h.Arena
	f := c.sndTail
	if c.sndNext != ring.NoFrame {
		f = a.Meta(c.sndNext).Prev
	}
	for ; f != ring.NoFrame; f = a.Meta(f).Prev {
		m := a.Meta(f)
		if m.Flags&frameLost != 0 && m.Retrans == 0 {
			c.unmark(m, frameLen(m))
			c.timePrepend(f)
		}
	}
}

// timeout is what an expired retransmission timer means to recovery: all that
// is not SACKed is lost, and sending begins anew with one segment (RFC 5681,
// RFC 6675 section 5.1).
func (c *Conn) timeout(now int64) {
	a := c.h.Arena
	first := c.recovery != inLoss && c.backoff == 0
	// A peer that dropped what it had SACKed: believe none of it (RFC 2018
	// section 8).
	renege := a.Meta(c.sndHead).Flags&frameSacked != 0
	for f := c.sndHead; f != ring.NoFrame && f != c.sndNext; f = a.Meta(f).Next {
		m := a.Meta(f)
		if renege && m.Flags&frameSacked != 0 {
			m.Flags &^= frameSacked
			c.sacked -= frameLen(m)
		}
		c.markLost(f)
	}
	if renege {
		c.rack.high = c.sndUna
		c.h.Stats.TCPSACKReneging.Add(1)
	}
	c.dupSacked, c.dupAcks = 0, 0
	c.lostHint = c.sndHead
	if c.recovery != inLoss {
		c.beginEpisode()
	}
	c.recoverSeq = c.sndNxt
	c.recovery = inLoss
	c.cc.OnRTO(now, first)
}

// restartAfterIdle lowers the window after silence: RFC 5681 section 4.1.
func (c *Conn) restartAfterIdle(now int64) {
	if c.sndUna != c.sndNxt {
		return
	}
	if rto := c.rtt.RTO(); now-c.lastSnd > rto {
		c.cc.OnIdle(now, now-c.lastSnd, rto)
		c.lastSnd = now
	}
}
