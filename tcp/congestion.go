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
	undone         bool   // the saved state was used up, or never saved
	index          uint8  // of the algorithm
	models         bool   // what the algorithm's models() returned
	segments       uint16 // of the initial window, as the route says; 0: nothing

	hystart hystart

	past  *ccPast // nil until it is needed
	bbr   *bbr    // nil where another algorithm was chosen
	pacer *pacer  // nil where packets are not paced
}

// ccPast has what a connection remembers of its congestion, or of leaving slow
// start. Few connections need it.
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

// AckSample describes an acknowledgement.
type AckSample struct {
	Now    int64
	RTT    int64 // of this acknowledgement; 0: none
	MinRTT int64
	SRTT   int64
	// Acked is how many bytes it newly acknowledged, cumulatively or by SACK, each
	// byte once. Counting bytes, not acknowledgements, makes splitting
	// acknowledgements worthless (RFC 3465).
	Acked    uint32
	Una, Nxt uint32 // SND.UNA afterwards, SND.NXT
	// Limited says that the congestion window held data back, not the application
	// or the peer. If it did not, nothing proves the window, and it does not grow.
	Limited bool
}

// algorithm is a congestion control: it answers events. An algorithm that only
// grows and shrinks a window is a windowLaw and embeds windowed, which answers most
// events (newreno.go). One that models the path answers all of them itself
// (bbr_control.go).
type algorithm interface {
	name() string
	// models reports whether the algorithm sets cwnd and the pacing rate from a
	// model, at each delivery. It does so in recovery too, where PRR steers cwnd
	// otherwise, and it gets delivery rate samples.
	models() bool
	// law returns the algorithm where it is a windowLaw, else nil.
	law() windowLaw
	// start begins anew on a connection whose windows may have any size; stop
	// forgets all.
	start(c *Congestion)
	stop(c *Congestion)
	// established says that the connection is established, or chose this algorithm
	// later. total is how many bytes were delivered, modulo 2^32.
	established(c *Congestion, total uint32, now, srtt int64)
	// ack takes an acknowledgement outside of recovery, for an algorithm without a
	// model. delivered takes any acknowledgement, for one with a model.
	ack(c *Congestion, s *AckSample)
	delivered(c *Congestion, d *delivery)
	// lost says that a frame was taken for lost. Only a model hears of single ones.
	lost(c *Congestion, l *loss)
	// limited says that cwnd held data back. Only a model hears of it.
	limited(c *Congestion)
	enterRecovery(c *Congestion)
	exitRecovery(c *Congestion)
	// marked says that the peer echoed a congestion mark.
	marked(c *Congestion, now int64)
	// timeout says that everything in flight is taken for lost. first: no reduction
	// has answered that loss yet.
	timeout(c *Congestion, first bool)
	// undo takes the last reduction back, and reports whether there was one.
	undo(c *Congestion) bool
	// restart says that something is sent while nothing was in flight. appLimited:
	// because the application had no data.
	restart(c *Congestion, now int64, appLimited bool)
	// idle says that nothing was in flight for longer than a timeout.
	idle(c *Congestion, idle, rto int64)
	// unused says that at most used bytes of the window were used for a timeout.
	unused(c *Congestion, used uint32)
	// pacingRate is the rate in bytes per second, 0 for none.
	pacingRate(c *Congestion, srtt int64) uint64
}

// delivery describes an acknowledgement to a model.
type delivery struct {
	*RateSample
	now      int64
	total    uint32 // delivered so far, modulo 2^32
	acked    uint32 // newly delivered
	inflight uint32 // after it
	srtt     int64
	sack     bool // C.has_selective_acks
	rate     float64
	limitApp bool // the model's answer: count the connection as limited by the application
}

// loss is a frame that was taken for lost, with what was in flight and lost
// when it was sent.
type loss struct {
	RateSample
	now      int64
	total    uint32 // delivered so far, modulo 2^32
	seq, end uint32
	sack     bool
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

// ValidCongestion reports whether name is that of an algorithm, or empty for
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
	c.models = c.alg().models()
	c.alg().start(c)
}

// Set changes the algorithm of a live connection; the windows stay. False if
// name is not known.
func (c *Congestion) Set(name string) bool {
	index, ok := findAlgorithm(name)
	if !ok {
		return false
	}
	if index != c.index {
		c.alg().stop(c)
	}
	c.index, c.acked, c.undone = index, 0, true
	c.models = c.alg().models()
	c.dropPacer()
	c.alg().start(c)
	return true
}

// Name is the name of the algorithm.
func (c *Congestion) Name() string { return c.alg().name() }

// initial is the initial window (RFC 6928 section 2).
func (c *Congestion) initial() uint32 {
	if c.segments > 0 {
		return min(uint32(c.segments)*c.mss, maxCwnd)
	}
	return min(10*c.mss, max(2*c.mss, 14600))
}

// setInitial sets the initial window of a connection that has sent nothing yet.
func (c *Congestion) setInitial(segments int) {
	c.segments = uint16(min(segments, maxSegments))
	c.cwnd = c.initial()
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

// OnSYNLost is called when a SYN or SYN-ACK had to be sent more than twice. The
// connection then starts with one segment (RFC 6928 section 2, RFC 5681 section
// 3.1).
func (c *Congestion) OnSYNLost() {
	if c.fresh {
		c.cwnd = c.mss
	}
}

// Cwnd is the congestion window, at least one segment.
func (c *Congestion) Cwnd() uint32 { return c.cwnd }

// Ssthresh is the slow start threshold; math.MaxUint32 before the first loss.
func (c *Congestion) Ssthresh() uint32 { return c.ssthresh }

// InSlowStart reports whether the window grows exponentially.
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

// OnAck takes an acknowledgement that came outside of fast recovery. After a
// timeout it is called in recovery too: that is slow start.
func (c *Congestion) OnAck(s *AckSample) {
	if s.Acked == 0 {
		return
	}
	c.fresh = false
	c.alg().ack(c, s)
}

// OnEstablished is called when the connection is established, or chose the
// algorithm later.
func (c *Congestion) OnEstablished(total uint32, now, srtt int64) {
	c.alg().established(c, total, now, srtt)
}

// EnterRecovery is called when SACK, duplicate acknowledgements or RACK detected a
// loss (RFC 5681 section 3.2, step 2). It lowers ssthresh and leaves cwnd.
func (c *Congestion) EnterRecovery() { c.alg().enterRecovery(c) }

// OnECN is called when the peer reports congestion marks, which mean what a loss
// does (RFC 3168 section 6.1.2). At most once per window of data.
func (c *Congestion) OnECN(now int64) { c.alg().marked(c, now) }

// ExitRecovery ends what EnterRecovery or OnECN began (RFC 5681 section 3.2,
// step 6).
func (c *Congestion) ExitRecovery() { c.alg().exitRecovery(c) }

// OnRTO is called when the retransmission timer expired (RFC 5681 section 3.1,
// equation 4, and RFC 6298 section 5). first: no reduction has answered this loss
// yet. ssthresh is lowered once for a loss, however often the timer expires.
func (c *Congestion) OnRTO(first bool) { c.alg().timeout(c, first) }

// Undo takes the last reduction back: the retransmissions were spurious
// (RFC 9438 section 4.9, RFC 4015). It returns false where the reduction was
// taken back before, or must not be.
func (c *Congestion) Undo() bool { return c.alg().undo(c) }

// KeepReduction makes the last reduction final: it had a second reason, so Undo
// must not take it back.
func (c *Congestion) KeepReduction() { c.undone = true }

// OnIdle is called before sending after nothing was in flight for idle
// nanoseconds, more than rto.
func (c *Congestion) OnIdle(idle, rto int64) { c.alg().idle(c, idle, rto) }

// OnRestart is called before sending while nothing is in flight. appLimited:
// because the application had no data. A window without ccPast ignores it.
func (c *Congestion) OnRestart(now int64, appLimited bool) {
	c.alg().restart(c, now, appLimited)
}

// OnUnused is called when for an RTO no more than used bytes of the window
// were.
func (c *Congestion) OnUnused(used uint32) { c.alg().unused(c, used) }
