package tcp

import (
	"syscall"

	"github.com/onload-go/onload/ring"
)

// ErrThawFrames is the error of Thaw where the arena has too few free frames for
// the data that the connection has. It is ENOBUFS.
var ErrThawFrames = thawFrames{}

type thawFrames struct{}

func (thawFrames) Error() string        { return "tcp: too few packet buffers for the connection's data" }
func (thawFrames) Is(target error) bool { return target == syscall.ENOBUFS }

// Thaw makes c, which must be zero but for Name, the connection that s was made of.
// base has what is the stack's and the route's to say; the connection's own options
// are those of s. The peer sees nothing of it. The caller lets Output run
// afterwards, and gives c the segments that came meanwhile.
//
// Thaw checks s, which may come from anywhere. With an error c is to be given up:
// it holds no frames.
func (c *Conn) Thaw(h *Host, o Owner, base *Config, s *Snapshot, now int64) error {
	if err := s.check(); err != nil {
		return err
	}
	c.Init(h, o, s.config(base), s.Local, s.Remote)
	c.thawOptions(s, now)
	c.thawSequences(s)
	c.thawHints(&s.Hints, now)
	c.updateMSS()
	c.startCongestion(now)
	c.thawCongestion(&s.Hints)
	if !c.thawSend(s, now) || !c.thawRecv(s) {
		c.Free()
		return ErrThawFrames
	}
	c.setState(s.State)
	c.countOrphan(1)
	c.publishWindow()
	c.thawTimers(&s.Hints, now)
	return nil
}

// thawTimers starts the timers. They count on from where they stood: otherwise a
// connection that changes hands often would never time out. Output starts those of a
// shut window and of pacing.
func (c *Conn) thawTimers(h *SnapshotHints, now int64) {
	if c.sndUna != c.sndNxt {
		if h.Probe {
			c.armSent(now)
		} else {
			c.armRTO(now)
		}
		if h.Timeout > 0 {
			c.rtoAt = min(c.rtoAt, now+int64(h.Timeout))
		}
	}
	if c.rcvAcked != c.rcvNxt {
		c.ackAt = now + delAck
		if h.AckDelay > 0 {
			c.ackAt = min(c.ackAt, now+int64(h.AckDelay))
		}
	}
	if c.has(markOrphan) && c.State() == FinWait2 {
		c.armFinWait2(now)
	} else {
		c.armKeepAlive(c.lastRcv)
	}
}

// config is base with the options of s, as far as Config has them.
func (s *Snapshot) config(base *Config) *Config {
	cfg, o := *base, &s.Options
	if s.PathMTU != 0 {
		cfg.MTU = min(cfg.mtu(), int(s.PathMTU))
	}
	cfg.NoDelay, cfg.KeepAlive, cfg.UserTimeout = o.NoDelay, o.KeepAlive, o.UserTimeout
	cfg.MaxPacingRate, cfg.MaxSeg, cfg.FinWait2 = o.MaxPacingRate, int(o.MaxSeg), o.FinWait2
	cfg.KeepIdleCwnd, cfg.MTUProbing = o.KeepIdleCwnd, o.MTUProbing
	cfg.FastOpenConnect = false
	if ValidCongestion(o.Congestion) {
		cfg.Congestion = o.Congestion
	}
	return &cfg
}

// thawOptions sets the options that Config does not have, and what was negotiated.
func (c *Conn) thawOptions(s *Snapshot, now int64) {
	o := &s.Options
	c.SetLinger(o.Linger)
	c.setIf(markQuickAck, o.QuickAck || c.has(markQuickAck))
	c.rcvLimit.Store(uint32(clampBuf(o.RcvBuf)))
	c.sndLimit.Store(uint32(clampBuf(o.SndBuf)))
	c.setIf(markRcvFixed, o.RcvFixed)
	c.setIf(markSndFixed, o.SndFixed)
	c.setIf(markOrphan, s.Orphan)
	c.setIf(markPassive, s.Hints.Passive)
	c.setIf(markSACK, s.SACK)
	c.setPeerMSS(s.PeerMSS)
	if s.PeerMSS == 0 {
		c.setPeerMSS(defaultMSS(s.Local.Addr()))
	}
	c.rcvMSS = max(s.RecvMSS, minRcvMSS)
	if s.SndScale >= 0 {
		c.set(markWS)
		c.sndWS, c.rcvWS = uint8(s.SndScale), uint8(s.RcvScale)
	} else {
		c.flags.Or(sharedUnscaled)
	}
	if s.Timestamps {
		c.set(markTS)
		c.tsOffset = s.TSVal - timestamp(now)
		c.tsRecent, c.tsRecentAt = s.TSRecent, uint32(now/1e6)-uint32(s.TSRecentAge.Milliseconds())
	}
	c.ecn = s.ecn()
	c.ecnSeq = s.SndNxt
	c.softErr = uint16(s.SoftErr)
}

// ecn is the state of ECN.
func (s *Snapshot) ecn() (e ecnState) {
	if !s.ECN {
		return 0
	}
	e = ecnOn
	if s.ECNEcho {
		e |= ecnEcho
	}
	if s.ECT {
		e |= ecnECT
		if s.ECNCWR {
			e |= ecnCWR | ecnHold
		}
	}
	return e
}

// thawSequences sets both sequence spaces, with nothing sent yet: thawSend moves
// SND.NXT.
func (c *Conn) thawSequences(s *Snapshot) {
	c.sndUna, c.sndNxt = s.SndUna, s.SndUna
	if s.State == FinWait2 {
		c.set(markFinWanted | markFinQueued | markFinAcked)
	}
	c.sndWnd, c.maxWnd, c.sndWL1 = s.SndWnd, max(s.MaxSndWnd, s.SndWnd), s.SndWL1
	c.sndSmall, c.undoSeq, c.recoverSeq = s.SndUna, s.SndUna, s.SndUna
	c.rack.high, c.rack.end = s.SndUna, s.SndUna
	c.rcvNxt, c.rcvAcked = s.RcvNxt, s.RcvAcked
	c.rcvAdv = seqMax(s.RcvAdv, s.RcvNxt)
	if s.RecvFIN {
		c.set(markFinSeen)
		c.finSeq = s.RcvNxt - 1
		c.flags.Or(sharedEOF)
	}
	if s.ReadClosed {
		c.flags.Or(sharedNoRead)
	}
	if s.closedWrite() {
		c.flags.Or(sharedNoWrite)
		c.set(markFinWanted)
	}
	c.rcvClamp.Store(max(c.rcvClamp.Load(), c.openWindow()+uint32(len(s.Recv))))
}

// closedWrite reports whether our side of the connection is closed.
func (s *Snapshot) closedWrite() bool { return s.SendFIN || s.State == FinWait2 }

// thawHints takes the measurements.
func (c *Conn) thawHints(h *SnapshotHints, now int64) {
	c.lastRcv, c.lastData, c.stuckAt = now-int64(h.Age), now-int64(h.DataAge), now-int64(h.Stuck)
	c.lastSnd = now
	c.retries, c.backoff = h.Retries, min(h.Backoff, maxBackoff)
	c.persistProbes, c.keepProbes = h.Probes, h.KeepProbes
	c.received, c.segsIn, c.segsOut = h.BytesReceived, h.SegsIn, h.SegsOut
	c.delivered = h.BytesAcked
	if c.has(markFinAcked) {
		c.delivered++
	}
	if h.SegsRetrans != 0 || h.BytesRetrans != 0 {
		r := c.makeRare()
		r.retransSegs, r.retransBytes = h.SegsRetrans, h.BytesRetrans
	}
	if h.RTT > 0 {
		c.rtt.thaw(int64(h.RTT), int64(h.RTTVar), int64(h.MinRTT), now)
	}
}

// thaw sets the estimates of a round trip.
func (r *RTT) thaw(srtt, mean, least, now int64) {
	most := int64(maxRTO)
	r.srtt = min(srtt, most)
	r.mdev = 4 * min(mean, most)
	r.rttv = max(r.mdev, r.lowest())
	r.peak = r.rttv
	if least > 0 {
		r.least, r.at = min(least, r.srtt), uint32(now/1e9)
	} else {
		r.least, r.at = r.srtt, uint32(now/1e9)
	}
}

// thawCongestion takes the windows, unless a model finds its own.
func (c *Conn) thawCongestion(h *SnapshotHints) {
	if h.Cwnd == 0 || c.cc.models {
		return
	}
	c.cc.fresh = false
	c.cc.SetCwnd(h.Cwnd)
	if h.Ssthresh != 0 {
		c.cc.ssthresh = max(h.Ssthresh, 2*c.cc.mss)
	}
	if c.cc.ssthresh != infSsthresh {
		c.cc.hystart.stop()
	}
}

// thawSend fills the send queue. What was sent counts as sent again now: nobody
// knows when it was, so no round trip is measured by it (Karn). false: frames are
// short.
func (c *Conn) thawSend(s *Snapshot, now int64) bool {
	sent := s.InFlight()
	n, ok := c.thawFrames(s.Send[:sent], 1)
	if !ok {
		return false
	}
	rest := s.Send[sent:]
	fin := s.FINSent()
	if fin && !c.queueFIN() {
		return false
	}
	if n > 0 || fin {
		c.noteSent(c.sndHead, n, sent, fin, now)
		c.noteFlight()
	}
	_, ok = c.thawFrames(rest, 0)
	return ok
}

// thawFrames puts b on the send queue, in frames as Write makes them, and returns
// their number. retrans is how often they were sent again. false: frames are short.
func (c *Conn) thawFrames(b []byte, retrans uint16) (n int, ok bool) {
	chunk := int(c.chunk.Load())
	for ; len(b) > 0; n++ {
		f, ok := c.h.Cache.Alloc()
		if !ok {
			return n, false
		}
		k := min(chunk, len(b))
		m := c.h.Arena.Meta(f)
		m.Sum = c.h.Fill(c.h.Arena.Bytes(f)[ring.Headroom:], b[:k])
		m.Off, m.Len = ring.Headroom, uint16(k)
		m.Retrans = retrans
		c.sndUsed.add(1, k)
		c.append(f)
		b = b[k:]
	}
	return n, true
}

// thawRecv fills the receive queue. false: frames are short.
func (c *Conn) thawRecv(s *Snapshot) bool {
	a := c.h.Arena
	room := a.FrameSize() - ring.Headroom
	seq := s.RcvNxt - uint32(len(s.Recv))
	if s.RecvFIN {
		seq--
	}
	for b := s.Recv; len(b) > 0; {
		f, ok := c.h.Cache.Alloc()
		if !ok {
			return false
		}
		k := copy(a.Bytes(f)[ring.Headroom:], b[:min(room, len(b))])
		m := a.Meta(f)
		m.Off, m.Len, m.Seq = ring.Headroom, uint16(k), seq
		c.rcvUsed.add(1, k)
		c.rcvBox.Push(a, f)
		seq += uint32(k)
		b = b[k:]
	}
	return true
}
