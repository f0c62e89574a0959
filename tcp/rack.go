package tcp

import "github.com/onload-go/onload/ring"

// rack is the state of time-based loss detection (RFC 8985): a frame is lost
// when one that was sent sufficiently later has arrived.
type rack struct {
	sentAt int64  // when the newest frame that arrived was sent
	rtt    int64  // its round trip
	end    uint32 // its end
	high   uint32 // end of the highest sequence number known to have arrived
	round  uint32 // SND.NXT when the window was last widened
	mult   uint8  // reordering window in quarters of the least RTT
	keep   uint8  // recoveries for which mult stays
}

const (
	rackMaxMult = 64
	rackKeep    = 16
)

// update is step 2 of RFC 8985 section 6.2: m has arrived.
func (r *rack) update(c *Conn, m *ring.Meta, st *ackState, now int64) {
	rtt := now - m.SentAt
	// If the acknowledgement echoes an older timestamp, or comes sooner than a
	// round trip after the retransmission, it is of the original.
	if m.Retrans > 0 && (rtt < c.rtt.Min() || st.ecrOK && int32(st.ecr-c.timestamp(m.SentAt)) < 0) {
		return
	}
	r.rtt = rtt
	end := m.Seq + frameLen(m)
	if m.SentAt > r.sentAt || m.SentAt == r.sentAt && seqGT(end, r.end) {
		r.sentAt, r.end = m.SentAt, end
	}
}

// window is the time allowed for reordering, step 4.
func (r *rack) window(c *Conn) int64 {
	if !c.has(markReordered) && (c.recovery != noRecovery || c.dupAcks >= dupThresh ||
		c.sacked > (dupThresh-1)*uint32(c.mss)) {
		return 0
	}
	return min(int64(r.mult+1)*c.rtt.Min()/4, c.rtt.SRTT())
}

// onDSACK widens the window, since we retransmitted too early, once per round trip.
// A round that ends beyond SND.NXT is from half of the sequence space ago.
func (r *rack) onDSACK(c *Conn) {
	if r.keep != 0 && seqLT(c.sndUna, r.round) && seqLE(r.round, c.sndNxt) {
		return
	}
	r.round, r.keep = c.sndNxt, rackKeep
	if r.mult < rackMaxMult {
		r.mult++
	}
}

// onRecovered narrows the window again after some recoveries without such reports.
func (r *rack) onRecovered() {
	if r.keep > 0 {
		if r.keep--; r.keep == 0 {
			r.mult = 0
		}
	}
}

// detectLoss is step 5: it marks overdue frames, and sets the timer for the next
// that will be overdue.
func (c *Conn) detectLoss(now int64) (fresh bool) {
	c.rackAt = 0
	if c.rack.sentAt == 0 {
		return false
	}
	a := c.h.Arena
	wait := int64(-1) // until a frame is overdue; computed where one is sought
	for f := c.timeHead; f != ring.NoFrame; {
		m := a.Meta(f)
		if m.SentAt > c.rack.sentAt ||
			m.SentAt == c.rack.sentAt && seqGE(m.Seq+frameLen(m), c.rack.end) {
			break
		}
		if wait < 0 {
			wait = c.rack.rtt + c.rack.window(c)
		}
		due := m.SentAt + wait
		if due > now {
			c.rackAt = due
			break
		}
		next := m.TimeNext
		c.markLost(f, now)
		fresh = true
		f = next
	}
	return fresh
}
