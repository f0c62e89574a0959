package tcp

// Explicit congestion notification: RFC 3168.

// ECN is whether a connection uses explicit congestion notification (RFC
// 3168).
type ECN uint8

const (
	// ECNAccept uses it where the peer asks for it (Linux's tcp_ecn=2).
	ECNAccept ECN = iota
	// ECNOn asks for it too (1).
	ECNOn
	// ECNOff never does (0).
	ECNOff
)

// ecnState is a set of flags.
type ecnState uint8

const (
	ecnAsk      ecnState = 1 << iota // our SYN is to ask
	ecnOn                            // negotiated: marks are echoed, and echoes answered
	ecnECT                           // new data is sent ECN-capable
	ecnHold                          // the window was lowered, and the peer has not acknowledged CWR
	ecnReducing                      // PRR lowers the window for an echo (Linux's state CWR)

	// As the flags of the segments that they are put into.
	ecnEcho = ecnState(FlagECE) // tell the peer of a mark until it answers
	ecnCWR  = ecnState(FlagCWR) // tell it that the window was lowered
)

// Codepoints of the IP header (section 5).
const (
	ectNone = 0
	ect0    = 2
	ectCE   = 3
)

// asksECN reports whether a SYN asks for ECN, section 6.1.1. A SYN that is itself
// ECN-capable means something else (as Linux).
func asksECN(s *Segment) bool { return s.Flags.Has(FlagECE|FlagCWR) && s.ECN == ectNone }

// synECN returns the ECN flags of a SYN or SYN-ACK, section 6.1.1. A SYN that is
// sent again does not ask: the path may have dropped the first because it asked
// (section 6.1.1.1).
func (c *Conn) synECN(synAck bool) Flags {
	switch {
	case synAck && c.ecn&ecnOn != 0:
		return FlagECE
	case !synAck && c.ecn&ecnAsk != 0 && c.backoff == 0:
		return FlagECE | FlagCWR
	}
	return 0
}

// learnECN takes the peer's answer to our SYN: a SYN-ACK, or a SYN that crossed
// it. A host whose last SYN did not ask sends nothing ECN-capable, but may still
// have to echo marks (section 6.1.1).
func (c *Conn) learnECN(s *Segment) {
	if c.ecn&ecnAsk == 0 {
		return
	}
	if s.Flags.Has(FlagACK) && s.Flags&(FlagECE|FlagCWR) == FlagECE || !s.Flags.Has(FlagACK) && asksECN(s) {
		c.ecn |= ecnOn
		if c.backoff == 0 {
			c.ecn |= ecnECT
		}
	}
}

// receiveECN is the receiver's part, section 6.1.3. Every acknowledgement reports a
// mark until the peer says that it has slowed down; the same packet may say so.
// Segments outside of the window do not count (section 6.1.5).
func (c *Conn) receiveECN(s *Segment) {
	if s.Flags&FlagCWR != 0 {
		c.ecn &^= ecnEcho
		c.set(markAckNow) // the peer wants to hear no more of it soon (as Linux)
	}
	if s.ECN == ectCE {
		c.h.Stats.InCEPkts.Add(1)
		if c.ecn&ecnEcho == 0 {
			c.ecn |= ecnEcho
			c.quick = max(c.quick, ecnQuickAcks)
			c.clear(markPingPong)
			c.set(markAckNow)
		}
	}
}

// ecnQuickAcks are the segments acknowledged at once after a mark (as Linux).
const ecnQuickAcks = 2

// sendECN is the sender's part, section 6.1.2: an echo means congestion. It is
// answered once for a window of data, and not beside a loss. Until the peer
// acknowledges data that was sent with CWR or behind it, it may not know that its
// echo was heard.
func (c *Conn) sendECN(s *Segment, st *ackState, now int64) {
	if c.ecn&ecnHold != 0 && seqGT(c.sndUna, c.ecnSeq) {
		if c.ecn&ecnReducing != 0 {
			c.cc.ExitRecovery()
		}
		c.ecn &^= ecnHold | ecnReducing
	}
	switch {
	case s.Flags&FlagECE == 0:
	case c.recovery != noRecovery:
		c.cc.KeepReduction() // even if there were no losses, this is congestion
	case c.ecn&ecnHold == 0:
		c.h.Stats.TCPECNReductions.Add(1)
		c.clear(markUndo) // the reduction before must stay
		c.startPRR()
		c.prrFlight += st.delivered
		c.cc.OnECN(now)
		c.reduced()
		if !c.cc.models {
			c.ecn |= ecnReducing
		}
	}
}

// reduced notes that the window was lowered, for whatever reason, since the peer is
// to know (section 6.1.2).
func (c *Conn) reduced() {
	c.ecn &^= ecnReducing
	if c.ecn&ecnECT != 0 {
		c.ecn |= ecnCWR | ecnHold
		c.ecnSeq = c.sndNxt
	}
}
