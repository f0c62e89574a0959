package tcp

import "github.com/onload-go/onload/ring"

// bbrControl puts BBR among the congestion controls. Its windows come from the
// model: of the methods of algorithm that shape others' it needs but start.
type bbrControl struct{}

func (bbrControl) name() string                        { return "bbr" }
func (bbrControl) ack(*Congestion, *AckSample)         {}
func (bbrControl) reduce(c *Congestion, _ bool) uint32 { return c.ssthresh }
func (bbrControl) timeout(*Congestion)                 {}
func (bbrControl) restart(*Congestion, int64)          {}

func (bbrControl) start(c *Congestion) {
	c.bbr = new(bbr)
	if c.pacer == nil {
		c.pacer = c.newPacer()
	}
	c.ssthresh = infSsthresh // it means nothing here, as in Linux
}

// startModel begins the model of a connection whose congestion control has
// one: when it is established, or when it is chosen later.
func (c *Conn) startModel(now int64) {
	if b := c.cc.bbr; b != nil {
		c.sampleRate()
		b.start(&c.cc, uint32(c.delivered), now, c.rtt.SRTT())
		c.cc.pace(0)
	}
}

// modelAck gives an acknowledgement to the model.
func (c *Conn) modelAck(st *ackState, now int64) {
	b := c.cc.bbr
	b.total, b.now = uint32(c.delivered), now
	if st.delivered == 0 {
		return
	}
	a := &c.h.bbrAck
	*a = bbrAck{
		RateSample: &c.h.rate, acked: st.delivered, inflight: uint32(max(c.pipe(), 0)),
		srtt: c.rtt.SRTT(), sack: c.has(markSACK),
	}
	b.ack(&c.cc, a)
	if a.limitApp {
		c.markAppLimited(c.pipe())
	}
	c.cc.pace(0)
}

// modelLost tells the model that m, which was in flight, is lost.
func (c *Conn) modelLost(m *ring.Meta) {
	b := c.cc.bbr
	b.total = uint32(c.delivered)
	b.lost(&c.cc, &RateSample{
		Flight: m.Flight, Lost: uint32(uint16(c.rare.rate.lost>>rateLoss)-m.Lost) << rateLoss,
		AppLimited: m.Flags&frameLimited != 0,
	}, m.Seq, m.Seq+frameLen(m), c.has(markSACK))
}

// modelRestart is called before something is sent while nothing is in flight.
func (c *Conn) modelRestart(now int64) {
	c.cc.bbr.now = now
	c.cc.bbr.restart(&c.cc, c.rare.rate.limited != 0)
	c.cc.pace(0)
}
