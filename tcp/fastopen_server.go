package tcp

// fastQueue counts the connections of a listener that Fast Open made and whose
// handshake is not complete: section 5.1.
type fastQueue struct {
	pending int
	resets  []int64 // when peers reset theirs, in the last resetHold; the oldest first
}

// resetHold is how long a connection still counts after the peer reset it. The SYN
// may have been forged in the peer's name, and more may follow (section 5.1, as
// Linux).
const resetHold = 60e9

// room reports whether another connection may be made.
func (q *fastQueue) room(limit int, now int64) bool {
	for len(q.resets) > 0 && now-q.resets[0] >= resetHold {
		q.resets = q.resets[1:]
	}
	return q.pending+len(q.resets) < limit
}

// grant is how a SYN-ACK gives the peer a cookie.
type grant uint8

const (
	noGrant grant = iota
	grantCookie
	grantExp // as an experiment, as the peer asked for it
)

// granted is the grant for a peer that sent the options o.
func granted(o *Options) grant {
	switch {
	case o.FastOpen == 0:
		return noGrant
	case o.FastOpenExp:
		return grantExp
	}
	return grantCookie
}

// fastOpen handles Fast Open of a SYN, section 4.2.2. opened says that the SYN
// became a connection, with the data that it carried.
func (l *Listener) fastOpen(e *synEntry, s *Segment, isn uint32, now int64) (opened bool, g grant) {
	bare := l.cfg.FastOpenNoCookie && s.Len > 0
	if l.cfg.FastOpen <= 0 || s.Opt.FastOpen == 0 && !bare {
		return false, noGrant
	}
	st := &l.h.Stats
	if s.Opt.FastOpen == fastOpenAsk {
		st.TCPFastOpenCookieReqd.Add(1)
	}
	if !l.fast.room(l.cfg.FastOpen, now) {
		st.TCPFastOpenListenOverflow.Add(1)
		return false, noGrant
	}
	p := Pair{s.Local.Addr(), s.Remote.Addr()}
	good, old := bare, false
	if !bare {
		if s.Opt.FastOpen == fastOpenAsk {
			return false, granted(&s.Opt)
		}
		good, old = l.judge(s, &p, now)
	}
	if !good {
		st.TCPFastOpenPassiveFail.Add(1)
		return false, granted(&s.Opt)
	}
	c, owner := l.o.NewConn(s.Local, s.Remote)
	if c == nil {
		st.TCPFastOpenPassiveFail.Add(1)
		return false, granted(&s.Opt)
	}
	if e.iss = isn; isn == 0 {
		e.iss = l.h.ISN(s.Local, s.Remote, now)
	}
	hs := l.handshake(e, s.Local, s.Remote)
	c.Init(l.h, owner, l.config(s.Local, s.Remote), s.Local, s.Remote)
	c.Passive(&hs, now)
	c.makeRare().fo = &fastOpen{l: l, irs: e.irs}
	if old {
		st.TCPFastOpenPassiveAltKey.Add(1)
		f := c.rare.fo
		f.option, f.cookie, f.exp = fastOpenOurs, l.newFastOpenCookie(&p, now), s.Opt.FastOpenExp
	}
	l.fast.pending++
	c.passiveData(s, now)
	st.TCPFastOpenPassive.Add(1)
	st.PassiveOpens.Add(1)
	l.pending.Add(1)
	l.accepted++
	l.o.Accepted(c)
	return true, noGrant
}

// judge reports whether a SYN's cookie is good, and whether it is old, so that its
// peer is given a new one.
func (l *Listener) judge(s *Segment, p *Pair, now int64) (good, old bool) {
	switch {
	case s.Opt.FastOpen != fastOpenOurs:
		return false, false
	case s.Opt.FastOpenCookie == l.newFastOpenCookie(p, now):
		return true, false
	}
	old = s.Opt.FastOpenCookie == l.oldFastOpenCookie(p, now)
	return old, old
}

// passiveData takes the data of a SYN and acknowledges it. From here on the
// user may read and write, before the handshake is complete.
func (c *Conn) passiveData(s *Segment, now int64) {
	// The window of a SYN is never scaled. It counts octets of data: our SYN, which
	// is in flight before them, uses none of it, nor of the congestion window.
	c.setWindow(s, uint32(s.Wnd)+1)
	c.updateMSS()
	c.startCongestion(now)
	c.cc.SetCwnd(c.cc.Cwnd() + 1)
	if s.Len > 0 {
		s.Seq++
		c.receive(s, now)
		c.rcvClamp.Store(initialClamp) // as Linux: the size of a SYN does not show that of later segments
		c.freeRest(s)
		c.setIf(markSYNData, c.rcvNxt != s.Seq)
	}
	c.sendSYN(now)
	c.acked()
}

// repeatedSYN answers a repeated SYN of a connection that Fast Open made: our
// SYN-ACK was lost, or is late.
func (c *Conn) repeatedSYN(s *Segment, now int64) bool {
	if s.Flags&(FlagSYN|FlagACK|FlagRST) != FlagSYN || s.Seq != c.rare.fo.irs {
		return false
	}
	if c.limitOutOfWindow(now) {
		c.h.Stats.TCPSynRetrans.Add(1)
		c.sendSYN(now)
	}
	return true
}

// halfOpen reports whether c was made by Fast Open and its handshake is not
// complete.
func (c *Conn) halfOpen() bool { return c.rare.fo != nil && c.rare.fo.l != nil }

// leaveFastOpen is called when the handshake is complete, or never will be.
func (c *Conn) leaveFastOpen() {
	if c.halfOpen() {
		c.rare.fo.l.fast.pending--
	}
	c.dropFastOpen()
}

// fastReset is called before c ends because the peer reset it in the
// handshake.
func (c *Conn) fastReset(now int64) {
	if c.halfOpen() {
		q := &c.rare.fo.l.fast
		q.resets = append(q.resets, now)
	}
}
