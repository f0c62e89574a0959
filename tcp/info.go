package tcp

import (
	"syscall"
	"time"

	"github.com/onload-go/onload/ring"
)

// Info is the state of a connection, after Linux's struct tcp_info. Volumes
// are bytes of payload, rates bytes per second.
type Info struct {
	State      State
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
	Limit Limit
	// The time that the connection was busy, which means that it had something to
	// send or in flight, and the parts of that time in which each limit held. The
	// kernel counts from the connection's begin, and has no times for the last two
	// limits. A connection of this package counts from the first call of Info.
	BusyTime, ReceiverLimited, SendBufferLimited time.Duration
	CwndLimited, PacingLimited                   time.Duration
}

// Limit is the reason why a connection sends no more.
type Limit uint8

// The limits.
const (
	// LimitIdle: there is nothing to send, and nothing in flight.
	LimitIdle Limit = iota
	// LimitApplication: all that was written is in flight, or waits for more
	// (Nagle).
	LimitApplication
	// LimitReceiver: the peer's window is full.
	LimitReceiver
	// LimitSendBuffer: all that the send buffer holds is in flight, and a
	// writer waits.
	LimitSendBuffer
	// LimitCwnd: the congestion window is full.
	LimitCwnd
	// LimitPacing: the next packet waits until the pacing rate allows it.
	LimitPacing

	limits
)

var limitNames = [...]string{"idle", "application", "receiver window", "send buffer", "congestion window", "pacing"}

func (l Limit) String() string {
	if int(l) < len(limitNames) {
		return limitNames[l]
	}
	return "invalid"
}

// limitTimes is for how long each limit held.
type limitTimes struct {
	at    int64 // since when last does
	last  Limit
	spent [limits]int64
}

// note notes that limit l holds at now.
func (t *limitTimes) note(l Limit, now int64) {
	if l != t.last {
		t.spent[t.last] += now - t.at
		t.last, t.at = l, now
	}
}

func (t *limitTimes) load(i *Info, now int64) {
	s := t.spent
	s[t.last] += now - t.at
	for l := LimitApplication; l < limits; l++ {
		i.BusyTime += time.Duration(s[l])
	}
	i.ReceiverLimited, i.SendBufferLimited = time.Duration(s[LimitReceiver]), time.Duration(s[LimitSendBuffer])
	i.CwndLimited, i.PacingLimited = time.Duration(s[LimitCwnd]), time.Duration(s[LimitPacing])
}

// limiter returns what keeps the connection from sending, after Output has sent
// what it could.
func (c *Conn) limiter() Limit {
	if !c.State().sending() {
		return LimitIdle
	}
	need := int(c.mss)
	if c.lost == c.retrans { // what is sent again fits the peer's window
		switch f := c.sndNext; {
		case f != ring.NoFrame:
			need = min(int(frameLen(c.h.Arena.Meta(f))), need)
			if int(int32(c.sndUna+c.sndWnd-c.sndNxt)) < need {
				return LimitReceiver
			}
		case c.flags.Load()&sharedWantWrite != 0 && !c.sendRoom():
			return LimitSendBuffer
		case c.sndUna == c.sndNxt && c.sndBox.Empty():
			return LimitIdle
		default:
			return LimitApplication
		}
	}
	if p := c.cc.pacer; p != nil && p.at != 0 {
		return LimitPacing
	}
	if pipe := c.pipe(); pipe > 0 && pipe+need > c.cwnd() {
		return LimitCwnd
	}
	return LimitApplication
}

var recoveryNames = [...]string{"open", "recovery", "loss"}

// Info returns the state of the connection. The first call begins the measurements
// that cost something: the delivery rate, and for how long each limit holds.
func (c *Conn) Info(now int64) Info {
	rate, r := c.sampleRate(), c.makeRare()
	if !c.has(markWatched) {
		c.set(markWatched)
		r.limit.last, r.limit.at = c.limiter(), now
	}
	if c.has(markDead) {
		// The connection ended when, as far as is known, nothing came or went any
		// more.
		r.limit.note(LimitIdle, max(c.lastRcv, c.lastSnd, r.limit.at))
	} else {
		r.limit.note(c.limiter(), now)
	}
	i := c.info(now)
	i.DeliveryRate, i.RateAppLimited = rate.rate(), rate.lastLimited
	r.limit.load(&i, now)
	return i
}

// info is what Info and Glance have in common. It changes nothing.
func (c *Conn) info(now int64) Info {
	r := c.rare
	_, used := c.sndUsed.load()
	_, unread := c.rcvUsed.load()
	flight := int(c.sndNxt - c.sndUna)
	if c.has(markFinQueued) && c.sndNext == ring.NoFrame && flight > 0 {
		flight-- // the FIN
	}
	i := Info{
		State: c.State(), Congestion: c.cc.Name(),
		SendMSS: int(c.mss), RecvMSS: int(c.rcvMSS), PathMTU: int(c.mtu),
		SACK: c.has(markSACK), Timestamps: c.has(markTS), SendScale: -1, RecvScale: -1,
		RTO: time.Duration(c.rto()), RTT: time.Duration(c.rtt.SRTT()),
		RTTVar: time.Duration(c.rtt.Var()), MinRTT: time.Duration(c.rtt.Min()),
		Cwnd: c.cwnd(), Ssthresh: int(c.cc.Ssthresh()),
		SendWindow: int(c.sndWnd), RecvWindow: int(c.openWindow()),
		Unsent: max(used-flight, 0), InFlight: flight, SACKed: int(c.sacked), Lost: int(c.lost), Resent: int(c.retrans),
		Unread: unread, Recovery: recoveryNames[c.recovery], Reordered: c.has(markReordered), Reordering: int(c.reordering),
		Retransmits: int(c.retries), Probes: int(c.persistProbes), KeepProbes: int(c.keepProbes), Backoff: int(c.backoff),
		TotalRetrans: int(r.retransSegs), DSACKs: int(r.dsackDups), BytesRetrans: r.retransBytes,
		BytesAcked: c.ackedBytes(), BytesDelivered: c.delivered - r.reneged, BytesReceived: c.received,
		SinceReceived: time.Duration(now - c.lastData), SegsIn: c.segsIn, SegsOut: c.segsOut,
		PacingRate: c.cc.PacingRate(), MaxPacingRate: c.MaxPacingRate(),
		Limit: c.limiter(),
	}
	i.ECN = c.ecn&ecnOn != 0
	i.FastOpened = c.has(markSYNData)
	if c.recovery == noRecovery && c.ecn&ecnReducing != 0 {
		i.Recovery = "cwr"
	}
	if i.State == SynSent || i.State == SynReceived {
		i.InFlight, i.Unsent = 0, used // the SYN is no payload
	}
	if c.has(markFinAcked) {
		i.BytesDelivered-- // nor is the FIN
		i.BytesAcked--
	}
	i.BytesSent = i.BytesAcked + uint64(i.InFlight) + i.BytesRetrans
	if c.has(markDead) {
		i.InFlight = 0
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
