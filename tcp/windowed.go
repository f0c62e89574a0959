package tcp

// windowLaw is a congestion control by window: it says how the window grows, and by
// how much congestion cuts it. It has no state of its own, Congestion has. Its law
// method returns itself. So the compiler finds a law that lacks a part, and
// windowed needs no type assertion.
type windowLaw interface {
	algorithm
	// reduce returns the slow start threshold after congestion. ecn: data was
	// marked, not lost.
	reduce(c *Congestion, ecn bool) uint32
	// expired is told that everything in flight is taken for lost.
	expired(c *Congestion)
	// resume is told that something is sent while nothing was in flight.
	resume(c *Congestion, now int64)
}

// windowed is the rest of an algorithm, for a law to embed. In recovery PRR steers
// cwnd.
type windowed struct{}

func (windowed) models() bool { return false }

func (windowed) stop(*Congestion) {}

func (windowed) established(*Congestion, uint32, int64, int64) {}

func (windowed) delivered(*Congestion, *delivery) {}

func (windowed) lost(*Congestion, *loss) {}
func (windowed) limited(*Congestion)     {}

func (w windowed) enterRecovery(c *Congestion) {
	c.save()
	w.cut(c, false)
}

// cut lowers the slow start threshold.
func (windowed) cut(c *Congestion, ecn bool) {
	c.fresh = false
	c.hystart.stop()
	c.ssthresh = min(max(c.alg().law().reduce(c, ecn), 2*c.mss), maxCwnd)
}

func (windowed) exitRecovery(c *Congestion) {
	if c.ssthresh != infSsthresh { // a model that was given up leaves no threshold
		c.SetCwnd(c.ssthresh)
	}
	c.acked = 0
}

func (w windowed) marked(c *Congestion, _ int64) {
	c.undone = true
	w.cut(c, true)
}

func (w windowed) timeout(c *Congestion, first bool) {
	if first {
		w.enterRecovery(c)
	}
	c.alg().law().expired(c)
	c.cwnd = c.mss
	c.acked = 0
}

// save remembers what undo restores.
func (c *Congestion) save() {
	p := c.remember()
	p.oldCwnd, p.oldSsthresh, p.oldCubic = c.cwnd, c.ssthresh, p.cubic
	c.undone = false
}

func (windowed) undo(c *Congestion) bool {
	if c.undone {
		return false
	}
	c.undone = true
	p := c.past
	c.cwnd = max(c.cwnd, p.oldCwnd)
	c.ssthresh = max(c.ssthresh, p.oldSsthresh)
	p.cubic = p.oldCubic
	c.acked = 0
	return true
}

func (windowed) restart(c *Congestion, now int64, _ bool) {
	if c.past != nil {
		c.alg().law().resume(c, now)
	}
}

// idle halves the window for each timeout of silence, down to the initial window
// (RFC 2861 section 3, RFC 5681 section 4.1).
func (windowed) idle(c *Congestion, idle, rto int64) {
	restart := min(c.initial(), c.cwnd)
	if !c.fresh && c.ssthresh != infSsthresh {
		c.ssthresh = max(c.ssthresh, c.cwnd/4*3)
	}
	for n := idle; n > rto && c.cwnd > restart; n -= rto {
		c.cwnd /= 2
	}
	c.cwnd = max(c.cwnd, restart)
	c.acked = 0
}

// unused moves the window half way towards the part that was used, and remembers
// its size in ssthresh (RFC 2861 section 3.2).
func (windowed) unused(c *Congestion, used uint32) {
	used = max(used, c.initial())
	if used >= c.cwnd {
		return
	}
	c.ssthresh = max(c.ssthresh, c.cwnd/4*3)
	c.cwnd = (c.cwnd + used) / 2
}

// A window is paced as in Linux: faster than one window per round trip, so that it
// can grow.
const (
	paceSlowStart = 2.0
	paceAvoidance = 1.2
)

func (windowed) pacingRate(c *Congestion, srtt int64) uint64 {
	if srtt == 0 {
		return 0
	}
	gain := paceAvoidance
	if c.cwnd < c.ssthresh/2 {
		gain = paceSlowStart
	}
	return uint64(gain * float64(c.cwnd) * 1e9 / float64(srtt))
}

// slowStart grows the window by the bytes delivered (RFC 5681 section 3.1, RFC 3465
// without its limit per acknowledgement: receivers that coalesce segments
// acknowledge dozens at once). It returns the bytes beyond the threshold.
func (c *Congestion) slowStart(s *AckSample) (rest uint32) {
	grow := min(s.Acked, c.ssthresh-c.cwnd)
	rest = s.Acked - grow
	if c.hystart.on() {
		grow = c.hystart.ack(c, s, grow)
	}
	c.SetCwnd(c.cwnd + grow)
	return rest
}

// addPerWindow grows the window by one segment per window of bytes
// acknowledged (RFC 5681 section 3.1, equation 2, counted as in RFC 3465
// section 2.1).
func (c *Congestion) addPerWindow(acked uint32) {
	c.acked += acked
	for c.acked >= c.cwnd {
		c.acked -= c.cwnd
		c.SetCwnd(c.cwnd + c.mss)
	}
}
