package tcp

import (
	"net/netip"

	"github.com/onload-go/onload/ring"
)

const (
	// minSendMSS is the least payload of a full segment. A peer that asks for less
	// would make us waste processor time and frames (CVE-2019-11479).
	minSendMSS = 128
	minRcvMSS  = 536 // the first guess of the peer's segment size, as Linux
)

// defaultMSS is the MSS of a peer that announced none (RFC 9293 section 3.7.1).
func defaultMSS(a netip.Addr) uint16 {
	if a.Is4() {
		return 536
	}
	return 1220
}

// setPeerMSS notes the MSS that the peer announced, bounded by the user's
// (TCP_MAXSEG).
func (c *Conn) setPeerMSS(n uint16) {
	if most := c.rare.maxSeg; most > 0 {
		n = min(n, most)
	}
	c.peerMSS = n
}

// Connect opens actively. It sends SYN, unless c is Deferred afterwards.
func (c *Conn) Connect(now int64) {
	c.start(c.h.ISN(c.Local(), c.Remote(), now))
	c.rcvAdv = min(c.rcvLimit.Load(), c.rcvClamp.Load(), 0xffff)
	c.stuckAt, c.lastRcv, c.lastSnd = now, now, now
	c.h.Stats.ActiveOpens.Add(1)
	c.setState(SynSent)
	if c.rare.fo != nil && c.recallServerCookie(now) {
		return
	}
	c.firstSYN(now)
}

// firstSYN sends the SYN by which a round trip is measured.
func (c *Conn) firstSYN(now int64) {
	c.lastSnd = now
	if !c.sendSYN(now) {
		c.refusedSYN(now)
		return
	}
	c.armRTO(now)
}

// start sets the send sequence space to begin with a SYN numbered iss.
func (c *Conn) start(iss uint32) {
	c.sndUna, c.sndNxt = iss, iss+1
	c.sndSmall, c.undoSeq, c.recoverSeq = iss, iss, iss
	c.rack.high, c.rack.end = iss, iss
}

// Passive puts c into SYN-RECEIVED. The acknowledgement of our SYN-ACK is to be
// given to Input next.
func (c *Conn) Passive(hs *Handshake, now int64) {
	c.set(markPassive)
	c.dropFastOpen()
	c.start(hs.ISS)
	c.rcvNxt = hs.IRS + 1
	c.rcvAcked = c.rcvNxt
	c.rcvAdv = c.rcvNxt + hs.RcvWnd
	c.setIf(markSACK, hs.SACK)
	if hs.SndWS >= 0 && hs.RcvWS >= 0 {
		c.set(markWS)
		c.sndWS, c.rcvWS = uint8(hs.SndWS), uint8(hs.RcvWS)
	}
	if hs.TS {
		c.set(markTS)
		c.tsOffset, c.tsRecent, c.tsRecentAt = hs.TSOffset, hs.TSRecent, uint32(now/1e6)
	}
	c.ecn = 0
	if hs.ECN {
		c.ecn = ecnOn
		if !hs.NoECT {
			c.ecn |= ecnECT
		}
	}
	if hs.MSS != 0 {
		c.setPeerMSS(hs.MSS)
	}
	if hs.MTU != 0 {
		c.mtu = uint16(hs.MTU)
	}
	if hs.SentAt != 0 {
		c.rtt.Sample(now-hs.SentAt, now, c.sndUna, c.sndNxt)
	}
	if c.retries = hs.Retrans; c.retries > 1 {
		c.cc.OnSYNLost()
	}
	c.lastRcv, c.lastSnd, c.stuckAt = now, now, now
	c.setState(SynReceived)
	c.armRTO(now)
}

// learnSYN reads the peer's SYN.
func (c *Conn) learnSYN(s *Segment, now int64) {
	o := &s.Opt
	c.rcvNxt = s.Seq + 1
	c.rcvAdv += c.rcvNxt
	if o.MSS != 0 {
		c.setPeerMSS(o.MSS)
	} else {
		c.setPeerMSS(defaultMSS(c.pair.Local))
	}
	c.learnECN(s)
	c.setIf(markSACK, o.SACKPermitted && !c.has(markNoSACK))
	if o.HasTS && !c.has(markNoTS) {
		c.set(markTS)
		c.tsRecent, c.tsRecentAt = o.TSVal, uint32(now/1e6)
	}
	if o.WScale >= 0 && !c.has(markNoWS) {
		// RFC 7323 section 2.3: a shift above 14 counts as 14.
		c.set(markWS)
		c.sndWS = uint8(min(o.WScale, 14))
	}
}

// establish leaves SYN-RECEIVED on an acceptable acknowledgement: RFC 9293
// section 3.10.7.4, fifth.
func (c *Conn) establish(s *Segment, now int64) bool {
	data := c.synData()
	if !seqGT(s.Ack, c.sndUna) || seqGT(s.Ack, c.sndNxt+data) {
		c.resetFor(s.Ack)
		return false
	}
	if (!c.has(markPassive) || c.rare.fo != nil) && c.backoff == 0 { // Karn
		c.rtt.Sample(now-c.stuckAt, now, c.sndUna, c.sndNxt)
	}
	waited := !c.has(markPassive) && c.rare.fo != nil
	c.leaveFastOpen()
	c.sndUna++ // the SYN; after Fast Open data may be in flight too
	if data > 0 {
		c.cleanSYNData(s.Ack - c.sndNxt)
	}
	c.setWindow(s, uint32(s.Wnd)<<c.shift())
	c.established(now)
	if waited {
		c.requeue()
	}
	if c.sndUna != c.sndNxt {
		c.armSent(now)
	}
	return true
}

// shift is the scale of the windows that the peer sends.
func (c *Conn) shift() uint8 {
	if c.has(markWS) {
		return c.sndWS
	}
	return 0
}

func (c *Conn) setWindow(s *Segment, wnd uint32) {
	c.sndWnd, c.sndWL1 = wnd, s.Seq
	c.maxWnd = max(c.maxWnd, wnd)
	c.setStuck(min(wnd, c.maxWnd/leastShare) < uint32(c.mss))
}

// established enters ESTABLISHED, or the state that the user asked for meanwhile.
func (c *Conn) established(now int64) {
	if c.retries > 0 {
		c.rtt.SYNTimedOut()
	}
	c.retries, c.backoff = 0, 0
	c.rtoAt, c.lastData = 0, now
	if !c.has(markWS) {
		c.flags.Or(sharedUnscaled)
	}
	c.updateMSS()
	c.startCongestion(now)
	if c.has(markMTUAlways) {
		c.startMTUSearch(c.baseMTU(), now)
	}
	if c.has(markFinWanted) {
		c.setState(FinWait1)
	} else {
		c.setState(Established)
	}
	c.armKeepAlive(now)
	c.owner.Notify(EvConnected | EvWritable)
}

// updateMSS computes the payload of full segments from the peer's MSS, the path's
// MTU and our options (RFC 6691). It cuts frames to it: one for each segment, or
// equal parts where a segment is larger than a frame.
func (c *Conn) updateMSS() {
	mss := min(int(c.peerMSS), int(c.mtu)-c.ipHeaderLen()-headerSize)
	mss = max(mss-(c.headerLen()-headerSize), minSendMSS)
	room := c.h.Arena.FrameSize() - ring.Headroom
	parts := (mss + room - 1) / room
	if parts > c.h.MaxFrags {
		parts = c.h.MaxFrags
		mss = parts * room
	}
	chunk := mss / parts
	if parts > 1 {
		// With even parts no sum needs a swap, and a segment ends where a frame
		// does, also when the device cuts the packet.
		chunk &^= 1
		mss = chunk * parts
	}
	c.mss = uint16(mss)
	if c.tso > 0 && chunk == mss && room >= 2*mss {
		chunk = room / mss * mss
	}
	c.chunk.Store(uint32(chunk))
	packet := mss
	if c.tso > 0 {
		packet = max((int(c.tso)-c.ipHeaderLen()-c.headerLen())/mss*mss, mss)
	}
	c.packet.Store(uint32(packet))
}
