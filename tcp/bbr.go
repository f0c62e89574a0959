package tcp

import "math"

// BBR version 3, after draft-ietf-ccwg-bbr. The comments give the draft's sections
// and names. BBR models the path by two figures, the highest delivery rate and the
// least round trip, and paces at that rate instead of filling the queue of the
// bottleneck. Volumes are bytes, rates bytes per second, times nanoseconds.

// The constants of sections 2.3 to 2.15.
const (
	bbrStartupGain   = 2.77
	bbrDrainGain     = 0.5
	bbrUpGain        = 1.25
	bbrDownGain      = 0.9
	bbrCwndGain      = 2.0
	bbrUpCwndGain    = 2.25
	bbrProbeRTTGain  = 0.5
	bbrMargin        = 0.99 // 1 - PacingMarginPercent
	bbrLossThresh    = 0.02
	bbrBeta          = 0.7
	bbrHeadroom      = 0.15
	bbrMinPipe       = 4 // segments
	bbrStartupLosses = 6 // ranges in a round (BBRStartupFullLossCnt)
	bbrFullRounds    = 3
	bbrFullGrowth    = 1.25
	bbrDrainRounds   = 3
	bbrRenoRounds    = 63
	bbrAckedRounds   = 10
	bbrMinRTTFilter  = int64(10e9)
	bbrProbeRTTEvery = int64(5e9)
	bbrProbeRTTSpan  = int64(200e6)
)

// bbrState is where the state machine stands (section 5.1).
type bbrState uint8

const (
	bbrStartup bbrState = iota
	bbrDrain
	bbrDown
	bbrCruise
	bbrRefill
	bbrUp
	bbrProbeRTT
	bbrNone // no state to go back to
)

var bbrStateNames = [...]string{"startup", "drain", "probe_bw_down", "probe_bw_cruise", "probe_bw_refill", "probe_bw_up", "probe_rtt"}

// bbrPhase says what the acknowledgements that come now belong to (BBR.ack_phase,
// section 2.12).
type bbrPhase uint8

const (
	bbrAcksInit bbrPhase = iota
	bbrAcksRefilling
	bbrAcksStarting
	bbrAcksFeedback
	bbrAcksStopping
)

// bbr is the model of a connection's path. It is on the heap, since few
// connections have one.
type bbr struct {
	now        int64  // of the last event
	total      uint32 // C.delivered then, modulo 2^32
	state      bbrState
	ackPhase   bbrPhase
	pacingGain float64
	cwndGain   float64
	rate       float64 // C.pacing_rate
	started    bool    // the rate comes from a round trip

	// Rounds, section 5.5.1.
	nextRound  uint32 // next_round_delivered
	rounds     uint32
	roundStart bool
	drainStart uint32 // drain_start_round

	// The model: section 5.5.
	bw          float64
	maxBW       float64
	bwFilter    [2]float64 // of the previous and of this cycle
	minRTT      int64      // 0: none
	minRTTAt    int64
	extraAcked  float64
	extraFilter [2]float64 // of the previous and of this window
	extraRound  uint32     // in which this window began
	extraStart  int64
	extraBytes  float64

	// Bounds; infinite where not set.
	inflightLong  float64
	inflightShort float64
	bwShort       float64

	// What the last round delivered, section 5.5.10.3.
	bwLatest       float64
	inflightLatest float64
	lossRound      uint32 // loss_round_delivered
	lossRoundStart bool
	lossInRound    bool
	markInRound    bool   // ECN
	lossRanges     uint8  // of sequence numbers, in this round
	lossEnd        uint32 // end of the last
	recoveryStart  uint32 // what was delivered when recovery began

	// Full pipe, section 5.3.1.2.
	fullBW      float64
	fullCount   uint8
	fullNow     bool
	fullReached bool

	// ProbeBW, section 5.3.3.
	probeSample   bool // is_bw_probe_sample
	tooHigh       bool // prev_probe_too_high
	precautionary bool // prev_probe_precautionary
	upAcked       float64
	upAckedPerInc float64
	upRounds      uint8
	sinceUp       uint32 // rounds_since_probe_up
	probeWait     int64
	cycleAt       int64

	// ProbeRTT, section 5.3.4.
	probeRTTMin   int64
	probeRTTAt    int64 // probe_rtt_min_stamp
	probeRTTDone  int64 // 0: not known yet
	probeRTTRound bool
	probeRTTDue   bool // probe_rtt_expired
	idleRestart   bool

	priorCwnd  uint32
	inRecovery bool

	// To take back, section 5.5.11.
	saved             bool
	undoState         bbrState
	undoBWShort       float64
	undoInflightShort float64
	undoInflightLong  float64

	// Whether cwnd held data back, in the last round and in this.
	limitedBefore, limitedNow bool
}

var bbrInf = math.Inf(1)

// hasData is RS.has_data: at least one packet was delivered, not merely some bytes
// of it.
func (a *delivery) hasData() bool { return a.Flight != 0 }

// start is OnInit, section 5.2.1.
func (b *bbr) start(c *Congestion, total uint32, now, srtt int64) {
	*b = bbr{
		undoState: bbrNone, inflightLong: bbrInf, inflightShort: bbrInf, bwShort: bbrInf,
		upAckedPerInc: bbrInf, minRTT: srtt, minRTTAt: now, probeRTTAt: now,
		extraStart: now, now: now, probeRTTMin: math.MaxInt64, total: total, nextRound: total, lossRound: total,
	}
	b.initRate(c, srtt)
	b.enterStartup()
}

// initRate is InitPacingRate, section 5.6.2.
func (b *bbr) initRate(c *Congestion, srtt int64) {
	b.started = srtt != 0
	if srtt == 0 {
		srtt = 1e6
	}
	b.rate = bbrStartupGain * float64(c.initial()) * 1e9 / float64(srtt)
}

func (b *bbr) enterStartup() {
	b.state, b.pacingGain, b.cwndGain = bbrStartup, bbrStartupGain, bbrCwndGain
}

// pacingRate is C.pacing_rate, at least one byte per second.
func (b *bbr) pacingRate() uint64 { return uint64(max(b.rate, 1)) }

// ack is UpdateOnACK, section 5.2.3.
func (b *bbr) ack(c *Congestion, a *delivery) {
	c.fresh = false
	a.rate = a.Rate()
	if !b.started && a.srtt != 0 {
		b.initRate(c, a.srtt)
	}
	b.updateLatest(a)
	b.updateCongestion(c, a)
	b.updateAggregation(c, a)
	b.checkFullBW(a)
	b.checkStartupDone(c, a)
	b.checkDrainDone(c, a)
	b.updateProbeBW(c, a)
	b.updateMinRTT(a)
	b.checkProbeRTT(c, a)
	b.advanceLatest(a)
	b.boundBW()

	b.setRate(b.pacingGain)
	b.setCwnd(c, a)
}

// checkFullBW is CheckFullBWReached, section 5.3.1.2.
func (b *bbr) checkFullBW(a *delivery) {
	if b.fullNow || !b.roundStart || a.AppLimited || a.rate == 0 {
		return
	}
	if a.rate >= b.fullBW*bbrFullGrowth {
		b.resetFullBW()
		b.fullBW = a.rate
		return
	}
	b.fullCount++
	if b.fullCount >= bbrFullRounds {
		b.fullNow, b.fullReached = true, true
	}
}

func (b *bbr) resetFullBW() { b.fullBW, b.fullCount, b.fullNow = 0, 0, false }

// checkStartupDone leaves Startup, sections 5.3.1.2 and 5.3.1.3.
func (b *bbr) checkStartupDone(c *Congestion, a *delivery) {
	if b.state != bbrStartup {
		return
	}
	if b.startupLoss(a) {
		b.undoState = bbrStartup
		b.fullNow, b.fullReached = true, true
		b.inflightLong = math.Floor(max(b.bdp(), b.inflightLatest))
	}
	if b.fullReached {
		b.state, b.pacingGain, b.cwndGain = bbrDrain, bbrDrainGain, bbrCwndGain
		b.drainStart = b.rounds
	}
}

// startupLoss reports whether a round lost so much, or was marked so, that the path
// must be full. The draft leaves ECN open, except that a mark counts as congestion.
func (b *bbr) startupLoss(a *delivery) bool {
	switch {
	case b.markInRound:
		return true
	case !b.inRecovery:
		return false
	case !a.sack:
		return b.lossInRound
	}
	return b.lossRoundStart && seqGE(a.PriorDelivered, b.recoveryStart) && b.lossRanges >= bbrStartupLosses && tooHigh(a.RateSample, a.sack)
}

// checkDrainDone is section 5.3.2.
func (b *bbr) checkDrainDone(c *Congestion, a *delivery) {
	if b.state == bbrDrain && (float64(a.inflight) <= b.inflight(c, b.bw, 1) ||
		b.rounds > b.drainStart+bbrDrainRounds) {
		b.startDown()
	}
}

// restart is HandleRestartFromIdle, section 5.4.1: nothing is in flight, and
// something is about to be. limited says that the application limited the
// connection.
func (b *bbr) restart(c *Congestion, limited bool) {
	if !limited {
		return
	}
	b.idleRestart = true
	b.extraStart, b.extraBytes = b.now, 0
	switch {
	case b.probing():
		b.setRate(1)
	case b.state == bbrProbeRTT:
		b.checkProbeRTTDone(c)
	}
}

// bdp is BBR.bdp; 0 without a sample of the round trip.
func (b *bbr) bdp() float64 { return b.bw * float64(b.minRTT) / 1e9 }

// inflight is Inflight(bw, gain), section 5.6.4.2.
func (b *bbr) inflight(c *Congestion, bw, gain float64) float64 {
	return b.quantize(c, b.multiple(c, bw, gain))
}

func (b *bbr) multiple(c *Congestion, bw, gain float64) float64 {
	if b.minRTT == 0 {
		return float64(c.initial())
	}
	return gain * bw * float64(b.minRTT) / 1e9
}

// quantize is QuantizationBudget, with section 5.5.8's offload budget: three
// quanta where packets are made of several segments.
func (b *bbr) quantize(c *Congestion, v float64) float64 {
	v = max(v, 3*b.quantum(c), float64(bbrMinPipe*c.mss))
	if b.state == bbrUp {
		v += 2 * float64(c.mss)
	}
	return v
}

// quantum is C.send_quantum, section 5.6.3.
func (b *bbr) quantum(c *Congestion) float64 {
	if c.pacer == nil {
		return float64(minQuantum * c.mss)
	}
	return float64(c.pacer.quantum(int(c.mss)))
}

// setRate is SetPacingRateWithGain, section 5.6.2.
func (b *bbr) setRate(gain float64) {
	rate := gain * b.bw * bbrMargin
	if rate > 0 && (b.fullReached || rate > b.rate) {
		b.rate = rate
	}
}

// setCwnd is SetCwnd, section 5.6.4.6.
func (b *bbr) setCwnd(c *Congestion, a *delivery) {
	cwnd := float64(c.cwnd)
	most := b.quantize(c, b.multiple(c, b.bw, b.cwndGain)+b.extraAcked)
	switch {
	case b.fullReached:
		cwnd = min(cwnd+float64(a.acked), most)
	case cwnd < most || b.total < c.initial():
		cwnd += float64(a.acked)
	}
	cwnd = max(cwnd, float64(bbrMinPipe*c.mss))
	if b.state == bbrProbeRTT {
		cwnd = min(cwnd, b.probeRTTCwnd(c))
	}
	// BoundCwndForModel, section 5.6.4.7.
	most = bbrInf
	switch {
	case b.state == bbrCruise || b.state == bbrProbeRTT:
		most = b.withHeadroom(c)
	case b.probing():
		most = b.inflightLong
	}
	most = max(min(most, b.inflightShort), float64(bbrMinPipe*c.mss))
	c.cwnd = uint32(min(cwnd, most, maxCwnd))
}

// saveCwnd is SaveCwnd, section 5.6.4.4.
func (b *bbr) saveCwnd(c *Congestion) {
	if b.inRecovery || b.state == bbrProbeRTT {
		b.priorCwnd = max(b.priorCwnd, c.cwnd)
	} else {
		b.priorCwnd = c.cwnd
	}
}

func (b *bbr) restoreCwnd(c *Congestion) { c.cwnd = max(c.cwnd, b.priorCwnd) }

// wasLimited is C.is_cwnd_limited.
func (b *bbr) wasLimited() bool { return b.limitedBefore || b.limitedNow }
