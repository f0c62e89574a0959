package tcp

// The states of ProbeBW (section 5.3.3) and ProbeRTT (section 5.3.4).

// probing is IsInAProbeBWState.
func (b *bbr) probing() bool { return b.state >= bbrDown && b.state <= bbrUp }

// accelerating is IsProbingBW.
func (b *bbr) accelerating() bool {
	return b.state == bbrStartup || b.state == bbrRefill || b.state == bbrUp
}

func (b *bbr) startRound() { b.nextRound = b.total }

func (b *bbr) startDown() {
	b.resetSignals()
	b.upAckedPerInc = bbrInf
	b.pickWait()
	b.cycleAt = b.now
	b.ackPhase = bbrAcksStopping
	b.startRound()
	b.state, b.pacingGain, b.cwndGain = bbrDown, bbrDownGain, bbrCwndGain
}

func (b *bbr) startCruise() { b.state, b.pacingGain, b.cwndGain = bbrCruise, 1, bbrCwndGain }

func (b *bbr) startRefill() {
	b.resetShortTerm()
	b.upRounds, b.upAcked = 0, 0
	b.precautionary = false
	b.ackPhase = bbrAcksRefilling
	b.startRound()
	b.state, b.pacingGain, b.cwndGain = bbrRefill, 1, bbrCwndGain
}

func (b *bbr) startUp(c *Congestion, a *delivery) {
	b.ackPhase = bbrAcksStarting
	b.startRound()
	b.resetFullBW()
	b.fullBW = a.rate
	b.state, b.pacingGain, b.cwndGain = bbrUp, bbrUpGain, bbrUpCwndGain
	b.raiseSlope(c)
}

// pickWait decides when to probe for bandwidth again: after 2 to 3 s, or 62 or 63
// rounds (section 5.3.3.5.3). It is random so that flows do not probe together, not
// to hide anything: nobody gains by guessing it.
func (b *bbr) pickWait() {
	x := uint64(b.now) + 0x9e3779b97f4a7c15*uint64(b.rounds+1) // splitmix64
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	x ^= x >> 31
	b.sinceUp = uint32(x & 1)
	b.probeWait = 2e9 + int64(x>>1%1e9)
}

// updateProbeBW is UpdateProbeBWCyclePhase, section 5.3.3.6.
func (b *bbr) updateProbeBW(c *Congestion, a *delivery) {
	if !b.fullReached || b.adaptLongTerm(c, a) {
		return
	}
	switch b.state {
	case bbrDown, bbrCruise:
		if b.timeToProbe(c) {
			b.startRefill()
		} else if b.state == bbrDown && b.timeToCruise(c, a) {
			b.startCruise()
		}
	case bbrRefill:
		if b.roundStart {
			b.probeSample = true
			b.startUp(c, a)
		}
	case bbrUp:
		if b.timeToGoDown(c, a) {
			b.tooHigh = false
			b.startDown()
		}
	}
}

// timeToProbe is IsTimeToProbeBW: by the clock, or after as many rounds as
// Reno would need to grow as much.
func (b *bbr) timeToProbe(c *Congestion) bool {
	return b.now > b.cycleAt+b.probeWait ||
		float64(b.sinceUp) >= min(b.target(c)/float64(c.mss), bbrRenoRounds)
}

// target is TargetInflight.
func (b *bbr) target(c *Congestion) float64 { return min(b.bdp(), float64(c.cwnd)) }

func (b *bbr) timeToCruise(c *Congestion, a *delivery) bool {
	return float64(a.inflight) <= min(b.withHeadroom(c), b.inflight(c, b.maxBW, 1))
}

// withHeadroom is InflightWithHeadroom: it leaves room for other flows.
func (b *bbr) withHeadroom(c *Congestion) float64 {
	head := max(float64(c.mss), bbrHeadroom*b.inflightLong)
	if b.inflightLong == bbrInf {
		return bbrInf
	}
	return max(b.inflightLong-head, float64(bbrMinPipe*c.mss))
}

func (b *bbr) timeToGoDown(c *Congestion, a *delivery) bool {
	// If the last probe went too high, this one stops short of it (section
	// 5.3.3.4.2). The volume is that before the acknowledgement, in whole segments.
	if b.tooHigh && float64(a.inflight+a.acked+c.mss) > b.inflightLong {
		b.precautionary = true
		return true
	}
	if b.wasLimited() && float64(c.cwnd) >= b.inflightLong {
		b.resetFullBW() // our own bound, not the path, held us up
		b.fullBW = a.rate
		return false
	}
	return b.fullNow
}

// raiseSlope is RaiseInflightLongtermSlope: the bound grows by 1, 2, 4 ...
// segments a round.
func (b *bbr) raiseSlope(c *Congestion) {
	growth := float64(uint64(1) << b.upRounds)
	b.upRounds = min(b.upRounds+1, 30)
	b.upAckedPerInc = max(float64(c.cwnd)/growth, float64(c.mss))
}

// probeUpward is ProbeInflightLongtermUpward.
func (b *bbr) probeUpward(c *Congestion, a *delivery) {
	if !b.wasLimited() || float64(c.cwnd) < b.inflightLong {
		return
	}
	b.upAcked += float64(a.acked)
	if b.upAcked >= b.upAckedPerInc {
		n := float64(int64(b.upAcked / b.upAckedPerInc))
		b.upAcked -= n * b.upAckedPerInc
		b.inflightLong += n * float64(c.mss)
	}
	if b.roundStart {
		b.raiseSlope(c)
	}
}

// adaptLongTerm is AdaptLongTermModel. It reports whether the state changed.
func (b *bbr) adaptLongTerm(c *Congestion, a *delivery) bool {
	if b.ackPhase == bbrAcksStarting && b.roundStart {
		b.ackPhase = bbrAcksFeedback
	}
	if b.ackPhase == bbrAcksStopping && b.roundStart {
		b.probeSample = false
		b.ackPhase = bbrAcksInit
		if b.probing() {
			if !a.AppLimited && b.bwFilter[1] > 0 {
				b.bwFilter[0], b.bwFilter[1] = b.bwFilter[1], 0 // AdvanceMaxBwFilter
			}
			if b.precautionary && !b.tooHigh {
				b.startRefill() // the bound has proved safe: probe beyond it now
				return true
			}
		}
	}
	if !tooHigh(a.RateSample, a.sack) && b.inflightLong != bbrInf {
		b.inflightLong = max(b.inflightLong, float64(a.Flight))
		if b.state == bbrUp {
			b.probeUpward(c, a)
		}
	}
	return false
}

// updateMinRTT is section 5.3.4.3.
func (b *bbr) updateMinRTT(a *delivery) {
	b.probeRTTDue = b.now > b.probeRTTAt+bbrProbeRTTEvery
	if a.RTT > 0 && (a.RTT < b.probeRTTMin || b.probeRTTDue) {
		b.probeRTTMin, b.probeRTTAt = a.RTT, b.now
	}
	if b.probeRTTMin != maxProbeRTT && (b.minRTT == 0 || b.probeRTTMin < b.minRTT || b.now > b.minRTTAt+bbrMinRTTFilter) {
		b.minRTT, b.minRTTAt = b.probeRTTMin, b.probeRTTAt
	}
}

const maxProbeRTT = 1<<63 - 1 // no sample yet

// checkProbeRTT is section 5.3.4.3.
func (b *bbr) checkProbeRTT(c *Congestion, a *delivery) {
	if b.state != bbrProbeRTT && b.probeRTTDue && !b.idleRestart {
		b.saveCwnd(c)
		b.state, b.pacingGain, b.cwndGain = bbrProbeRTT, 1, bbrProbeRTTGain
		b.probeRTTDone = 0
		b.ackPhase = bbrAcksStopping
		b.startRound()
	}
	if b.state == bbrProbeRTT {
		b.handleProbeRTT(c, a)
	}
	if a.Delivered > 0 {
		b.idleRestart = false
	}
}

func (b *bbr) handleProbeRTT(c *Congestion, a *delivery) {
	a.limitApp = true // samples are low now
	switch {
	case b.probeRTTDone != 0:
		b.probeRTTRound = b.probeRTTRound || b.roundStart
		if b.probeRTTRound {
			b.checkProbeRTTDone(c)
		}
	case float64(a.inflight) <= b.probeRTTCwnd(c):
		b.probeRTTDone = b.now + bbrProbeRTTSpan
		b.probeRTTRound = false
		b.startRound()
	}
}

func (b *bbr) checkProbeRTTDone(c *Congestion) {
	if b.probeRTTDone == 0 || b.now <= b.probeRTTDone {
		return
	}
	b.probeRTTAt = b.now // the next is due so much later
	b.restoreCwnd(c)
	b.resetShortTerm()
	if b.fullReached {
		b.startDown()
		b.startCruise() // the queue is empty
	} else {
		b.enterStartup()
	}
}

func (b *bbr) probeRTTCwnd(c *Congestion) float64 {
	return max(b.multiple(c, b.bw, bbrProbeRTTGain), float64(bbrMinPipe*c.mss))
}
