package tcp

import "math"

const (
	maxCwnd     = 1 << 30 // as the largest window
	infSsthresh = math.MaxUint32
)

// Congestion controls how much a connection may have in flight. It holds the
// windows, in bytes, and the state of any algorithm; the algorithms have none
// of their own. Between EnterRecovery and ExitRecovery the caller steers cwnd
// (PRR, RFC 6937). It belongs to the holder of the stack lock.
type Congestion struct {
	mss            uint32
	cwnd, ssthresh uint32
	acked          uint32 // bytes acknowledged towards the next increase
	fresh          bool   // nothing was acknowledged yet
	undone         bool   // the saved state was used up, or never made
	index          uint8  // of the algorithm

	hystart hystart

	past  *ccPast // nil until it is needed
	bbr   *bbr    // nil where another congestion control was chosen
	pacer *pacer  // nil where packets are not paced
}

// ccPast is what a connection remembers that had congestion, or left slow
// start: few have.
type ccPast struct {
	cubic cubicState

	// As before the last reduction, for Undo.
	oldCwnd, oldSsthresh uint32
	oldCubic             cubicState
}

// remember returns the memory, which it makes on first use.
func (c *Congestion) remember() *ccPast {
	if c.past == nil {
		c.past = new(ccPast)
	}
	return c.past
}

// AckSample is what an acknowledgement tells.
type AckSample struct {
	Now    int64
	RTT    int64 // of this acknowledgement; 0: none
	MinRTT int64
	SRTT   int64
	// Acked is what it newly delivered, cumulatively or by SACK, each byte
	// counted once. Counting bytes, not acknowledgements, makes splitting
	// them worthless (RFC 3465).
	Acked    uint32
	Una, Nxt uint32 // SND.UNA afterwards, SND.NXT
	// Limited: the congestion window held data back, not the application or
	// the peer. Without, the window proves nothing and does not grow.
	Limited bool
}

// algorithm is what tells one congestion control from another.
type algorithm interface {
	name() string
	// start begins anew on a connection whose windows may be any.
	start(c *Congestion)
	// ack takes an acknowledgement outside of recovery.
	ack(c *Congestion, s *AckSample)
	// reduce returns the slow start threshold after congestion; ecn: it was
	// marked, not lost.
	reduce(c *Congestion, ecn bool) uint32
	// timeout: everything in flight is taken for lost.
	timeout(c *Congestion)
	// restart: something is sent, and nothing was in flight.
	restart(c *Congestion, now int64)
}

// The first is the default.
var algorithms = [...]algorithm{cubic{}, newReno{}, bbrControl{}}

// findAlgorithm returns the index of the algorithm.
func findAlgorithm(name string) (uint8, bool) {
	if name == "" {
		return 0, true
	}
	for i, a := range algorithms {
		if a.name() == name {
			return uint8(i), true
		}
	}
	return 0, false
}

func (c *Congestion) alg() algorithm { return algorithms[c.index] }

// CongestionNames returns the names of the algorithms, the default first.
func CongestionNames() []string {
	names := make([]string, len(algorithms))
	for i, a := range algorithms {
		names[i] = a.name()
	}
	return names
}

// ValidCongestion tells whether name is that of an algorithm, or empty for
// the default.
func ValidCongestion(name string) bool {
	_, ok := findAlgorithm(name)
	return ok
}

// Init prepares c for a connection whose segments carry mss bytes. A name
// that is not known gives the default.
func (c *Congestion) Init(name string, mss int) {
	index, _ := findAlgorithm(name)
	*c = Congestion{index: index, mss: uint32(max(mss, 1)), ssthresh: infSsthresh, fresh: true, undone: true}
	c.cwnd = c.initial()
	c.hystart.start()
	c.alg().start(c)
}

// Set changes the algorithm of a live connection; the windows stay. False if
// name is not known.
func (c *Congestion) Set(name string) bool {
	index, ok := findAlgorithm(name)
	if !ok {
		return false
	}
	if c.bbr != nil && index != c.index {
		c.bbr = nil
		c.dropPacer()
	}
	c.index, c.acked, c.undone = index, 0, true
	c.alg().start(c)
	return true
}

// Name is the name of the algorithm.
func (c *Congestion) Name() string { return c.alg().name() }

// initial is the initial window (RFC 6928 section 2).
func (c *Congestion) initial() uint32 {
	return min(10*c.mss, max(2*c.mss, 14600))
}

// SetMSS notes what a full segment carries now. The windows are bytes and
// stay, but for the initial one.
func (c *Congestion) SetMSS(mss int) {
	lost := c.fresh && c.cwnd < c.initial() // OnSYNLost
	old := c.mss
	c.mss = uint32(max(mss, 1))
	if p := c.past; p != nil && c.mss != old {
		by := float32(old) / float32(c.mss)
		p.cubic.rescale(by)
		p.oldCubic.rescale(by)
	}
	switch {
	case lost:
		c.cwnd = c.mss
	case c.fresh:
		c.cwnd = c.initial()
	}
	c.cwnd = max(c.cwnd, c.mss)
	c.ssthresh = max(c.ssthresh, 2*c.mss)
}

// OnSYNLost: a SYN or SYN-ACK had to be sent more than twice. The connection
// starts with one segment (RFC 6928 section 2, RFC 5681 section 3.1).
func (c *Congestion) OnSYNLost() {
	if c.fresh {
		c.cwnd = c.mss
	}
}

// Cwnd is the congestion window, at least one segment.
func (c *Congestion) Cwnd() uint32 { return c.cwnd }

// Ssthresh is the slow start threshold; math.MaxUint32 before the first loss.
func (c *Congestion) Ssthresh() uint32 { return c.ssthresh }

// InSlowStart tells whether the window grows exponentially.
func (c *Congestion) InSlowStart() bool { return c.cwnd < c.ssthresh }

// PacingRate is the rate to send at in bytes per second; 0: no pacing.
func (c *Congestion) PacingRate() uint64 {
	if c.pacer == nil {
		return 0
	}
	return c.pacer.rate
}

// SetCwnd sets the window while the caller steers it.
func (c *Congestion) SetCwnd(n uint32) { c.cwnd = min(max(n, c.mss), maxCwnd) }

// OnAck takes an acknowledgement that came outside of fast recovery; in the
// recovery after a timeout it is called too, that is slow start.
func (c *Congestion) OnAck(s *AckSample) {
	if s.Acked == 0 {
		return
	}
	c.fresh = false
	c.alg().ack(c, s)
}

// EnterRecovery: a loss was detected by SACK, duplicate acknowledgements or
// RACK (RFC 5681 section 3.2, step 2). Lowers ssthresh and leaves cwnd.
func (c *Congestion) EnterRecovery(now int64) {
	if c.bbr != nil {
		c.bbr.enterRecovery(c)
		return
	}
	c.save()
	c.cut(false)
}

// OnECN: the peer reports congestion marks, which mean what a loss does
// (RFC 3168 section 6.1.2). At most once per window of data.
func (c *Congestion) OnECN(now int64) {
	if c.bbr != nil {
		c.bbr.marked(c, c.cwnd)
		return
	}
	c.undone = true
	c.cut(true)
}

// ExitRecovery ends what EnterRecovery or OnECN began (RFC 5681 section 3.2,
// step 6).
func (c *Congestion) ExitRecovery(now int64) {
	if c.bbr != nil {
		c.bbr.exitRecovery(c)
		return
	}
	if c.ssthresh != infSsthresh { // a model that was given up leaves none
		c.SetCwnd(c.ssthresh)
	}
	c.acked = 0
}

// OnRTO: the retransmission timer expired (RFC 5681 section 3.1, equation 4,
// and RFC 6298 section 5). first tells that this loss was not yet answered by
// a reduction: ssthresh is lowered once for a loss, however often the timer
// expires.
func (c *Congestion) OnRTO(now int64, first bool) {
	if c.bbr != nil {
		c.bbr.timeout(c)
		return
	}
	if first {
		c.save()
		c.cut(false)
	}
	c.alg().timeout(c)
	c.cwnd = c.mss
	c.acked = 0
}

func (c *Congestion) cut(ecn bool) {
	c.fresh = false
	c.hystart.stop()
	c.ssthresh = min(max(c.alg().reduce(c, ecn), 2*c.mss), maxCwnd)
}

func (c *Congestion) save() {
	p := c.remember()
	p.oldCwnd, p.oldSsthresh, p.oldCubic = c.cwnd, c.ssthresh, p.cubic
	c.undone = false
}

// Undo takes the last reduction back: the retransmissions were spurious
// (RFC 9438 section 4.9, RFC 4015). The reduction is taken back once.
// False: it had been, or must not be.
func (c *Congestion) Undo(now int64) bool {
	if c.bbr != nil {
		c.bbr.spurious(c)
		return true
	}
	if c.undone {
		return false
	}
	c.undone = true
	p := c.past
	c.cwnd = max(c.cwnd, p.oldCwnd)
	c.ssthresh = max(c.ssthresh, p.oldSsthresh)
	p.cubic = p.oldCubic
	c.acked = 0
	return true
}

// KeepReduction has the last reduction stay, whatever is said against it
// later: it had a second reason.
func (c *Congestion) KeepReduction() { c.undone = true }

// OnIdle is called before sending after nothing was in flight for idle
// nanoseconds, more than rto: the window halves for each timeout down to the
// initial one (RFC 2861 section 3, RFC 5681 section 4.1).
func (c *Congestion) OnIdle(idle, rto int64) {
	if c.bbr != nil {
		return // it restarts at the rate of the path: modelRestart
	}
	restart := min(c.initial(), c.cwnd)
	if !c.fresh && c.ssthresh != infSsthresh {
		c.ssthresh = max(c.ssthresh, c.cwnd/4*3)
	}
	for n := idle; n > rto && c.cwnd > restart; n -= rto {
		c.cwnd /= 2
	}
	c.cwnd = max(c.cwnd, restart)
	c.acked = 0
}

// OnRestart is called before sending while nothing is in flight.
func (c *Congestion) OnRestart(now int64) {
	if c.past != nil {
		c.alg().restart(c, now)
	}
}

// OnUnused is called when for an RTO no more than used bytes of the window
// were: it moves half way towards that, and remembers in ssthresh what it was
// (RFC 2861 section 3.2).
func (c *Congestion) OnUnused(used uint32) {
	if c.bbr != nil {
		return
	}
	used = max(used, c.initial())
	if used >= c.cwnd {
		return
	}
	c.ssthresh = max(c.ssthresh, c.cwnd/4*3)
	c.cwnd = (c.cwnd + used) / 2
}

// slowStart grows the window by what was delivered (RFC 5681 section 3.1,
// RFC 3465 without its limit per acknowledgement: receivers that coalesce
// segments acknowledge dozens at once). It returns the bytes that are beyond
// the threshold.
func (c *Congestion) slowStart(s *AckSample) (rest uint32) {
	grow := min(s.Acked, c.ssthresh-c.cwnd)
	rest = s.Acked - grow
	if c.hystart.on() {
		grow = c.hystart.ack(c, s, grow)
	}
	c.SetCwnd(c.cwnd + grow)
	return rest
}

// addPerWindow grows the window by one segment per window of bytes
// acknowledged (RFC 5681 section 3.1, equation 2, counted as in RFC 3465
// section 2.1).
func (c *Congestion) addPerWindow(acked uint32) {
	c.acked += acked
	for c.acked >= c.cwnd {
		c.acked -= c.cwnd
		c.SetCwnd(c.cwnd + c.mss)
	}
}
