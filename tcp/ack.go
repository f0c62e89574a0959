package tcp

import "github.com/onload-go/onload/ring"

// inputAck processes acknowledgement, window and SACK blocks of an acceptable
// segment: RFC 9293 section 3.10.7.4, fifth.
func (c *Conn) inputAck(s *Segment, now int64) {
	var st ackState
	prior, flight := c.sndUna, c.sndNxt-c.sndUna
	wnd := uint32(s.Wnd) << c.shift()
	c.lastRcv, c.persistProbes, c.keepProbes = now, 0, 0
	c.softErr = 0 // whatever it was, segments arrive (as Linux)

	newer := seqGT(s.Ack, prior)
	dup := s.Ack == prior && s.Len == 0 && s.Flags&FlagFIN == 0 && flight > 0 && wnd == c.sndWnd
	// A segment older than SND.UNA says nothing about the window. A window that
	// shrank is more likely an old one that came late. A window that the peer shut
	// is believed all the same: otherwise its silence would look like losses (as
	// Linux).
	if newer || s.Ack == prior && (seqGT(s.Seq, c.sndWL1) || s.Seq == c.sndWL1 && (wnd > c.sndWnd || wnd == 0)) {
		c.setWindow(s, wnd)
		if wnd > 0 && c.has(markPersist) {
			// The window is open again: Output goes on.
			c.clear(markPersist)
			c.rtoAt, c.backoff = 0, 0
		}
	}
	if flight == 0 && (s.Opt.NSACK == 0 || c.rare == &noRare) {
		return // otherwise a duplicate of what was sent again may be reported
	}
	fin := false
	if c.has(markTS) && s.Opt.HasTS && s.Opt.TSEcr != 0 {
		st.ecrOK, st.ecr = true, s.Opt.TSEcr
	}
	if newer {
		fin = c.clean(s.Ack, &st, now)
	}
	if s.Opt.NSACK > 0 && c.has(markSACK) {
		c.sackInput(s, &st, now)
	}
	if newer {
		c.sampleRTT(&st, now)
		c.retries, c.backoff, c.stuckAt = 0, 0, now
		if c.rare.search != nil {
			c.mtuProbeAcked(now)
		}
	}
	if newer || st.sacked || dup || st.dsack || c.ecn&ecnECT != 0 && s.Flags&FlagECE != 0 {
		c.recover(s, &st, dup, now)
	}
	c.rearm(newer, now)
	if newer {
		c.wakeWriter()
		if fin {
			c.finAcked(now)
		}
	}
}

// clean takes what ack covers off the send queue. fin says that our FIN is part of
// it.
func (c *Conn) clean(ack uint32, st *ackState, now int64) (fin bool) {
	a := c.h.Arena
	st.acked = ack - c.sndUna
	frames, bytes := 0, 0
	f := c.sndHead
	for f != ring.NoFrame && f != c.sndNext {
		m := a.Meta(f)
		n := frameLen(m)
		if seqGT(m.Seq+n, ack) {
			if k := ack - m.Seq; int32(k) > 0 {
				c.trim(f, m, k, st, now)
				bytes += int(k)
			}
			break
		}
		if m.Flags&frameSacked != 0 {
			c.sacked -= n
		} else {
			if m.Retrans == 0 && seqLT(m.Seq, c.rack.high) {
				st.reordered = true
				c.noteReordering((c.rack.high - m.Seq) / uint32(c.mss))
			}
			c.noteDelivered(m, st, now)
			c.unmark(m, n)
			c.timeRemove(f)
		}
		if m.Flags&frameFIN != 0 {
			fin = true
		} else {
			frames++
			bytes += int(n)
		}
		if c.sackHint == f {
			c.sackHint = ring.NoFrame
		}
		next := m.Next
		if c.lostHint == f {
			c.lostHint = next
		}
		c.h.Cache.Release(f)
		f = next
	}
	c.sndHead = f
	if f == ring.NoFrame {
		c.sndTail = ring.NoFrame
	} else {
		a.Meta(f).Prev = ring.NoFrame
	}
	c.sndUna = ack
	if seqLT(c.rack.high, ack) {
		c.rack.high = ack
	}
	if seqLT(c.sndSmall, ack) {
		c.sndSmall = ack
	}
	c.sndUsed.add(-frames, -bytes)
	return fin
}

// trim takes k acknowledged bytes off the front of f.
func (c *Conn) trim(f ring.Frame, m *ring.Meta, k uint32, st *ackState, now int64) {
	switch {
	case m.Flags&frameSacked != 0:
		c.sacked -= k
	default:
		if m.Flags&frameLost != 0 {
			c.lost -= k
		}
		if m.Flags&frameRetrans != 0 {
			c.retrans -= k
		}
		st.delivered += k
		c.delivered += uint64(k)
	}
	m.Seq += k
	m.Off += uint16(k)
	m.Len -= uint16(k)
	c.sum(f, m)
}

// sampleRTT measures the round trip of the oldest frame that was acknowledged now
// and sent only once (Karn). If there is none, it uses the echoed timestamp (RFC
// 7323 section 4). Without a sample the timeout stays backed off: otherwise a path
// that became slower than the timeout would never be measured (RFC 6298 section 5).
func (c *Conn) sampleRTT(st *ackState, now int64) {
	switch {
	case st.rttAt != 0 && !st.retransOK:
		st.rtt = now - st.rttAt
	case st.ecrOK:
		if ms := c.timestamp(now) - st.ecr; ms <= 1<<20 {
			st.rtt = max(int64(ms), 1) * 1e6
		}
	}
	if st.rtt == 0 {
		c.kept = min(c.kept+c.backoff, maxBackoff)
		return
	}
	c.kept = 0
	c.clear(markNoSample)
	c.rtt.Sample(st.rtt, now, c.sndUna, c.sndNxt)
}

// finAcked is called when the peer acknowledged our FIN.
func (c *Conn) finAcked(now int64) {
	c.set(markFinAcked)
	switch c.State() {
	case FinWait1:
		c.setState(FinWait2)
		c.armFinWait2(now)
		c.owner.Notify(EvWritable) // SO_LINGER may wait for that
	case Closing:
		c.timeWait(now)
	case LastAck:
		c.done(0)
	}
}
