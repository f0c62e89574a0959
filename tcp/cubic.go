package tcp

import "math"

// cubic is the congestion control of RFC 9438. Its windows are counted in
// segments, as the RFC's are.
type cubic struct{ windowed }

const (
	cubicC       = 0.4                                   // section 5
	cubicBeta    = 0.7                                   // section 4.6
	cubicBetaECN = 0.85                                  // RFC 8511 section 3.1
	cubicAlpha   = 3 * (1 - cubicBeta) / (1 + cubicBeta) // section 4.3
)

// cubicState is what cubic remembers of a connection.
type cubicState struct {
	epoch int64   // start of this congestion avoidance; 0: not yet
	last  int64   // last acknowledgement
	wEst  float64 // what Reno would have, section 4.3
	frac  float32 // bytes, less than one, that cwnd is still owed
	wMax  float32
	k     float32 // seconds
	prior float32 // cwnd before the last reduction
}

func (cubic) name() string { return "cubic" }

func (l cubic) law() windowLaw { return l }

func (cubic) start(c *Congestion) {
	if c.past != nil {
		c.past.cubic = cubicState{}
	}
}

func (cubic) ack(c *Congestion, s *AckSample) {
	if !s.Limited {
		// Time in which the window was not needed does not count (section 5.8).
		if p := c.past; p != nil && p.cubic.epoch != 0 {
			p.cubic.epoch += s.Now - p.cubic.last
			p.cubic.last = s.Now
		}
		return
	}
	acked := s.Acked
	if c.InSlowStart() {
		if p := c.past; p != nil {
			p.cubic.epoch = 0 // section 4.2: it begins with congestion avoidance
		}
		if acked = c.slowStart(s); acked == 0 {
			return
		}
	}
	q := &c.remember().cubic
	q.last = s.Now
	mss := float64(c.mss)
	cwnd := float64(c.cwnd) / mss
	if q.epoch == 0 {
		q.begin(cwnd, s.Now)
	}
	n := float64(acked) / mss

	// Section 4.3: the Reno-friendly region.
	alpha := cubicAlpha
	if q.wEst >= float64(q.prior) {
		alpha = 1
	}
	q.wEst = min(q.wEst+alpha*n/cwnd, maxCwnd/mss)

	t := float64(s.Now-q.epoch) / 1e9
	if w := q.at(t); w < q.wEst {
		if q.wEst > cwnd {
			c.SetCwnd(uint32(q.wEst * mss))
			q.frac = 0
		}
		return
	}
	// Sections 4.4 and 4.5: the window moves towards the value of the curve one
	// round trip ahead, by at most half a window, and never shrinks.
	target := min(max(q.at(t+float64(s.SRTT)/1e9), cwnd), 1.5*cwnd)
	add := float64(q.frac) + (target-cwnd)/cwnd*n*mss
	add = min(add, float64(maxCwnd))
	c.SetCwnd(c.cwnd + uint32(add))
	q.frac = float32(add - math.Floor(add))
}

// begin starts congestion avoidance (section 4.2, equation 2; sections 4.8
// and 4.10: without a loss to aim for, this window is the plateau).
func (q *cubicState) begin(cwnd float64, now int64) {
	q.epoch, q.wEst, q.frac, q.k = now, cwnd, 0, 0
	if m := float64(q.wMax); cwnd < m {
		q.k = float32(math.Cbrt((m - cwnd) / cubicC))
	} else {
		q.wMax = float32(cwnd)
	}
}

// at is W_cubic(t), section 4.2, equation 1.
func (q *cubicState) at(t float64) float64 {
	d := t - float64(q.k)
	return cubicC*d*d*d + float64(q.wMax)
}

func (cubic) reduce(c *Congestion, ecn bool) uint32 {
	q := &c.remember().cubic
	cwnd := float32(c.cwnd) / float32(c.mss)
	q.epoch, q.prior = 0, cwnd
	// Section 4.7, fast convergence: a flow that loses data before its window is
	// back where it was leaves room for a new flow.
	if cwnd < q.wMax {
		q.wMax = cwnd * (1 + cubicBeta) / 2
	} else {
		q.wMax = cwnd
	}
	beta := cubicBeta
	if ecn {
		beta = cubicBetaECN
	}
	return uint32(float64(c.cwnd) * beta)
}

// expired starts the next congestion avoidance with K = 0 (section 4.8).
func (cubic) expired(c *Congestion) {
	q := &c.remember().cubic
	q.epoch, q.wMax = 0, 0
}

// resume starts the curve later by the silence, in which the window does not grow
// (section 5.8), however short it was.
func (cubic) resume(c *Congestion, now int64) {
	if q := &c.remember().cubic; q.epoch != 0 {
		q.epoch += now - q.last
		q.last = now
	}
}

// rescale has windows count segments of another size. cwnd stays as many bytes, and
// the curve begins anew from there.
func (q *cubicState) rescale(by float32) {
	q.wMax *= by
	q.prior *= by
	q.epoch = 0
}
