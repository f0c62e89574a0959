package onload

import (
	"time"

	"github.com/onload-go/onload/tcp"
)

// TCPInfo is the state of a TCP connection, after Linux's struct tcp_info.
// Volumes are bytes of payload, rates bytes per second. It has the fields of
// tcp.Info.
type TCPInfo struct {
	State      tcp.State
	Congestion string // name of the congestion control

	SendMSS, RecvMSS     int // what we send in a full segment; what the peer seems to
	PathMTU              int
	SACK, Timestamps     bool
	ECN                  bool // negotiated (RFC 3168)
	FastOpened           bool // data came, or went, with the SYN (RFC 7413)
	SendScale, RecvScale int  // shifts of the windows; -1: not negotiated

	// RTT is smoothed, RTTVar its mean deviation, MinRTT the least of some
	// minutes; 0 before the first sample. RTO is backed off.
	RTO, RTT, RTTVar, MinRTT time.Duration

	Cwnd       int
	Ssthresh   int // math.MaxUint32 before the first reduction
	SendWindow int // the peer's receive window
	RecvWindow int // ours

	Unsent    int    // written and not sent yet
	InFlight  int    // sent and not acknowledged
	SACKed    int    // part of it that the peer holds
	Lost      int    // part of it that is taken for lost
	Resent    int    // part of that which was sent again, and may arrive yet
	Unread    int    // received and not read
	OutOfSeq  int    // packet buffers that wait for missing data; segments with the kernel
	Recovery  string // "open", "recovery", "loss" or "cwr": lowered for ECN
	Reordered bool   // the path was seen to reorder

	Reordering int // segments by which others were overtaken, at least 3

	Retransmits  int // unanswered ones
	Probes       int // unanswered zero-window probes
	KeepProbes   int // unanswered keepalive probes
	Backoff      int // times that the RTO has doubled
	TotalRetrans int // segments of data sent again
	DSACKs       int // segments that the peer reported to have got twice

	BytesSent      uint64 // retransmissions included
	BytesRetrans   uint64
	BytesAcked     uint64
	BytesDelivered uint64 // BytesAcked and what is SACKed
	BytesReceived  uint64 // in order

	// SinceReceived is the time since data last came.
	SinceReceived time.Duration

	// Packets, modulo 2^32. One that the device segments, or has put
	// together, counts as one.
	SegsIn, SegsOut uint32

	SoftError error // last ICMP error since the peer was heard

	PacingRate     uint64  // 0: not paced
	MaxPacingRate  uint64  // what SetMaxPacingRate set; 0: none
	DeliveryRate   float64 // last sample; 0: none
	RateAppLimited bool    // the application, not the path, limited it

	// Limit says why the connection sends no more now.
	Limit TCPLimit
	// The time that the connection was busy, which means that it had something to
	// send or in flight, and the parts of that time in which each limit held. The
	// kernel counts from the connection's begin, and has no times for the last two
	// limits. A connection of this package counts from the first call of Info.
	BusyTime, ReceiverLimited, SendBufferLimited time.Duration
	CwndLimited, PacingLimited                   time.Duration
}

// TCPLimit is the reason why a connection sends no more: TCPInfo.Limit.
type TCPLimit = tcp.Limit

// The limits.
const (
	LimitIdle        = tcp.LimitIdle        // there is nothing to send, and nothing in flight
	LimitApplication = tcp.LimitApplication // all that was written is in flight
	LimitReceiver    = tcp.LimitReceiver    // the peer's window is full
	LimitSendBuffer  = tcp.LimitSendBuffer  // all of a full send buffer is in flight
	LimitCwnd        = tcp.LimitCwnd        // the congestion window is full
	LimitPacing      = tcp.LimitPacing      // the next packet waits for its time
)
