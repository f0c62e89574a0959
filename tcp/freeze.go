package tcp

import (
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/onload-go/onload/ring"
)

// ErrState is the error of a connection that cannot change hands, because it is
// not synchronized yet, or has ended.
var ErrState = errors.New("tcp: a connection in this state cannot change hands")

// movable reports whether a connection in state s can be frozen.
func (s State) movable() bool {
	switch s {
	case Established, FinWait1, FinWait2, CloseWait, Closing, LastAck:
		return true
	}
	return false
}

// Freeze stops c, and returns what it is. No segment leaves any more, Expire does
// nothing, and Input takes nothing: to the owner c has ended, though no event says so.
// c keeps its frames and timers until Free gives the frames back, because another
// carrier has the connection, or until Resume has c go on.
//
// The caller holds the stack lock, and no reader or writer is at work. With an
// error, which wraps ErrState, nothing has changed.
func (c *Conn) Freeze(now int64) (*Snapshot, error) {
	st := c.State()
	if !st.movable() || c.has(markDead) || c.rare.fo != nil {
		return nil, fmt.Errorf("%w: %v", ErrState, st)
	}
	c.pull()
	s := c.snapshot(st, now)
	c.set(markDead | markFrozen)
	c.countOrphan(-1)
	c.flags.Or(sharedNoWrite)
	c.setState(Closed)
	return s, nil
}

// Frozen reports whether Freeze has stopped c.
func (c *Conn) Frozen() bool { return c.has(markFrozen) }

// Resume has c go on where Freeze stopped it. s is what Freeze returned. The caller
// gives c the segments that came meanwhile, and then lets Output run. Timers that ran
// out meanwhile are due.
func (c *Conn) Resume(s *Snapshot) {
	if !c.has(markFrozen) {
		return
	}
	c.clear(markDead | markFrozen)
	c.countOrphan(1)
	if !c.has(markFinWanted) {
		c.flags.And(^uint32(sharedNoWrite))
	}
	c.setState(s.State)
}

// snapshot returns what c is in state st. It changes nothing.
func (c *Conn) snapshot(st State, now int64) *Snapshot {
	s := &Snapshot{
		Local: c.Local(), Remote: c.Remote(), State: st, Orphan: c.has(markOrphan),
		SndUna: c.sndUna, SndNxt: c.sndNxt, SndWnd: c.sndWnd, MaxSndWnd: c.maxWnd, SndWL1: c.sndWL1,
		SendFIN: c.has(markFinWanted) && !c.has(markFinAcked), Send: c.unacknowledged(),
		RcvNxt: c.rcvNxt, RcvAcked: c.rcvAcked, RcvAdv: c.rcvAdv, Recv: c.unread(),
		SndScale: -1, RcvScale: -1, SACK: c.has(markSACK),
		ECN: c.ecn&ecnOn != 0, ECT: c.ecn&ecnECT != 0, ECNEcho: c.ecn&ecnEcho != 0, ECNCWR: c.ecn&ecnCWR != 0,
		Timestamps: c.has(markTS), PeerMSS: c.peerMSS, SendMSS: c.mss, RecvMSS: c.rcvMSS,
		PathMTU: uint16(c.mostMTU()), SoftErr: syscall.Errno(c.softErr),
		Options: c.snapshotOptions(), Hints: c.snapshotHints(now),
	}
	shared := c.flags.Load()
	s.ReadClosed, s.RecvFIN = shared&sharedNoRead != 0, shared&sharedEOF != 0
	if c.has(markWS) {
		s.SndScale, s.RcvScale = int8(c.sndWS), int8(c.rcvWS)
	}
	if c.has(markTS) {
		s.TSVal, s.TSRecent = c.timestamp(now), c.tsRecent
		s.TSRecentAge = time.Duration(uint32(now/1e6)-c.tsRecentAt) * time.Millisecond
	}
	return s
}

// unacknowledged copies the send queue.
func (c *Conn) unacknowledged() []byte { return c.copied(c.sndHead, &c.sndUsed) }

// copied is the payload of the frames from f on, of which u has the size.
func (c *Conn) copied(f ring.Frame, u *usage) []byte {
	a := c.h.Arena
	_, used := u.load()
	b := make([]byte, 0, used)
	for ; f != ring.NoFrame; f = a.Meta(f).Next {
		m := a.Meta(f)
		b = append(b, a.Bytes(f)[m.Off:m.Off+m.Len]...)
	}
	return b
}

// unread copies what the reader has not read. It moves what the reader has not
// taken yet to the reader's list.
func (c *Conn) unread() []byte {
	a := c.h.Arena
	last := ring.NoFrame
	for f := c.readList; f != ring.NoFrame; f = a.Meta(f).Next {
		last = f
	}
	if f, _ := c.rcvBox.TakeAll(a); last == ring.NoFrame {
		c.readList = f
	} else {
		a.Meta(last).Next = f
	}
	return c.copied(c.readList, &c.rcvUsed)
}

func (c *Conn) snapshotOptions() SnapshotOptions {
	o := SnapshotOptions{
		NoDelay: c.has(markNoDelay), QuickAck: c.has(markQuickAck), KeepAlive: c.KeepAlive(), Linger: c.Linger(),
		UserTimeout: c.UserTimeout(), RcvBuf: int(c.rcvLimit.Load()), SndBuf: int(c.sndLimit.Load()),
		RcvFixed: c.has(markRcvFixed), SndFixed: c.has(markSndFixed), Congestion: c.cc.Name(),
		MaxPacingRate: c.MaxPacingRate(), MaxSeg: c.rare.maxSeg,
		FinWait2: time.Duration(c.rare.finWait2) * time.Millisecond, KeepIdleCwnd: c.has(markKeepCwnd),
	}
	switch {
	case c.has(markMTUOff):
		o.MTUProbing = MTUProbeOff
	case c.has(markMTUAlways):
		o.MTUProbing = MTUProbeAlways
	}
	return o
}

func (c *Conn) snapshotHints(now int64) SnapshotHints {
	r := c.rare
	h := SnapshotHints{
		RTT: time.Duration(c.rtt.SRTT()), RTTVar: time.Duration(c.rtt.Var()), MinRTT: time.Duration(c.rtt.Min()),
		Cwnd: c.cc.Cwnd(), Ssthresh: c.cc.Ssthresh(),
		Age: since(c.lastRcv, now), DataAge: since(c.lastData, now), Stuck: since(c.stuckAt, now),
		Retries: c.retries, Backoff: c.backoff, Probes: c.persistProbes, KeepProbes: c.keepProbes,
		BytesAcked: c.ackedBytes(), BytesReceived: c.received, BytesRetrans: r.retransBytes,
		SegsIn: c.segsIn, SegsOut: c.segsOut, SegsRetrans: r.retransSegs, Passive: c.has(markPassive),
	}
	if c.has(markFinAcked) {
		h.BytesAcked--
	}
	if c.rtoAt != 0 && c.sndUna != c.sndNxt {
		h.Timeout, h.Probe = left(c.rtoAt, now), c.has(markPTO)
	}
	if c.ackAt != 0 {
		h.AckDelay = left(c.ackAt, now)
	}
	return h
}

// left is the time until at, at least one nanosecond.
func left(at, now int64) time.Duration { return time.Duration(max(at-now, 1)) }

func since(at, now int64) time.Duration { return time.Duration(max(now-at, 0)) }
