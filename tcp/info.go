package tcp

import (
	"syscall"
	"time"
)

// Info is the state of a connection, after Linux's struct tcp_info.
type Info struct {
	State      State
	Congestion string

	SendMSS, RecvMSS     int
	PathMTU              int
	SACK, Timestamps     bool
	ECN                  bool // negotiated (RFC 3168)
	SendScale, RecvScale int  // -1: not negotiated

	RTO, RTT, RTTVar, MinRTT time.Duration

	Cwnd, Ssthresh         int // bytes
	SendWindow, RecvWindow int // the peer's and ours, bytes

	Unsent    int // bytes written and not sent yet
	InFlight  int // bytes sent and not acknowledged
	SACKed    int // part of it
	Lost      int // part of it
	Unread    int // bytes received and not read
	OutOfSeq  int // frames that wait for missing data
	Recovery  string
	Reordered bool

	Reordering int // segments by which others were overtaken, at least 3

	Retransmits    int // unanswered ones
	Probes         int // unanswered zero-window probes
	KeepProbes     int // unanswered keepalive probes
	TotalRetrans   int // segments sent again
	BytesDelivered uint64
	BytesReceived  uint64
	SoftError      error // last ICMP error

	PacingRate     uint64  // bytes per second; 0: not paced
	DeliveryRate   float64 // last sample, bytes per second; 0: none
	RateAppLimited bool    // it tells of the application, not of the path
}

var recoveryNames = [...]string{"open", "recovery", "loss"}

// Info returns the state of the connection.
func (c *Conn) Info() Info {
	c.rateOn = true
	_, used := c.sndUsed.load()
	_, unread := c.rcvUsed.load()
	flight := int(c.sndNxt - c.sndUna)
	i := Info{
		State: c.State(), Congestion: c.cc.Name(),
		SendMSS: int(c.mss), RecvMSS: int(c.rcvMSS), PathMTU: int(c.mtu),
		SACK: c.has(markSACK), Timestamps: c.has(markTS), SendScale: -1, RecvScale: -1,
		RTO: time.Duration(c.rtt.Backoff(c.backoff)), RTT: time.Duration(c.rtt.SRTT()),
		RTTVar: time.Duration(c.rtt.Var()), MinRTT: time.Duration(c.rtt.Min()),
		Cwnd: c.cwnd(), Ssthresh: int(c.cc.Ssthresh()),
		SendWindow: int(c.sndWnd), RecvWindow: int(c.openWindow()),
		Unsent: max(used-flight, 0), InFlight: flight, SACKed: int(c.sacked), Lost: int(c.lost),
		Unread: unread, Recovery: recoveryNames[c.recovery], Reordered: c.has(markReordered), Reordering: int(c.reordering),
		Retransmits: int(c.retries), Probes: int(c.probes), KeepProbes: int(c.keepProbes),
		TotalRetrans: int(c.retransTotal), BytesDelivered: c.delivered, BytesReceived: c.received,
		PacingRate: c.cc.PacingRate(), DeliveryRate: c.rate.rate(), RateAppLimited: c.rateLimited,
	}
	i.ECN = c.ecn&ecnOn != 0
	if c.recovery == noRecovery && c.ecn&ecnReducing != 0 {
		i.Recovery = "cwr"
	}
	if c.has(markWS) {
		i.SendScale, i.RecvScale = int(c.sndWS), int(c.rcvWS)
	}
	if c.ooo != nil {
		i.OutOfSeq = c.ooo.frames
	}
	if c.softErr != 0 {
		i.SoftError = syscall.Errno(c.softErr)
	}
	return i
}
