package tcp

import (
	"net/netip"

	"github.com/onload-go/onload/ring"
)

// resend sends the SYN-ACK of e again.
func (l *Listener) resend(e *synEntry, now int64) {
	if e.resent < 0xff {
		e.resent++
	}
	l.h.Stats.TCPSynRetrans.Add(1)
	l.h.Stats.RetransSegs.Add(1)
	local, remote := e.ends()
	var ts uint32
	if e.has(synTS) {
		ts = timestamp(now) + l.h.TSOffset(local, remote)
	}
	l.sendSynAck(e, local, remote, ts, now, noGrant)
}

// sendSynAck sends the SYN-ACK of e, with timestamp ts where timestamps are in use,
// and with a cookie for Fast Open as g says. If it cannot be sent it is lost; the
// timer or the peer's SYN repeats it.
func (l *Listener) sendSynAck(e *synEntry, local, remote netip.AddrPort, ts uint32, now int64, g grant) {
	cfg := l.config(local, remote)
	opt := Options{
		MSS:           cfg.announcedMSS(l.mtu(local, remote), local.Addr()),
		WScale:        -1,
		SACKPermitted: e.has(synSACK),
		HasTS:         e.has(synTS),
		TSVal:         ts,
		TSEcr:         e.tsRecent,
	}
	if e.sndWS >= 0 {
		opt.WScale = int8(cfg.rcvWScale())
	}
	if g != noGrant {
		opt.FastOpen, opt.FastOpenExp = fastOpenOurs, g == grantExp
		opt.FastOpenCookie = l.newFastOpenCookie(&Pair{local.Addr(), remote.Addr()}, now)
	}
	e.sentAt = now
	l.send(local, remote, func(f ring.Frame) ring.Desc {
		var o [maxOptions]byte
		n := headerSize + putSYNOptions(o[:], &opt)
		b := l.h.header(f, n)
		fl := FlagSYN | FlagACK
		if e.has(synECN) {
			fl |= FlagECE // RFC 3168 section 6.1.1
		}
		putHeader(b, local.Port(), remote.Port(), e.iss, e.irs+1, fl, e.wnd)
		copy(b[headerSize:], o[:])
		return l.h.seal(f, n, local, remote)
	})
}

// challenge answers an unacceptable segment with an acknowledgement of the true
// state, at most twice a second for a connection.
func (l *Listener) challenge(e *synEntry, s *Segment, now int64) {
	if e.ackAt != 0 && now-e.ackAt < oowInterval {
		l.h.Stats.TCPACKSkippedSynRecv.Add(1)
		return
	}
	e.ackAt = now
	l.h.Stats.TCPChallengeACK.Add(1)
	l.send(s.Local, s.Remote, func(f ring.Frame) ring.Desc {
		n := headerSize
		if e.has(synTS) {
			n += tsSize
		}
		b := l.h.header(f, n)
		wnd := e.wnd
		if e.sndWS >= 0 {
			wnd >>= l.config(s.Local, s.Remote).rcvWScale()
		}
		putHeader(b, s.Local.Port(), s.Remote.Port(), e.iss+1, e.irs+1, FlagACK, wnd)
		if e.has(synTS) {
			putTimestamps(b[headerSize:], l.tsNow(s, now), e.tsRecent)
		}
		return l.h.seal(f, n, s.Local, s.Remote)
	})
}

// reset answers s with a reset.
func (l *Listener) reset(s *Segment) {
	if s.Flags.Has(FlagRST) {
		return
	}
	l.send(s.Local, s.Remote, func(f ring.Frame) ring.Desc {
		d, _ := l.h.Reset(s, f)
		return d
	})
}

// send sends the packet that build writes into a frame.
func (l *Listener) send(local, remote netip.AddrPort, build func(f ring.Frame) ring.Desc) {
	h := l.h
	f, ok := h.Cache.Alloc()
	if !ok {
		h.Stats.TCPOutNoFrames.Add(1)
		return
	}
	h.pkt[0] = build(f)
	if l.o.Reply(local, remote, h.pkt[:1], 0) {
		h.Stats.OutSegs.Add(1)
	}
	h.Cache.Release(f)
}
