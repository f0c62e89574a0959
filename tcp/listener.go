package tcp

import (
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/onload-go/onload/ip"
	"github.com/onload-go/onload/ring"
)

// ListenOwner is the side of a Listener that faces the stack. Its methods are
// called under the stack lock, from within the Listener's.
type ListenOwner interface {
	// Reply sends one packet that belongs to no Conn, as Owner.Transmit does.
	Reply(local, remote netip.AddrPort, pkt []ring.Desc, ecn uint8) bool
	// MTU is the largest IP packet on the way to remote; 0: as Config says.
	MTU(local, remote netip.AddrPort) int
	// NewConn makes a Conn, zero as yet, for a complete handshake, and returns its
	// owner too. A nil Conn refuses the connection, and the peer tries again.
	NewConn(local, remote netip.AddrPort) (*Conn, Owner)
	// Accepted says that c is established and waits to be accepted.
	Accepted(c *Conn)
}

const (
	maxBacklog = 1 << 16
	// expireBatch bounds what one call of Expire sends.
	expireBatch = 64
)

// Listener is a port in LISTEN. It answers SYNs, keeps what half-open connections
// need, and makes a Conn when a handshake completes. It belongs to the holder of
// the stack lock, except Taken and Pending.
type Listener struct {
	h       *Host
	o       ListenOwner
	cfg     *Config
	queue   synQueue
	backlog int
	pending atomic.Int32 // on the accept queue
	// accepted counts connections, overflows SYNs and ACKs that were dropped because the
	// accept queue was full.
	accepted, overflows uint64
	// cookies is the time until which a cookie of ours may come back; 0: none was
	// sent.
	synCookies int64
	closed     bool
	fast       fastQueue
	// deferred is how many SYN-ACKs are sent before an ACK without data makes a
	// Conn.
	deferred uint8
}

// Init prepares l, which must be zero. backlog bounds both the half-open
// connections and those that wait to be accepted. cfg configures the connections;
// it must neither move nor change.
func (l *Listener) Init(h *Host, o ListenOwner, cfg *Config, backlog int) {
	l.h, l.o, l.cfg = h, o, cfg
	l.backlog = min(max(backlog, 1), maxBacklog)
	for wait := time.Duration(0); wait < cfg.DeferAccept && l.deferred < synRetries; l.deferred++ {
		wait += synTimeout << l.deferred
	}
	l.queue.key = &h.ISNKey
}

// Pending is the number of connections that wait to be accepted. Safe without
// the lock.
func (l *Listener) Pending() int { return int(l.pending.Load()) }

// Embryonic is the number of half-open connections.
func (l *Listener) Embryonic() int { return l.queue.n }

// Backlog is how many connections may wait to be accepted.
func (l *Listener) Backlog() int { return l.backlog }

// Counts returns how many connections there were, and how many SYNs and ACKs were
// dropped because the accept queue was full.
func (l *Listener) Counts() (accepted, overflows uint64) { return l.accepted, l.overflows }

// overflow counts a segment that is dropped because the accept queue is full.
func (l *Listener) overflow() {
	l.overflows++
	l.h.Stats.ListenOverflows.Add(1)
	l.h.Stats.ListenDrops.Add(1)
}

// Taken notes that c left the accept queue: the user has it. Safe without the
// lock.
func (l *Listener) Taken(c *Conn) {
	l.pending.Add(-1)
	c.flags.Or(sharedTaken)
}

// full reports whether the accept queue is full: like Linux it holds one more than
// the backlog says.
func (l *Listener) full() bool { return l.Pending() > l.backlog }

// Input takes a segment for the port that belongs to no Conn (RFC 9293
// section 3.10.7.2), and its payload.
func (l *Listener) Input(s *Segment, now int64) { l.input(s, now, 0) }

// Opening reports whether s is of a handshake that l has answered: of one that is
// half-open, or the answer to a SYN cookie. It changes nothing.
func (l *Listener) Opening(s *Segment, now int64) bool {
	if _, e := l.queue.find(s.Local, s.Remote); e != nil {
		return true
	}
	if s.Flags&(FlagSYN|FlagACK|FlagRST) != FlagACK || now >= l.synCookies {
		return false
	}
	_, ok := l.h.openSYNCookie(s.Local, s.Remote, s.Seq-1, s.Ack-1, now)
	return ok
}

// Opens reports whether a handshake that l has answered may still complete.
func (l *Listener) Opens(now int64) bool { return l.queue.n > 0 || now < l.synCookies }

// Reopen takes a SYN for which TimeWait.Input returned TWReopen. Our initial
// sequence number follows that of tw (RFC 6191).
func (l *Listener) Reopen(s *Segment, tw *TimeWait, now int64) {
	l.h.Stats.TWRecycled.Add(1)
	l.input(s, now, max(tw.isn(), 1))
}

func (l *Listener) input(s *Segment, now int64, isn uint32) {
	i, e := l.queue.find(s.Local, s.Remote)
	switch {
	case l.closed:
		l.reset(s)
	case e != nil && l.check(e, i, s, now):
		if e.retries < l.deferred && s.End() == e.irs+1 {
			e.flags |= synAcked
			l.h.Stats.TCPDeferAcceptDrop.Add(1)
			break
		}
		l.complete(e, i, s, now)
	case e != nil, s.Flags.Has(FlagRST):
	case s.Flags.Has(FlagACK):
		l.openSYNCookie(s, now)
	case s.Flags.Has(FlagSYN):
		l.open(s, now, isn)
	}
	l.h.freePayload(s)
}

// open answers a SYN.
func (l *Listener) open(s *Segment, now int64, isn uint32) {
	st := &l.h.Stats
	// Refuse LAND, a SYN with FIN, and addresses that could stand for many hosts.
	if s.Flags.Has(FlagFIN) || s.Local == s.Remote || s.Remote.Port() == 0 || !ip.Unicast(s.Local.Addr()) || !ip.Unicast(s.Remote.Addr()) {
		st.SynMalformed.Add(1)
		return
	}
	if l.full() {
		l.overflow()
		return
	}
	e := synEntry{irs: s.Seq, mss: s.Opt.MSS, wnd: l.synWindow(l.config(s.Local, s.Remote), s.Opt.HasTS && !l.cfg.NoTimestamps), sndWS: -1}
	if s.Opt.HasTS && !l.cfg.NoTimestamps {
		e.flags |= synTS
		e.tsRecent = s.Opt.TSVal
		e.tsFirst = timestamp(now) + l.h.TSOffset(s.Local, s.Remote)
	}
	if s.Opt.SACKPermitted && !l.cfg.NoSACK {
		e.flags |= synSACK
	}
	if asksECN(s) && l.config(s.Local, s.Remote).ECN != ECNOff {
		e.flags |= synECN
	}
	if !l.cfg.NoWindowScale {
		e.sndWS = s.Opt.WScale
	}
	if l.queue.n >= l.backlog {
		l.sendSYNCookie(&e, s, now)
		return
	}
	opened, g := l.fastOpen(&e, s, isn, now)
	if opened {
		return
	}
	i, p := l.queue.add(s.Local, s.Remote)
	p.irs, p.mss, p.wnd, p.sndWS, p.tsRecent, p.tsFirst = e.irs, e.mss, e.wnd, e.sndWS, e.tsRecent, e.tsFirst
	p.flags |= e.flags
	if p.iss = isn; isn == 0 {
		p.iss = l.h.ISN(s.Local, s.Remote, now)
	}
	l.queue.schedule(i, now)
	l.sendSynAck(p, s.Local, s.Remote, p.tsFirst, now, g)
}

// mtu is the largest IP packet on the way to remote.
func (l *Listener) mtu(local, remote netip.AddrPort) int {
	if n := l.o.MTU(local, remote); n > 0 {
		return min(n, 0xffff)
	}
	return min(l.cfg.mtu(), 0xffff)
}

// sendSYNCookie answers a SYN without making an entry. Options that cannot come
// back in a timestamp are not granted.
func (l *Listener) sendSYNCookie(e *synEntry, s *Segment, now int64) {
	mss := e.mss
	if mss == 0 {
		mss = synCookieMSS[0]
	}
	e.iss = l.h.synCookie(s.Local, s.Remote, e.irs, mss, now)
	var ts uint32
	if e.has(synTS) {
		opt := uint32(e.sndWS) & synCookieWSMask
		if e.has(synSACK) {
			opt |= synCookieSACK
		}
		if e.has(synECN) {
			opt |= synCookieECN
		}
		ts = synCookieTimestamp(now, opt) + e.tsFirst - timestamp(now)
	} else {
		e.sndWS = -1
		e.flags &^= synSACK | synECN
	}
	l.synCookies = now + synCookieAge*synCookiePeriod
	l.h.Stats.TCPReqQFullDoCookies.Add(1)
	l.h.Stats.SyncookiesSent.Add(1)
	l.sendSynAck(e, s.Local, s.Remote, ts, now, noGrant)
}

// check tests a segment for the half-open connection e (RFC 9293 section 3.10.7.4,
// SYN-RECEIVED). It reports whether the segment completes the handshake.
func (l *Listener) check(e *synEntry, i uint32, s *Segment, now int64) bool {
	st := &l.h.Stats
	fl := s.Flags
	rcvNxt := e.irs + 1
	switch {
	case fl.Has(FlagRST):
		// RFC 5961 section 3.2: only the exact sequence number resets.
		if s.Seq == rcvNxt {
			st.EmbryonicRsts.Add(1)
			st.AttemptFails.Add(1)
			l.queue.remove(i)
		} else if seqIn(s.Seq, rcvNxt, rcvNxt+uint32(e.wnd)) {
			l.challenge(e, s, now)
		}
		return false
	case fl&(FlagSYN|FlagACK|FlagFIN) == FlagSYN && s.Seq == e.irs:
		// The SYN came again: our SYN-ACK was lost, or is late.
		if !asksECN(s) {
			e.flags |= synNoECT // RFC 3168 section 6.1.1
		}
		if now-e.sentAt < oowInterval {
			st.TCPACKSkippedSynRecv.Add(1)
			return false
		}
		l.resend(e, now)
		return false
	case fl.Has(FlagSYN):
		l.challenge(e, s, now) // RFC 5961 section 4.2
		return false
	case !fl.Has(FlagACK):
		return false
	}
	ts := e.has(synTS) && s.Opt.HasTS
	switch {
	case ts && seqLT(s.Opt.TSVal, e.tsRecent): // PAWS
		st.PAWSEstab.Add(1)
		l.challenge(e, s, now)
		return false
	case ts && s.Opt.TSEcr != 0 && s.Opt.TSEcr-e.tsFirst > l.tsNow(s, now)-e.tsFirst:
		st.TSEcrRejected.Add(1)
		l.challenge(e, s, now)
		return false
	case !l.inWindow(e, s):
		l.challenge(e, s, now)
		return false
	case s.Ack != e.iss+1:
		l.reset(s)
		return false
	}
	return true
}

func (l *Listener) tsNow(s *Segment, now int64) uint32 {
	return timestamp(now) + l.h.TSOffset(s.Local, s.Remote)
}

// inWindow is the test of RFC 9293 section 3.4 against the window of our
// SYN-ACK.
func (l *Listener) inWindow(e *synEntry, s *Segment) bool {
	rcvNxt := e.irs + 1
	edge := rcvNxt + uint32(e.wnd)
	if s.Seq == rcvNxt || seqIn(s.Seq, rcvNxt, edge) {
		return true
	}
	return s.End() != s.Seq && seqIn(s.End()-1, rcvNxt, edge)
}

// complete makes a Conn of the entry e.
func (l *Listener) complete(e *synEntry, i uint32, s *Segment, now int64) {
	if !l.establish(e, s, now, func() { l.queue.remove(i) }) {
		e.flags |= synAcked
	}
}

// openSYNCookie takes an ACK without an entry: it may acknowledge a cookie.
func (l *Listener) openSYNCookie(s *Segment, now int64) {
	if s.Flags.Has(FlagSYN) || now >= l.synCookies {
		l.reset(s)
		return
	}
	mss, ok := l.h.openSYNCookie(s.Local, s.Remote, s.Seq-1, s.Ack-1, now)
	ts := s.Opt.HasTS && !l.cfg.NoTimestamps
	opt := s.Opt.TSEcr - l.h.TSOffset(s.Local, s.Remote)
	if ts && timestamp(now)-opt > synCookieAge*synCookiePeriod/1e6 {
		ok = false // it echoes what we did not send
	}
	if !ok {
		l.h.Stats.SyncookiesFailed.Add(1)
		l.reset(s)
		return
	}
	// This is the largest window that the SYN-ACK can have offered: a window must
	// not shrink.
	e := synEntry{iss: s.Ack - 1, irs: s.Seq - 1, mss: mss, wnd: uint16(l.config(s.Local, s.Remote).initialWindow(ts)), sndWS: -1}
	if ts {
		e.flags |= synTS
		e.tsRecent = s.Opt.TSVal
		if opt&synCookieSACK != 0 && !l.cfg.NoSACK {
			e.flags |= synSACK
		}
		if opt&synCookieECN != 0 && l.config(s.Local, s.Remote).ECN != ECNOff {
			e.flags |= synECN
		}
		if ws := opt & synCookieWSMask; ws <= maxWScale && !l.cfg.NoWindowScale {
			e.sndWS = int8(ws)
		}
	}
	if l.establish(&e, s, now, func() {}) {
		l.h.Stats.SyncookiesRecv.Add(1)
	}
}

// establish makes a Conn of the half-open connection e, whose first segment is s.
// false: there is no room for it now, and like Linux we act as if the ACK had been
// lost. forget is called once the Conn exists; e may be gone after that.
func (l *Listener) establish(e *synEntry, s *Segment, now int64, forget func()) bool {
	st := &l.h.Stats
	if l.full() {
		l.overflow()
		return false
	}
	c, owner := l.o.NewConn(s.Local, s.Remote)
	if c == nil {
		st.ListenDrops.Add(1)
		return false
	}
	hs := l.handshake(e, s.Local, s.Remote)
	forget()
	c.Init(l.h, owner, l.config(s.Local, s.Remote), s.Local, s.Remote)
	c.Passive(&hs, now)
	c.Input(s, now)
	s.Payload = nil
	if c.State() >= Established {
		st.PassiveOpens.Add(1)
		l.pending.Add(1)
		l.accepted++
		l.o.Accepted(c)
	}
	return true
}

// Deadline is when Expire has something to do; math.MaxInt64 if never.
func (l *Listener) Deadline() int64 {
	_, at := l.queue.earliest()
	return at
}

// Expire repeats SYN-ACKs that were not answered, and drops entries that were never
// answered.
func (l *Listener) Expire(now int64) {
	for range expireBatch {
		i, at := l.queue.earliest()
		if at > now {
			return
		}
		l.h.Stats.TCPTimeouts.Add(1)
		most := uint8(synRetries)
		if l.queue.n > l.backlog/2 {
			most = synRetriesTight
		}
		e := &l.queue.slab[i]
		acked := e.has(synAcked)
		if e.retries >= most && (!acked || e.retries >= l.deferred) {
			l.h.Stats.AttemptFails.Add(1)
			l.queue.remove(i)
			continue
		}
		l.queue.unlink(i)
		e.retries++
		l.queue.schedule(i, now)
		if acked && e.retries < l.deferred {
			continue // its data is awaited; the SYN-ACK need not be repeated
		}
		l.resend(e, now)
	}
}

// Close ends listening. It forgets half-open connections; later segments for them
// belong to nobody and are reset. Only peers that completed the handshake while the
// accept queue was full are told.
func (l *Listener) Close(now int64) {
	l.closed = true
	for {
		i, _ := l.queue.earliest()
		if i == 0 {
			return
		}
		if e := &l.queue.slab[i]; e.has(synAcked) {
			local, remote := e.ends()
			l.reset(&Segment{Local: local, Remote: remote, Ack: e.iss + 1, Flags: FlagACK})
		}
		l.queue.remove(i)
	}
}
