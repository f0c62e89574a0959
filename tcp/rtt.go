package tcp

import "math"

const (
	initialRTO = 1e9   // RFC 6298 section 2.1
	minRTO     = 200e6 // Linux's; section 2.4 wants 1 s, which nobody keeps
	maxRTO     = 120e9 // Linux's; section 2.5 allows 60 s and more
	synLostRTO = 3e9   // section 5.7

	minRTTWindow = 300 // seconds that a least RTT stays valid
)

// RTT estimates the round-trip time and from it the retransmission timeout (RFC
// 6298), in nanoseconds. As in Linux the peak of the deviation within a round trip
// counts, so that many samples a round do not average it away (RFC 7323 appendix
// G), and it decays by a quarter a round.
type RTT struct {
	srtt  int64
	mdev  int64 // 4 times the smoothed mean deviation
	peak  int64 // of mdev in this round, at least lowest()
	rttv  int64 // what RTO adds to srtt
	least int64
	at    uint32 // when least was seen, seconds
	round uint32 // SND.NXT when the round began
	floor uint32 // what the route says instead of minRTO, ms; 0: nothing
}

// Init returns r to the state before any sample.
func (r *RTT) Init() { *r = RTT{least: math.MaxInt64, rttv: initialRTO} }

// lowest is the least that RTO adds to the round-trip time.
func (r *RTT) lowest() int64 {
	if r.floor > 0 {
		return int64(r.floor) * 1e6
	}
	return minRTO
}

// Valid reports whether there was a sample.
func (r *RTT) Valid() bool { return r.srtt != 0 }

// Sample takes a round trip of ns nanoseconds that ended now. Its segment was sent
// only once (Karn), or timestamps identify the transmission. una and nxt are
// SND.UNA after the acknowledgement, and SND.NXT.
func (r *RTT) Sample(ns, now int64, una, nxt uint32) {
	ns = max(ns, 1)
	if sec := uint32(now / 1e9); ns <= r.least || sec-r.at > minRTTWindow {
		r.least, r.at = ns, sec
	}
	if r.srtt == 0 {
		r.srtt = ns
		r.mdev = 2 * ns // section 2.2: RTTVAR is R/2
		r.rttv = max(r.mdev, r.lowest())
		r.peak = r.rttv
		r.round = nxt
		return
	}
	d := ns - r.srtt
	r.srtt = max(r.srtt+d/8, 1)
	if d < 0 {
		// A shorter round trip is no reason to wait longer: where its deviation
		// would raise the mean, it weighs an eighth.
		d = -d - r.mdev/4
		if d > 0 {
			d /= 8
		}
	} else {
		d -= r.mdev / 4
	}
	r.mdev += d
	if r.mdev > r.peak {
		r.peak = r.mdev
		r.rttv = max(r.rttv, r.peak)
	}
	if seqGT(una, r.round) {
		if r.peak < r.rttv {
			r.rttv -= (r.rttv - r.peak) / 4
		}
		r.round = nxt
		r.peak = r.lowest()
	}
}

// SYNTimedOut notes that a SYN was retransmitted. If the handshake gave no sample,
// data starts with a longer timeout (RFC 6298 section 5.7).
func (r *RTT) SYNTimedOut() {
	if r.srtt == 0 {
		r.rttv = synLostRTO
	}
}

// SRTT is the smoothed round-trip time, 0 before the first sample.
func (r *RTT) SRTT() int64 { return r.srtt }

// Var is the round trip's mean deviation.
func (r *RTT) Var() int64 { return r.mdev / 4 }

// Min is the least round-trip time of some minutes, 0 before the first
// sample.
func (r *RTT) Min() int64 {
	if r.srtt == 0 {
		return 0
	}
	return r.least
}

// RTO is the retransmission timeout, not backed off.
func (r *RTT) RTO() int64 { return min(r.srtt+r.rttv, maxRTO) }

// maxBackoff is how many doublings turn any timeout into maxRTO.
const maxBackoff = 10

// Backoff is the timeout after n expiries in a row (RFC 6298 section 5.5).
func (r *RTT) Backoff(n uint8) int64 { return min(r.RTO()<<min(n, maxBackoff), maxRTO) }
