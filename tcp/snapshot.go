package tcp

import (
	"net/netip"
	"syscall"
	"time"
)

// Snapshot is a connection at rest: all by which its peer and its program can know
// it, as plain data. It holds no frames and no pointers into a stack. So it can be
// kept, sent to another process, or made into a socket of the kernel (TCP_REPAIR),
// and made of one.
//
// Sequence numbers are those of the wire. Windows are bytes, already scaled. Times
// are durations up to the moment in which the snapshot was made: two clocks need
// not agree.
//
// Two things are left out on purpose. Segments that came early are dropped: their
// sender keeps what is acknowledged by SACK alone, and sends it again (RFC 2018
// section 8). There is no urgent mark: the stack leaves urgent data in the stream,
// and notes no mark (RFC 6093 section 6 advises programs against it).
type Snapshot struct {
	// Local and Remote are the ends. IPv6 addresses of the link have their zone.
	Local, Remote netip.AddrPort

	// State is a synchronized state in which data, a FIN or an acknowledgement may
	// yet pass: Established, FinWait1, FinWait2, CloseWait, Closing or LastAck.
	State State
	// Orphan says that the program has closed the connection, which goes on by
	// itself. Nobody reads from it, and Recv is empty.
	Orphan bool
	// ReadClosed says that the program reads no more (shutdown of SHUT_RD).
	ReadClosed bool

	// Send sequence space (RFC 9293 section 3.3.1). SndUna is SND.UNA, SndNxt is
	// SND.NXT, behind all that was ever sent.
	SndUna, SndNxt uint32
	// SndWnd is SND.WND. The peer's window ends at SndUna+SndWnd.
	SndWnd uint32
	// MaxSndWnd is the largest window that the peer ever offered (RFC 9293 section
	// 3.8.6.2.1).
	MaxSndWnd uint32
	// SndWL1 is SND.WL1, the sequence number of the segment that set SndWnd.
	// SND.WL2 is SndUna.
	SndWL1 uint32
	// Send begins at SndUna: what was sent and not acknowledged, then what never
	// was sent. InFlight says where one ends.
	Send []byte
	// SendFIN says that our FIN stands behind Send (SEG.SEQ is SndUna+len(Send)).
	// FINSent reports whether it was sent. In FinWait2 it is acknowledged: Send is
	// empty and SendFIN is false.
	SendFIN bool

	// Receive sequence space. RcvNxt is RCV.NXT; it counts the peer's FIN, where
	// RecvFIN.
	RcvNxt uint32
	// RcvAcked is the acknowledgement number of our last segment, at most RcvNxt.
	// (Linux calls it rcv_wup.)
	RcvAcked uint32
	// RcvAdv is the right edge of the window that we advertised last, RCV.NXT +
	// RCV.WND. It must never move back.
	RcvAdv uint32
	// Recv came in order and was not read. Its last byte is RcvNxt-1, or RcvNxt-2
	// where RecvFIN.
	Recv []byte
	// RecvFIN says that the peer's FIN came in order, after Recv.
	RecvFIN bool

	// SndScale and RcvScale are the shifts of the peer's windows and of ours (RFC
	// 7323 section 2), both -1 where scaling was not negotiated.
	SndScale, RcvScale int8
	// SACK says that selective acknowledgements were negotiated (RFC 2018).
	SACK bool
	// ECN says that explicit congestion notification was negotiated (RFC 3168). ECT
	// says that our data may be marked, ECNEcho that a mark has to be reported yet
	// (ECE), ECNCWR that our next data tells the peer that we slowed down.
	ECN, ECT, ECNEcho, ECNCWR bool
	// Timestamps says that they were negotiated (RFC 7323 section 3).
	Timestamps bool
	// TSVal is what our timestamp clock shows now, ticks of a millisecond. It must
	// go on from there (PAWS, section 5).
	TSVal uint32
	// TSRecent is TS.Recent, the timestamp to echo, and TSRecentAge is for how long
	// it has been so.
	TSRecent    uint32
	TSRecentAge time.Duration

	// PeerMSS is the MSS option that the peer sent, bytes (RFC 9293 section 3.7.1);
	// SendMSS the payload of a full segment of ours, options deducted; RecvMSS an
	// estimate of the payload of the peer's.
	PeerMSS, SendMSS, RecvMSS uint16
	// PathMTU is the largest IP packet that the path takes, bytes; 0: not known.
	PathMTU uint16

	Options SnapshotOptions

	// SoftErr is the last ICMP error since the peer was heard, 0 for none. It is
	// what a timeout will report.
	SoftErr syscall.Errno

	Hints SnapshotHints
}

// SnapshotOptions are the options that the program has set on a connection, with
// the names of socket options in brackets.
type SnapshotOptions struct {
	NoDelay  bool // TCP_NODELAY
	QuickAck bool // TCP_QUICKACK; with us, of a route: no acknowledgement is delayed
	// KeepAlive has its defaults filled in (SO_KEEPALIVE, TCP_KEEPIDLE, _KEEPINTVL,
	// _KEEPCNT).
	KeepAlive KeepAlive
	// Linger is in seconds, below 0: none (SO_LINGER).
	Linger int
	// UserTimeout is in whole milliseconds; 0: the default (TCP_USER_TIMEOUT).
	UserTimeout time.Duration
	// RcvBuf and SndBuf are payload bytes, as Config means them. They grow by
	// themselves unless RcvFixed or SndFixed: the program set the size (SO_RCVBUF,
	// SO_SNDBUF).
	RcvBuf, SndBuf     int
	RcvFixed, SndFixed bool
	// Congestion is the name of the congestion control (TCP_CONGESTION). One that
	// the new carrier does not have becomes its default.
	Congestion string
	// MaxPacingRate is in bytes per second; 0: none (SO_MAX_PACING_RATE).
	MaxPacingRate uint64
	// MaxSeg bounds the payload of segments, bytes; 0: nothing does (TCP_MAXSEG).
	MaxSeg uint16
	// FinWait2 is how long an orphan waits for the peer's FIN; 0: the default,
	// below 0: it is reset instead (TCP_LINGER2).
	FinWait2 time.Duration
	// KeepIdleCwnd says that the congestion window outlives silence (the inverse of
	// net.ipv4.tcp_slow_start_after_idle).
	KeepIdleCwnd bool
	// MTUProbing says when the path's MTU is searched for (RFC 4821).
	MTUProbing MTUProbing

	// TOS is the traffic class without its ECN bits (IP_TOS, IPV6_TCLASS).
	TOS uint8
	// TTL is the hop limit; 0: the route's (IP_TTL, IPV6_UNICAST_HOPS).
	TTL uint8
	// Mark is the socket's mark; 0: none (SO_MARK). Our own stack has none: it
	// keeps the value for the kernel.
	Mark uint32
}

// SnapshotHints are worth keeping, and nothing depends on them: the new carrier may
// measure anew.
type SnapshotHints struct {
	// RTT is smoothed, RTTVar its mean deviation, MinRTT the least lately (RFC
	// 6298); 0: never measured.
	RTT, RTTVar, MinRTT time.Duration
	// Cwnd and Ssthresh are bytes (RFC 5681); Ssthresh is math.MaxUint32 before the
	// first reduction. 0: not known.
	Cwnd, Ssthresh uint32

	// Age is how long ago something came from the peer last, DataAge the same for
	// data. Keepalive counts from there.
	Age, DataAge time.Duration
	// Retries is how many retransmissions in a row were not answered, Backoff how
	// often the timeout has doubled, Probes how many probes of a shut window were
	// not answered, KeepProbes the same for keepalive.
	Retries, Backoff, Probes, KeepProbes uint8
	// Stuck is for how long the peer has acknowledged nothing, or kept its window
	// shut, for the user timeout.
	Stuck time.Duration
	// Timeout is the time until the retransmission timer expires, and Probe says that
	// it is for a tail loss probe (RFC 8985 section 7). AckDelay is the time until a
	// delayed acknowledgement is due. 0: not known; a full time begins.
	Timeout, AckDelay time.Duration
	Probe             bool

	// Totals of the connection's life, as Info has them.
	BytesAcked, BytesReceived, BytesRetrans uint64
	SegsIn, SegsOut, SegsRetrans            uint32
	// Passive says that the peer opened the connection.
	Passive bool
}

// InFlight is how many bytes at the beginning of Send were sent and are not
// acknowledged. The FIN is not among them.
func (s *Snapshot) InFlight() int { return min(int(s.SndNxt-s.SndUna), len(s.Send)) }

// FINSent reports whether our FIN was sent and is not acknowledged.
func (s *Snapshot) FINSent() bool {
	return s.SendFIN && s.SndNxt == s.SndUna+uint32(len(s.Send))+1
}
