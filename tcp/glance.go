package tcp

import "time"

// TimerKind is what a connection waits for, in ss's words.
type TimerKind uint8

// The kinds.
const (
	TimerOff       TimerKind = iota
	TimerOn                  // retransmission, tail loss probe or reordering
	TimerKeepalive           // or the end of FIN-WAIT-2
	TimerTimeWait
	TimerPersist // zero-window probe
)

var timerNames = [...]string{"off", "on", "keepalive", "timewait", "persist"}

// String is ss's word.
func (k TimerKind) String() string {
	if int(k) < len(timerNames) {
		return timerNames[k]
	}
	return "unknown"
}

// Timer is what a connection waits for, and for how much longer.
type Timer struct {
	Kind  TimerKind
	Left  time.Duration
	Tries int // without an answer so far
}

// Glance is Info for an onlooker: it begins no measurement, so that the connection costs
// what it did. The delivery rate and the times of limits are 0 unless Info was called.
func (c *Conn) Glance(now int64) (Info, Timer) {
	i := c.info(now)
	if rate := c.rare.rate; rate != nil {
		i.DeliveryRate, i.RateAppLimited = rate.rate(), rate.lastLimited
	}
	if c.has(markWatched) {
		times := c.rare.limit // load changes nothing but i
		times.load(&i, now)
	}
	return i, c.timer(now)
}

// timer is the timer that ss shows, as the kernel chooses it (inet_csk_diag_fill of
// net/ipv4/inet_diag.c).
func (c *Conn) timer(now int64) Timer {
	t := Timer{Kind: TimerOn, Tries: int(c.retries)}
	at := c.rtoAt
	switch {
	case c.has(markDead):
		return Timer{}
	case c.rackAt != 0 && (at == 0 || c.rackAt < at):
		at = c.rackAt
	case at != 0 && c.has(markPersist):
		t.Kind, t.Tries = TimerPersist, int(c.persistProbes)
	case at == 0 && c.keepAt != 0:
		at, t.Kind, t.Tries = c.keepAt, TimerKeepalive, int(c.keepProbes)
	}
	if at == 0 {
		return Timer{}
	}
	t.Left = time.Duration(max(at-now, 0))
	return t
}

// Buffers are the sizes of the receive and send buffers, in bytes.
func (c *Conn) Buffers() (receive, send int) {
	return int(c.rcvLimit.Load()), int(c.sndLimit.Load())
}
