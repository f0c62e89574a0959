package tcp

import "math"

// The model of the path (section 5.5), and how losses change it.

// updateLatest is UpdateLatestDeliverySignals, section 5.5.10.3.
func (b *bbr) updateLatest(a *delivery) {
	b.lossRoundStart = false
	b.bwLatest = max(b.bwLatest, a.rate)
	b.inflightLatest = max(b.inflightLatest, float64(a.Delivered))
	if a.hasData() && seqGE(a.PriorDelivered, b.lossRound) {
		b.lossRound = b.total
		b.lossRoundStart = true
	}
}

func (b *bbr) advanceLatest(a *delivery) {
	if b.lossRoundStart {
		b.bwLatest, b.inflightLatest = a.rate, float64(a.Delivered)
		b.lossRanges = 0
	}
}

func (b *bbr) resetSignals() {
	b.lossInRound = false
	b.bwLatest, b.inflightLatest = 0, 0
}

func (b *bbr) resetShortTerm() { b.bwShort, b.inflightShort = bbrInf, bbrInf }

// updateCongestion is UpdateCongestionSignals: it counts rounds, takes the
// sample, and answers losses once a round.
func (b *bbr) updateCongestion(c *Congestion, a *delivery) {
	b.updateMaxBW(a)
	if !b.lossRoundStart {
		return
	}
	if b.lossInRound && !b.accelerating() {
		if b.bwShort == bbrInf {
			b.bwShort = b.maxBW
		}
		if b.inflightShort == bbrInf {
			b.inflightShort = float64(c.cwnd)
		}
		b.bwShort = max(b.bwLatest, bbrBeta*b.bwShort)
		b.inflightShort = max(b.inflightLatest, bbrBeta*b.inflightShort)
	}
	b.lossInRound = false
}

// updateMaxBW is UpdateRound and UpdateMaxBw, sections 5.5.1 and 5.5.5.
func (b *bbr) updateMaxBW(a *delivery) {
	if b.roundStart = a.hasData() && seqGE(a.PriorDelivered, b.nextRound); b.roundStart {
		b.startRound()
		b.rounds++
		b.sinceUp++
		b.limitedBefore, b.limitedNow = b.limitedNow, false
	}
	if a.rate > 0 && (a.rate >= b.maxBW || !a.AppLimited) {
		b.bwFilter[1] = max(b.bwFilter[1], a.rate)
	}
	b.maxBW = max(b.bwFilter[0], b.bwFilter[1])
}

// boundBW is BoundBWForModel.
func (b *bbr) boundBW() { b.bw = min(b.maxBW, b.bwShort) }

// updateAggregation is section 5.5.9: it measures how much more was acknowledged at
// once than the rate explains. The filter's window is the last 5 to 10 rounds, in
// Startup the last one or two.
func (b *bbr) updateAggregation(c *Congestion, a *delivery) {
	expected := b.bw * float64(b.now-b.extraStart) / 1e9
	if b.extraBytes <= expected {
		b.extraBytes, b.extraStart, expected = 0, b.now, 0
	}
	b.extraBytes += float64(a.acked)
	extra := min(b.extraBytes-expected, float64(c.cwnd))
	span := uint32(1)
	if b.fullReached {
		span = bbrAckedRounds / 2
	}
	if b.rounds-b.extraRound >= span {
		b.extraFilter[0], b.extraFilter[1] = b.extraFilter[1], 0
		b.extraRound = b.rounds
	}
	b.extraFilter[1] = max(b.extraFilter[1], extra)
	b.extraAcked = max(b.extraFilter[0], b.extraFilter[1])
}

// tooHigh is IsInflightTooHigh, section 5.5.10.2.
func tooHigh(rs *RateSample, sack bool) bool {
	return float64(rs.Lost) > float64(rs.Flight)*bbrLossThresh || rs.Lost > 0 && !sack
}

// noteLoss is NoteLoss and SaveStateUponLoss: it keeps the model as it was when
// recovery began.
func (b *bbr) noteLoss() {
	if !b.lossInRound {
		b.lossRound = b.total
	}
	b.lossInRound = true
	if !b.saved {
		b.saved = true
		b.undoState = bbrNone
		b.undoBWShort, b.undoInflightShort, b.undoInflightLong = b.bwShort, b.inflightShort, b.inflightLong
	}
}

// lost is HandleLostPacket, section 5.5.10.2. [seq, end) is lost; rs has what was
// in flight and what was lost when it was sent.
func (b *bbr) lost(c *Congestion, rs *RateSample, seq, end uint32, sack bool) {
	if b.lossRanges == 0 || seq != b.lossEnd {
		b.lossRanges = min(b.lossRanges, 254) + 1
	}
	b.lossEnd = end
	b.noteLoss()
	if !b.probeSample || !tooHigh(rs, sack) {
		return
	}
	// InflightAtLoss: the volume in flight at which losses passed the threshold.
	size := float64(end - seq)
	before, lostBefore := float64(rs.Flight)-size, float64(rs.Lost)-size
	flight := before + (bbrLossThresh*before-lostBefore)/(1-bbrLossThresh)
	b.handleTooHigh(c, flight, rs.AppLimited)
}

// handleTooHigh is HandleInflightTooHigh.
func (b *bbr) handleTooHigh(c *Congestion, flight float64, limited bool) {
	b.tooHigh = true
	b.probeSample = false // once for a probe
	if !limited {
		b.inflightLong = math.Floor(max(flight, b.target(c)*bbrBeta))
	}
	if b.state == bbrUp {
		b.undoState = bbrUp
		b.startDown()
	}
}

// marked takes a congestion mark (ECN) of the path, which means congestion as a
// loss does. The draft asks for no more (section 3.7).
func (b *bbr) marked(c *Congestion, inflight uint32) {
	b.noteLoss()
	b.saved = b.inRecovery // the effect of a mark is not taken back
	if b.state == bbrStartup {
		b.markInRound = true
	}
	if b.probeSample {
		b.handleTooHigh(c, float64(inflight), false)
		b.undoState = bbrNone
	}
}

// enterRecovery and timeout are section 5.6.4.4.
func (b *bbr) enterRecovery(c *Congestion) {
	b.noteLoss()
	b.saveCwnd(c)
	b.inRecovery, b.recoveryStart = true, b.total
}

func (b *bbr) timeout(c *Congestion) {
	b.noteLoss()
	b.saveCwnd(c)
	b.inRecovery = true
	c.cwnd = c.mss
}

func (b *bbr) exitRecovery(c *Congestion) {
	b.restoreCwnd(c)
	b.inRecovery, b.saved = false, false
}

// spurious is HandleSpuriousLossDetection, section 5.5.11.2.
func (b *bbr) spurious(c *Congestion) {
	b.restoreCwnd(c)
	b.inRecovery, b.saved, b.lossInRound = false, false, false
	b.resetFullBW()
	b.bwShort = max(b.bwShort, b.undoBWShort)
	b.inflightShort = max(b.inflightShort, b.undoInflightShort)
	b.inflightLong = max(b.inflightLong, b.undoInflightLong)
	switch {
	case b.state == b.undoState:
	case b.undoState == bbrStartup:
		b.fullReached = false
		if b.state != bbrProbeRTT {
			b.enterStartup()
		}
	case b.undoState == bbrUp && b.state != bbrProbeRTT:
		b.startRefill()
	}
	b.undoState = bbrNone
}
