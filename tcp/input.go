package tcp

import (
	"syscall"

	"github.com/onload-go/onload/ring"
)

// Input takes a segment whose checksum was verified, and every frame of its
// payload. The next Output sends the acknowledgements that can wait. Input returns
// false, and leaves s unchanged, if the connection has ended (EvClosed or
// EvTimeWait). Then s is for whatever has the connection's addresses now: a
// TimeWait, a Listener or nobody (RFC 9293 section 3.10.7.1).
func (c *Conn) Input(s *Segment, now int64) bool {
	st := c.State()
	if st == Closed || st == TimeWaiting {
		return false
	}
	c.h.Stats.InSegs.Add(1)
	c.segsIn++
	switch {
	case st == SynSent:
		c.inputSynSent(s, now)
	case st == SynReceived && c.rare.fo != nil && c.repeatedSYN(s, now):
	case c.predicted(s, st):
		c.h.Stats.TCPHPHits.Add(1)
		c.tsUpdate(s, now)
		c.inputAck(s, now)
		if s.Len > 0 && !c.has(markDead) {
			c.receive(s, now)
		}
	case c.validate(s, st, now):
		if st == SynReceived && !c.establish(s, now) {
			break
		}
		c.tsUpdate(s, now)
		c.inputAck(s, now)
		if !c.has(markDead) {
			c.inputData(s, now)
		}
	}
	c.freeRest(s)
	return true
}

// freeRest frees the frames of s that c did not keep.
func (c *Conn) freeRest(s *Segment) {
	for i := range s.Payload {
		if f := s.Payload[i].Frame; f != ring.NoFrame {
			c.h.Cache.Free(f)
		}
	}
	s.Payload = s.Payload[:0]
}

// predicted recognises the segments of bulk transfers: in order, inside the window,
// with no flags but ACK and PSH. Such a segment would pass all checks of validate.
func (c *Conn) predicted(s *Segment, st State) bool {
	return st == Established &&
		s.Flags&(FlagFIN|FlagSYN|FlagRST|FlagACK) == FlagACK &&
		s.Seq == c.rcvNxt &&
		uint32(s.Len) <= c.rcvAdv-c.rcvNxt &&
		s.Ack-c.sndUna <= c.sndNxt-c.sndUna &&
		c.ooo == nil && !c.has(markFinSeen) &&
		(!c.has(markTS) || s.Opt.HasTS && int32(s.Opt.TSVal-c.tsRecent) >= 0)
}

// validate does the checks of RFC 9293 section 3.10.7.4, as amended by RFC
// 5961 and RFC 7323, and reports whether the segment is to be processed further.
func (c *Conn) validate(s *Segment, st State, now int64) bool {
	syn, rst := s.Flags&FlagSYN != 0, s.Flags&FlagRST != 0
	end := s.Seq + uint32(s.Len)
	if s.Flags&(FlagFIN|FlagSYN) != 0 {
		end++
	}

	// PAWS, RFC 7323 section 5.3. A RST need not carry a timestamp.
	if c.has(markTS) && s.Opt.HasTS && !rst && c.oldTimestamp(s.Opt.TSVal, now) {
		c.h.Stats.PAWSEstab.Add(1)
		c.unacceptable(s, end, now)
		return false
	}

	// macOS resets a closed connection with the sequence number of its FIN (Linux
	// knows that too). If that did not count, we would send our data again until
	// the end.
	if rst && s.Seq == c.rcvNxt-1 && (st == CloseWait || st == Closing || st == LastAck) {
		c.reset(st)
		return false
	}

	// A segment before what we acknowledged, or beyond the window. What lies
	// between rcvAcked and rcvNxt may merely have been overtaken.
	wnd := c.openWindow()
	if seqLT(end, c.rcvAcked) || seqGT(s.Seq, c.rcvNxt+wnd) {
		if !rst {
			c.unacceptable(s, end, now)
		}
		return false
	}

	if rst {
		// RFC 5961 section 3: only the exact sequence number resets.
		if s.Seq == c.rcvNxt {
			c.fastReset(now)
			c.reset(st)
		} else if seqGT(s.Seq, c.rcvNxt) {
			c.challenge(now)
		}
		return false
	}

	if syn {
		return c.synInWindow(s, st, now)
	}

	// RFC 9293: a segment without ACK is not processed.
	if s.Flags&FlagACK == 0 {
		return false
	}
	if st == SynReceived {
		return true // establish looks at the acknowledgement
	}
	// RFC 5961 section 5: an acknowledgement is neither older than the largest
	// window allows, nor of data never sent, nor from before the first byte (as
	// Linux).
	old := min(uint64(c.maxWnd), c.ackedBytes())
	if seqGT(s.Ack, c.sndNxt) || seqLT(s.Ack, c.sndUna-max(uint32(old), 1)) {
		c.challenge(now)
		return false
	}
	return true
}

// synInWindow handles SYN on a synchronized connection.
func (c *Conn) synInWindow(s *Segment, st State, now int64) bool {
	if st == SynReceived && s.Seq == c.rcvNxt-1 {
		if s.Flags&FlagACK != 0 && s.Ack-c.sndNxt <= c.synData() {
			// Simultaneous open: the peer acknowledged our SYN with its own SYN-ACK
			// (RFC 9293 figure 8). Its SYN came twice, and is acknowledged as any
			// old data is.
			c.noteDSACK(s.Seq, s.Seq+1)
			s.Wnd >>= c.shift() // not scaled, RFC 7323 section 2.2
			c.set(markAckNow)
			s.Seq++
			s.Flags &^= FlagSYN | FlagECE | FlagCWR
			return true
		}
		if c.limitOutOfWindow(now) {
			c.sendSYN(now) // our SYN-ACK was lost
		}
		return false
	}
	// RFC 5961 section 4.
	c.h.Stats.TCPSYNChallenge.Add(1)
	c.challenge(now)
	return false
}

// oldTimestamp is the PAWS test. A timestamp from 24 days ago proves nothing, so
// any other replaces it (RFC 7323 section 5.5).
func (c *Conn) oldTimestamp(v uint32, now int64) bool {
	const idle = 24 * 24 * 3600 * 1000 // ms
	return int32(v-c.tsRecent) < 0 && uint32(now/1e6)-c.tsRecentAt < idle
}

// tsUpdate remembers the timestamp to echo: RFC 7323 section 4.3, rule 2.
func (c *Conn) tsUpdate(s *Segment, now int64) {
	if c.has(markTS) && s.Opt.HasTS && seqLE(s.Seq, c.rcvAcked) && !c.oldTimestamp(s.Opt.TSVal, now) {
		c.tsRecent = s.Opt.TSVal
		c.tsRecentAt = uint32(now / 1e6)
	}
}

// unacceptable answers a segment outside the window with an acknowledgement.
// The answer to a segment without data is rate limited, so that two confused
// peers do not answer each other for ever.
func (c *Conn) unacceptable(s *Segment, end uint32, now int64) {
	if s.Len > 0 && s.Flags&FlagSYN == 0 {
		if seqLT(s.Seq, c.rcvNxt) {
			c.h.Stats.TCPDSACKOldSent.Add(1)
			c.noteDSACK(s.Seq, end)
			c.enterQuickAck()
		}
		c.sendAck(now)
		return
	}
	if c.limitOutOfWindow(now) {
		c.sendAck(now)
	}
}

// challenge sends a challenge ACK (RFC 5961 section 7: rate limited; per
// connection, so that nobody learns from the limit, CVE-2016-5696).
func (c *Conn) challenge(now int64) {
	if c.limitOutOfWindow(now) {
		c.h.Stats.TCPChallengeACK.Add(1)
		c.sendAck(now)
	}
}

func (c *Conn) limitOutOfWindow(now int64) bool {
	if c.oowAt != 0 && now-c.oowAt < oowInterval {
		c.h.Stats.TCPACKSkippedSeq.Add(1)
		return false
	}
	c.oowAt = max(now, 1)
	return true
}

// reset handles an acceptable RST: the error is as Linux gives it.
func (c *Conn) reset(st State) {
	if st == Established || st == CloseWait {
		c.h.Stats.EstabResets.Add(1)
	}
	switch st {
	case SynReceived:
		// A simultaneous open is still a client's.
		if c.has(markPassive) {
			c.done(syscall.ECONNRESET)
		} else {
			c.done(syscall.ECONNREFUSED)
		}
	case CloseWait:
		c.done(syscall.EPIPE)
	default:
		c.done(syscall.ECONNRESET)
	}
}

// inputSynSent is RFC 9293 section 3.10.7.3.
func (c *Conn) inputSynSent(s *Segment, now int64) {
	if c.Deferred() {
		return // nothing was sent that could be answered
	}
	ack := s.Flags&FlagACK != 0
	if ack && s.Ack-c.sndNxt > c.synData() {
		if s.Flags&FlagRST == 0 {
			c.resetFor(s.Ack)
			if c.retries == 0 {
				// The peer had an old connection, which the reset ends.
				c.rtoAt = c.capped(now+txRetry, now)
			}
		}
		return
	}
	// The echoed timestamp must be one that we can have sent, RFC 7323
	// section 5.4 (as Linux).
	if ack && s.Opt.HasTS && s.Opt.TSEcr != 0 && !c.has(markNoTS) &&
		int32(c.timestamp(now)-s.Opt.TSEcr) < 0 {
		c.h.Stats.TSEcrRejected.Add(1)
		if s.Flags&FlagRST == 0 {
			c.resetFor(s.Ack)
		}
		return
	}
	if s.Flags&FlagRST != 0 {
		if ack {
			c.done(syscall.ECONNREFUSED)
		}
		return
	}
	if s.Flags&FlagSYN == 0 || s.Flags&FlagFIN != 0 && !ack {
		return
	}
	c.learnSYN(s, now)
	if !ack {
		// Simultaneous open, section 3.5: both sides sent SYN.
		c.setState(SynReceived)
		c.rcvAcked = c.rcvNxt
		c.retries = 0
		if f := c.rare.fo; f != nil {
			// The peer may have taken the data of our SYN nevertheless.
			f.option, f.irs = 0, s.Seq
		}
		c.sendSYN(now)
		c.armRTO(now)
		return
	}
	c.sndUna = c.sndNxt
	fast := c.rare.fo != nil
	if fast {
		c.synAnswered(s, now)
	}
	if c.retries == 0 {
		c.rtt.Sample(now-c.lastSnd, now, c.sndUna, c.sndNxt)
	}
	c.rcvAcked = c.rcvNxt
	c.setWindow(s, uint32(s.Wnd)) // never scaled on a SYN
	c.established(now)
	if fast {
		c.requeue()
	}
	c.ackSoon(now) // the handshake's third step; data may carry it
	s.Seq++
	c.inputData(s, now)
}

// inputData takes payload and FIN of a segment that passed validate.
func (c *Conn) inputData(s *Segment, now int64) {
	st := c.State()
	if !st.receiving() {
		if s.Len > 0 || s.Flags&FlagFIN != 0 {
			// After its FIN the peer can only repeat itself.
			c.set(markAckNow)
		}
		return
	}
	end := s.Seq + uint32(s.Len)
	if s.Len > 0 && seqGT(end, c.rcvNxt) && c.unwanted() {
		// Tell the peer so, as if the connection were gone already.
		c.h.Stats.TCPAbortOnData.Add(1)
		c.resetFor(s.Ack)
		if c.has(markOrphan) {
			c.done(0)
		} else {
			c.done(syscall.ECONNRESET)
		}
		return
	}
	if s.Flags&FlagFIN != 0 && !c.has(markFinSeen) && seqLE(end, c.rcvAdv) && seqGE(end, c.rcvNxt) &&
		(c.ooo == nil || seqLE(c.ooo.end(), end)) {
		c.finSeq = end
		c.set(markFinSeen)
	}
	if s.Len > 0 {
		c.receive(s, now)
	}
	if c.has(markFinSeen) && c.rcvNxt == c.finSeq {
		c.receiveFIN(now)
	} else if s.Flags&FlagFIN != 0 && s.Len == 0 {
		c.set(markAckNow)
	}
}

// receiveFIN advances over the peer's FIN: RFC 9293 section 3.10.7.4, eighth.
func (c *Conn) receiveFIN(now int64) {
	c.rcvNxt++
	if c.rcvAdv == c.rcvNxt-1 {
		c.rcvAdv++
	}
	c.dropOOO()
	c.flags.Or(sharedEOF)
	switch c.State() {
	case Established:
		c.setState(CloseWait)
		c.ackSoon(now) // our FIN may carry it
	case FinWait1:
		// Our FIN is not acknowledged; otherwise we would be in FIN-WAIT-2.
		c.setState(Closing)
		c.set(markAckNow)
	case FinWait2:
		c.timeWait(now)
		return
	}
	c.owner.Notify(EvReadable | EvHup)
}
