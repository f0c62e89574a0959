package tcp

import "github.com/onload-go/onload/ring"

// This file is what a congestion control with a model of the path learns about its
// connection.

// startModel begins the measurements that the congestion control needs: when the
// connection is established, or when it chooses another algorithm.
func (c *Conn) startModel(now int64) {
	if c.cc.models {
		c.sampleRate()
	}
	c.cc.OnEstablished(uint32(c.delivered), now, c.rtt.SRTT())
}

// modelAck gives an acknowledgement to the model.
func (c *Conn) modelAck(st *ackState, now int64) {
	d := &c.h.delivery
	*d = delivery{
		RateSample: &c.h.rate, now: now, total: uint32(c.delivered), acked: st.delivered,
		inflight: uint32(max(c.pipe(), 0)), srtt: c.rtt.SRTT(), sack: c.has(markSACK),
	}
	c.cc.alg().delivered(&c.cc, d)
	if d.limitApp {
		c.markAppLimited(c.pipe())
	}
}

// modelLost tells the model that m, which was in flight, is lost.
func (c *Conn) modelLost(m *ring.Meta, now int64) {
	l := &c.h.loss
	*l = loss{
		RateSample: RateSample{
			Flight: m.Flight, Lost: uint32(uint16(c.rare.rate.lost>>rateLoss)-m.Lost) << rateLoss,
			AppLimited: m.Flags&frameLimited != 0,
		},
		now: now, total: uint32(c.delivered), seq: m.Seq, end: m.Seq + frameLen(m), sack: c.has(markSACK),
	}
	c.cc.alg().lost(&c.cc, l)
}
