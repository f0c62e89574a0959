package tcp

import "math"

// pacer spreads packets over time at a rate. A connection has one only if its
// congestion control or its user asks for it. The rate decides when a packet may
// leave, and how much is sent at once (draft-ietf-ccwg-bbr sections 5.6.2 and
// 5.6.3).
type pacer struct {
	rate  uint64 // bytes per second; 0: not paced now
	limit uint64 // the user's (SO_MAX_PACING_RATE); 0: none
	burst uint32 // bytes that leave unpaced
	next  int64  // C.next_send_time
	at    int64  // when waiting data may leave; 0: none waits
	late  bool   // data has waited until now
}

const (
	// paceSlack is how late the timer wheel may be. The pacer makes up for that
	// time; otherwise a coarse wheel would lower the rate.
	paceSlack  = 2_200_000 // ns: two ticks
	paceTSO    = 64 << 10  // the largest quantum, as Linux
	paceBurst  = 1e6       // ns that a quantum lasts
	minQuantum = 2         // segments
)

// newPacer makes a pacer. It lets the initial window leave at once, as sch_fq and
// Linux's own pacing do: RFC 6928 allows it, and short answers need no more.
func (c *Congestion) newPacer() *pacer {
	p := new(pacer)
	if c.fresh {
		p.burst = c.initial()
	}
	return p
}

// ready reports whether a packet may leave. If not, it sets the timer to the time
// when one may.
func (p *pacer) ready(now int64) bool {
	if p.rate == 0 || p.next <= now {
		return true
	}
	p.at = p.next
	return false
}

// sent notes that a packet of so many bytes left.
func (p *pacer) sent(bytes int, now int64) {
	if p.rate == 0 {
		return
	}
	if p.burst > 0 {
		p.burst -= min(p.burst, uint32(bytes))
		if p.burst > 0 {
			return
		}
	}
	cost := int64(uint64(bytes) * 1e9 / p.rate)
	// A packet that left late makes up for half of its delay, as in Linux. A packet
	// that waited for the timer makes up for more.
	credit := cost / 2
	if p.late {
		credit = max(credit, paceSlack)
	}
	p.next = max(p.next, now-credit) + cost
	p.late = p.late && p.next <= now
	p.at = 0
}

// expire notes that the time has come that data waited for.
func (p *pacer) expire(now int64) {
	if due(&p.at, now) {
		p.late = true
	}
}

// quantum is how many bytes may leave at once: as many as the rate sends in 1 ms,
// so that large packets can be made, and at least two segments.
func (p *pacer) quantum(mss int) int {
	if p.rate == 0 {
		return math.MaxInt
	}
	return int(max(min(p.rate/(1e9/paceBurst), paceTSO), uint64(minQuantum*mss)))
}

// setRate sets the rate that the congestion control asks for; 0 is none.
func (p *pacer) setRate(rate uint64) {
	if p.limit != 0 && (rate == 0 || rate > p.limit) {
		rate = p.limit
	}
	p.rate = rate
}

// MaxPacingRate returns the bound that SetMaxPacingRate set; 0 is none.
func (c *Conn) MaxPacingRate() uint64 {
	if p := c.cc.pacer; p != nil {
		return p.limit
	}
	return 0
}

// SetMaxPacingRate bounds the rate of sending to that many bytes of payload per
// second, as SO_MAX_PACING_RATE does. With a bound any congestion control paces its
// packets. A bound out of reach, such as math.MaxInt64, only does that. 0 takes
// bound and pacing away.
func (c *Conn) SetMaxPacingRate(rate uint64) {
	if c.cc.pacer == nil {
		if rate == 0 {
			return
		}
		c.cc.pacer = c.cc.newPacer()
	}
	p := c.cc.pacer
	p.limit = rate
	if c.cc.dropPacer(); c.cc.pacer != nil {
		c.cc.pace(c.rtt.SRTT())
	}
}

// dropPacer forgets the pacer if neither the congestion control nor the user wants
// it any more.
func (c *Congestion) dropPacer() {
	if !c.models && c.pacer != nil && c.pacer.limit == 0 {
		c.pacer = nil
	}
}

// pace brings the pacer up to date. There must be one.
func (c *Congestion) pace(srtt int64) { c.pacer.setRate(c.alg().pacingRate(c, srtt)) }
