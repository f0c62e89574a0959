package tcp

import "github.com/onload-go/onload/ring"

// Delivery rate samples: draft-ietf-ccwg-bbr section 4.1. Each frame carries what
// the connection knew when it was sent. From the newest frame that an
// acknowledgement covers follows how much has arrived since, and how long that
// took. It costs some 30 ns a packet, so it is done only for a congestion control
// that needs it, and from the first Info on.

// Frames keep times as distances from SentAt in units of 32 ns, which reach
// over any retransmission timeout, and losses in units of 256 bytes.
const (
	rateTime = 5
	rateLoss = 8
)

// rateState is a connection's state of it.
type rateState struct {
	deliveredAt int64  // C.delivered_time: when something last arrived
	firstSentAt int64  // C.first_send_time: when the newest of it was sent
	limited     uint32 // C.app_limited: samples up to this many delivered bytes are limited by the application; 0: none
	lost        uint32 // C.lost: bytes ever taken for lost, modulo 2^32
	lastBytes   uint32 // of the last sample
	lastTime    uint32 // its interval, in units of 32 ns
	lastLimited bool   // it tells of the application
}

// sampleRate begins the samples.
func (c *Conn) sampleRate() *rateState {
	if c.rare.rate == nil {
		c.makeRare().rate = new(rateState)
	}
	return c.rare.rate
}

// rateNewest has the stamp of the newest frame that an acknowledgement covers.
// There is one, in the Host. In ackState it would have to be cleared for each
// acknowledgement, needed or not.
type rateNewest struct {
	valid bool
	ring.Stamp
	end     uint32 // its last sequence number, and one
	lost    uint16 // as ring.Meta.Lost
	flags   uint16
	retrans bool
}

// RateSample describes the delivery rate at an acknowledgement.
type RateSample struct {
	Delivered      uint32 // bytes that arrived over Interval
	Interval       int64  // ns; 0: no reliable sample
	PriorDelivered uint32 // bytes ever delivered when the newest frame was sent, modulo 2^32
	Flight         uint32 // bytes in flight then, that frame included
	Lost           uint32 // bytes taken for lost since
	RTT            int64  // of the newest frame; 0: none
	AppLimited     bool   // the application did not fill the path
}

// Rate is the delivery rate in bytes per second, 0 where there is none.
func (r *RateSample) Rate() float64 {
	if r.Interval == 0 {
		return 0
	}
	return float64(r.Delivered) * 1e9 / float64(r.Interval)
}

func rateAge(d int64) uint32 { return uint32(min(uint64(max(d, 0))>>rateTime, 1<<32-1)) }

// rateStamp returns the stamp of the frames of a packet sent now, without Flight,
// which counts the frames too (OnPacketSent, section 4.1.2.2).
type rateStamp struct {
	delivered, ackAge, sendAge, flight uint32
	lost, limited                      uint16
}

func (c *Conn) rateStamp(now int64) (s rateStamp) {
	r := c.rare.rate
	if c.sndUna == c.sndNxt {
		r.deliveredAt, r.firstSentAt = now, now
	}
	s.delivered = uint32(c.delivered)
	s.ackAge, s.sendAge = rateAge(now-r.deliveredAt), rateAge(now-r.firstSentAt)
	s.flight = uint32(c.pipe())
	s.lost = uint16(r.lost >> rateLoss)
	if r.limited != 0 {
		s.limited = frameLimited
	}
	return s
}

// stampRate stamps count frames from f on, which leave as one packet.
func (c *Conn) stampRate(f ring.Frame, count int, now int64) {
	a := c.h.Arena
	s := c.rateStamp(now)
	for ; count > 0; count-- {
		m := a.Meta(f)
		s.flight += frameLen(m)
		m.Delivered, m.AckAge, m.SendAge, m.Flight, m.Lost = s.delivered, s.ackAge, s.sendAge, s.flight, s.lost
		m.Flags = m.Flags&^frameLimited | frameStamped | s.limited
		f = m.Next
	}
}

// delivered notes a frame that arrived. The one sent last counts (UpdateRateSample,
// section 4.1.2.3).
func (n *rateNewest) delivered(m *ring.Meta, end uint32) {
	if m.Flags&frameStamped == 0 {
		return // sent before anybody wanted samples
	}
	if n.valid && (m.SentAt < n.SentAt || m.SentAt == n.SentAt && seqLT(end, n.end)) {
		return
	}
	n.valid = true
	n.Stamp, n.end, n.lost, n.flags, n.retrans = m.Stamp, end, m.Lost, m.Flags, m.Retrans != 0
}

// rateSample completes the sample of an acknowledgement (GenerateRateSample,
// section 4.1.2.3).
func (c *Conn) rateSample(rs *RateSample, now int64) {
	*rs = RateSample{}
	r, n := c.rare.rate, &c.h.newest
	if !n.valid {
		return
	}
	n.valid = false
	if r.limited != 0 && seqGT(uint32(c.delivered), r.limited) {
		r.limited = 0
	}
	r.deliveredAt = now
	if n.SentAt > r.firstSentAt {
		r.firstSentAt = n.SentAt
	}
	rs.PriorDelivered = n.Delivered
	rs.Delivered = uint32(c.delivered) - n.Delivered
	rs.Flight = n.Flight
	rs.Lost = uint32(uint16(r.lost>>rateLoss)-n.lost) << rateLoss
	rs.AppLimited = n.flags&frameLimited != 0
	if !n.retrans {
		rs.RTT = max(now-n.SentAt, 1)
	}
	// The longer of the two intervals counts, so that neither a burst of
	// acknowledgements nor one of segments looks like a faster path.
	interval := max(int64(n.SendAge)<<rateTime, now-n.SentAt+int64(n.AckAge)<<rateTime)
	if interval < c.rtt.Min() {
		return // the acknowledgement is of something retransmitted needlessly
	}
	rs.Interval = max(interval, 1)
	// The user sees the best sample among those that the application limited, else
	// the last one, as in Linux.
	if !rs.AppLimited || rs.Rate() >= r.rate() {
		r.lastBytes, r.lastTime, r.lastLimited = rs.Delivered, max(rateAge(interval), 1), rs.AppLimited
	}
}

// rate is the last sample, bytes per second.
func (r *rateState) rate() float64 {
	if r.lastTime == 0 {
		return 0
	}
	return float64(r.lastBytes) * 1e9 / float64(uint64(r.lastTime)<<rateTime)
}

// nearlyEmpty reports whether less than a segment is left to send, and for instance
// Nagle holds it back.
func (c *Conn) nearlyEmpty() bool {
	f := c.sndNext
	if f == ring.NoFrame {
		return true
	}
	m := c.h.Arena.Meta(f)
	return m.Next == ring.NoFrame && m.Len < c.mss
}

// checkAppLimited is called when no segment is left to send. If the path could take
// more, the samples of what is in flight now are limited by the application, as are
// those of later data until that has arrived (section 4.1.2.4).
func (c *Conn) checkAppLimited() {
	if c.lost <= c.retrans {
		if pipe := c.pipe(); pipe < c.cwnd() {
			c.markAppLimited(pipe)
		}
	}
}

func (c *Conn) markAppLimited(pipe int) {
	c.rare.rate.limited = max(uint32(c.delivered)+uint32(pipe), 1)
}
