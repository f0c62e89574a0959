package tcp

import "github.com/onload-go/onload/ring"

// recoveryState is where loss recovery stands.
type recoveryState uint8

const (
	noRecovery recoveryState = iota
	inRecovery               // fast recovery
	inLoss                   // after a retransmission timeout
)

func (c *Conn) cwnd() int { return int(c.cc.Cwnd()) }

// startCongestion sets the initial window for the negotiated MSS.
func (c *Conn) startCongestion(now int64) {
	c.cc.SetMSS(int(c.mss))
	c.startModel(now)
}

// recover is the part of ACK processing that detects losses and steers the
// congestion window.
func (c *Conn) recover(s *Segment, st *ackState, dup bool, now int64) {
	if st.reordered {
		c.set(markReordered)
		c.h.Stats.TCPSACKReorder.Add(1)
	}
	if c.has(markTLP) {
		c.tlpAcked(s, st, dup, now)
	}
	if st.dsack {
		c.rack.onDSACK(c)
	}
	switch {
	case !c.has(markSACK):
		c.countDupAcks(st, dup)
	case st.acked > 0:
		c.dupAcks = 0
	case st.sacked && c.dupAcks < 255:
		c.dupAcks++ // one segment, or more
	}
	again := false
	if undone := c.has(markUndo) && c.undo(st, dup, now); !undone && c.recovery != noRecovery &&
		seqGE(c.sndUna, c.recoverSeq) {
		c.exitRecovery(now)
		again = c.lost > 0 // losses of data that recovery sent are new ones
	}
	fresh := false
	if c.has(markSACK) {
		fresh = c.detectLoss(now)
	} else {
		fresh = c.detectLossNoSACK(st, now)
	}
	if (fresh || again) && c.recovery == noRecovery {
		c.enterRecovery(now)
		c.prrFlight += st.delivered
	}
	if c.ecn&ecnECT != 0 {
		c.sendECN(s, st, now)
	}
	if c.rare.rate != nil {
		c.rateSample(&c.h.rate, now)
	}
	if c.cc.models {
		c.modelAck(st, now)
		return
	}
	if c.recovery == inRecovery || c.recovery == noRecovery && c.ecn&ecnReducing != 0 {
		c.prr(st.delivered, st.acked > 0 && !fresh)
		if fresh && !c.has(markSACK) {
			// RFC 6582 section 3.2, step 3: the data that a partial acknowledgement
			// asks for is sent at once.
			c.cc.SetCwnd(max(c.cc.Cwnd(), uint32(c.pipe())+uint32(c.mss)))
		}
		if c.cc.pacer != nil {
			c.cc.pace(c.rtt.SRTT())
		}
		return
	}
	// Duplicates alone raise nothing (as Linux), except where the path reorders:
	// there acknowledgements look like duplicates.
	if st.delivered > 0 && (st.acked > 0 || c.has(markReordered)) {
		if c.recovery == inLoss && !c.has(markSACK) {
			// Much of this data may have left the network before the timeout: RFC
			// 3465 section 2.3.
			st.delivered = min(st.delivered, uint32(c.mss))
		}
		// Assign field by field. The compiler builds a literal elsewhere and copies
		// it, and the copy waits for the stores.
		a := &c.h.sample
		a.Now, a.RTT, a.MinRTT, a.SRTT = now, st.rtt, c.rtt.Min(), c.rtt.SRTT()
		a.Acked, a.Una, a.Nxt = st.delivered, c.sndUna, c.sndNxt
		a.Limited = c.has(markLimited) || c.recovery == inLoss || c.cc.InSlowStart() && c.cwnd() < 2*int(c.mostOut)
		c.cc.OnAck(a)
	}
	if c.cc.pacer != nil {
		c.cc.pace(c.rtt.SRTT())
	}
}

// enterRecovery begins fast recovery: RFC 6675 section 5, RFC 6937.
func (c *Conn) enterRecovery(now int64) {
	if c.onlyMTUProbeLost() {
		c.recovery = inLoss
		c.beginEpisode(now)
		return
	}
	if c.has(markSACK) {
		c.h.Stats.TCPSackRecovery.Add(1)
	} else {
		c.h.Stats.TCPRenoRecovery.Add(1)
	}
	c.recovery = inRecovery
	c.beginEpisode(now)
	if c.ecn&ecnReducing == 0 { // else the same congestion was answered already
		c.set(markUndo)
		c.cc.EnterRecovery()
	}
	c.reduced()
}

// beginEpisode remembers where recovery began, to recognise its end and to undo it.
func (c *Conn) beginEpisode(now int64) {
	if c.has(markPTO) {
		c.stopTLP(now)
	}
	c.recoverSeq = c.sndNxt
	c.undoSeq = c.sndUna
	// The peer may yet report duplicates of segments that are in flight twice.
	c.undoRetrans = int32((c.retrans + uint32(c.mss) - 1) / uint32(c.mss))
	if c.mark&(markTLP|markTLPRetrans) == markTLP|markTLPRetrans || c.has(markRescued) && seqLT(c.sndUna, c.tlpEnd) {
		c.undoRetrans++
	}
	// So may the original of an earlier retransmission, which an older timestamp
	// betrays.
	if c.undoRetrans == 0 {
		c.undoRetrans = -1
		if c.sndHead == ring.NoFrame || c.h.Arena.Meta(c.sndHead).Retrans == 0 {
			c.retransStamp = 0
		}
	}
	c.startPRR()
	c.clear(markRescued | markTLP | markUndo | markTimeout | markFRTO | markFRTONew)
}

// startPRR begins the counts of prr. prrFlight is RecoverFS, the bytes that will
// arrive in this recovery. A caller in the middle of an acknowledgement adds the
// bytes that it delivered, since prr counts them (RFC 9937 section 6.2).
func (c *Conn) startPRR() {
	c.prrDelivered, c.prrSent = 0, 0
	c.prrFlight = max(c.sndNxt-c.sndUna-c.sacked-c.dupSacked, 1)
}

func (c *Conn) exitRecovery(now int64) {
	if c.recovery == inRecovery || c.cc.models {
		c.cc.ExitRecovery()
	}
	c.recovery = noRecovery
	c.clear(markFRTO | markFRTONew)
	c.dupSacked = 0
	c.dupAcks = 0
	c.rack.onRecovered()
}

// prr is Proportional Rate Reduction (RFC 6937, RFC 9937): it spreads the
// reduction of the window over the round trip. Below ssthresh it sends what
// arrives (the conservative reduction bound), and a segment more for each
// acknowledgement that moves SND.UNA without showing another loss (the slow
// start reduction bound).
func (c *Conn) prr(delivered uint32, progress bool) {
	if c.cc.models {
		return
	}
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

// noteFlight keeps the most that was in flight at once in the last round trip. In
// slow start a window may grow if more than half of it was used (RFC 7661 section
// 4.3, as Linux's tcp_is_cwnd_limited).
func (c *Conn) noteFlight() {
	if n := c.sndNxt - c.sndUna; n > c.mostOut || seqGE(c.sndUna, c.mostOutSeq) {
		c.mostOut, c.mostOutSeq = n, c.sndNxt
	}
}

// unusedCwnd lowers a window that the application did not fill for an RTO, so that
// a window that was valid long ago does not become a burst: RFC 2861 section 3.2,
// as Linux.
func (c *Conn) unusedCwnd(now int64) {
	if c.has(markKeepCwnd) {
		return
	}
	if c.usedAt == 0 {
		c.usedAt = now
	}
	c.cwndUsed = max(c.cwndUsed, uint32(c.pipe()))
	if now-c.usedAt < c.rtt.RTO() {
		return
	}
	if c.recovery == noRecovery && c.ecn&ecnReducing == 0 {
		c.cc.OnUnused(c.cwndUsed)
	}
	c.usedAt, c.cwndUsed = now, 0
}

// restartAfterIdle lowers the window after silence: RFC 5681 section 4.1.
func (c *Conn) restartAfterIdle(now int64) {
	if c.sndUna != c.sndNxt {
		return
	}
	if c.cc.past != nil || c.cc.models {
		c.cc.OnRestart(now, c.cc.models && c.rare.rate.limited != 0)
	}
	if rto := c.rtt.RTO(); now-c.lastSnd > rto && !c.has(markKeepCwnd) {
		if c.ecn&ecnReducing != 0 {
			// End this reduction now: later its end would raise cwnd to ssthresh.
			c.ecn &^= ecnReducing
			c.cc.ExitRecovery()
		}
		c.cc.OnIdle(now-c.lastSnd, rto)
		c.lastSnd = now
		c.usedAt, c.cwndUsed = now, 0
	}
}
