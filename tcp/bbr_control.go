package tcp

// bbrControl puts BBR among the algorithms. Its windows come from the model.
type bbrControl struct{}

func (bbrControl) name() string { return "bbr" }

func (bbrControl) law() windowLaw { return nil }

func (bbrControl) models() bool { return true }

func (bbrControl) start(c *Congestion) {
	c.bbr = new(bbr)
	if c.pacer == nil {
		c.pacer = c.newPacer()
	}
	c.ssthresh = infSsthresh // it means nothing here, as in Linux
}

func (bbrControl) stop(c *Congestion) { c.bbr = nil }

func (bbrControl) established(c *Congestion, total uint32, now, srtt int64) {
	c.bbr.start(c, total, now, srtt)
	c.pace(0)
}

func (bbrControl) ack(*Congestion, *AckSample) {}

func (bbrControl) delivered(c *Congestion, d *delivery) {
	b := c.bbr
	b.total, b.now = d.total, d.now
	if d.acked == 0 {
		return
	}
	b.ack(c, d)
	c.pace(0)
}

func (bbrControl) lost(c *Congestion, l *loss) {
	b := c.bbr
	b.total, b.now = l.total, l.now
	b.lost(c, &l.RateSample, l.seq, l.end, l.sack)
}

func (bbrControl) limited(c *Congestion) { c.bbr.limitedNow = true }

func (bbrControl) enterRecovery(c *Congestion) { c.bbr.enterRecovery(c) }

func (bbrControl) exitRecovery(c *Congestion) { c.bbr.exitRecovery(c) }

func (bbrControl) marked(c *Congestion, now int64) {
	c.bbr.now = now
	c.bbr.marked(c, c.cwnd)
}

func (bbrControl) timeout(c *Congestion, _ bool) { c.bbr.timeout(c) }

func (bbrControl) undo(c *Congestion) bool {
	c.bbr.spurious(c)
	return true
}

func (bbrControl) restart(c *Congestion, now int64, appLimited bool) {
	c.bbr.now = now
	c.bbr.restart(c, appLimited)
	c.pace(0)
}

// Silence does not age the model: sending restarts at the rate of the path.
func (bbrControl) idle(*Congestion, int64, int64) {}

func (bbrControl) unused(*Congestion, uint32) {}

func (bbrControl) pacingRate(c *Congestion, _ int64) uint64 { return c.bbr.pacingRate() }
