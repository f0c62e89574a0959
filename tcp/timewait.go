package tcp

import (
	"net/netip"
	"time"

	"github.com/onload-go/onload/ring"
)

// TimeWaitLen is how long a connection stays in TIME-WAIT: twice the longest
// life of a segment, as Linux takes it.
const TimeWaitLen = 60 * time.Second

// oowInterval is the least time between two answers to unacceptable segments
// of one connection, so that two confused peers do not keep each other busy
// (Linux's tcp_invalid_ratelimit).
const oowInterval = 500e6

// TimeWait is what remains of a connection in TIME-WAIT.
type TimeWait struct {
	deadline       int64
	ackAt          int64 // last acknowledgement; 0: none
	sndNxt, rcvNxt uint32
	rcvWnd         uint32 // bytes
	tsRecent       uint32
	tsOffset       uint32
	rcvWS          uint8
	ts             bool // timestamps were negotiated
}

// TWAction says what the stack does with a segment for a TimeWait.
type TWAction uint8

const (
	// TWDrop drops it.
	TWDrop TWAction = iota
	// TWAck sends the segment that PutAck builds.
	TWAck
	// TWReopen says that the segment is a SYN that may open the connection again.
	// The stack forgets the TimeWait and calls Listener.Reopen. Without a listener
	// it acts as for TWAck.
	TWReopen
)

// Deadline is when the TIME-WAIT is over. Input may move it further away.
func (tw *TimeWait) Deadline() int64 { return tw.deadline }

// Timestamps reports whether the connection used timestamps, which distinguish its
// old segments from those of a successor (RFC 6191).
func (tw *TimeWait) Timestamps() bool { return tw.ts }

// Input takes a segment and, unless the answer is TWReopen, frees its payload.
func (tw *TimeWait) Input(h *Host, s *Segment, now int64) TWAction {
	act := tw.judge(h, s, now)
	if act == TWAck {
		if tw.ackAt != 0 && now-tw.ackAt < oowInterval {
			h.Stats.TCPACKSkippedTimeWait.Add(1)
			act = TWDrop
		}
	}
	if act != TWReopen {
		h.freePayload(s)
	}
	return act
}

func (tw *TimeWait) judge(h *Host, s *Segment, now int64) TWAction {
	fl := s.Flags
	// RFC 1337 section 3, fix (F1): a reset must not end TIME-WAIT.
	if fl.Has(FlagRST) || fl&(FlagSYN|FlagACK) == 0 {
		return TWDrop
	}
	hasTS := tw.ts && s.Opt.HasTS
	old := hasTS && seqLT(s.Opt.TSVal, tw.tsRecent) // PAWS, RFC 7323 section 5
	if old {
		h.Stats.PAWSEstab.Add(1)
	}
	if fl.Has(FlagSYN) {
		// RFC 6191 section 2 and RFC 9293 section 3.6.1: a SYN that is newer than
		// everything of the old connection opens a new one.
		newer := seqGT(s.Seq, tw.rcvNxt) || hasTS && seqGT(s.Opt.TSVal, tw.tsRecent)
		if fl&(FlagACK|FlagFIN) == 0 && !old && newer {
			return TWReopen
		}
		return TWAck
	}
	if !old && s.Seq == tw.rcvNxt && s.End() == s.Seq {
		return TWDrop // the peer's last acknowledgement, again
	}
	// RFC 9293 section 3.10.7.4: the peer repeats its FIN, because it missed our
	// ACK.
	tw.deadline = now + int64(TimeWaitLen)
	return TWAck
}

// PutAck builds in f the acknowledgement that TWAck asks for.
func (tw *TimeWait) PutAck(h *Host, local, remote netip.AddrPort, f ring.Frame, now int64) ring.Desc {
	n := headerSize
	if tw.ts {
		n += tsSize
	}
	b := h.header(f, n)
	wnd := min(tw.rcvWnd>>tw.rcvWS, 0xffff)
	putHeader(b, local.Port(), remote.Port(), tw.sndNxt, tw.rcvNxt, FlagACK, uint16(wnd))
	if tw.ts {
		putTimestamps(b[headerSize:], timestamp(now)+tw.tsOffset, tw.tsRecent)
	}
	tw.ackAt = now
	return h.seal(f, n, local, remote)
}

// isn is the initial sequence number of a connection that follows: beyond all that
// the old one sent and that may still be under way.
func (tw *TimeWait) isn() uint32 { return tw.sndNxt + 0xffff + 2 }

// freePayload frees the frames of s.
func (h *Host) freePayload(s *Segment) {
	h.Cache.FreeDescs(s.Payload)
	s.Payload = nil
}
