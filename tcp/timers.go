package tcp

import (
	"math"
	"syscall"
	"time"

	"github.com/onload-go/onload/ring"
)

const (
	connectRetries = 6  // as Linux: ETIMEDOUT after 127 s
	dataRetries    = 15 // as Linux: some 15 minutes
	orphanRetries  = 8  // of a connection that the user closed
	finWait2Limit  = int64(60 * time.Second)
	txRetry        = int64(10 * time.Millisecond) // after the device refused a SYN
	// A device that takes nothing is asked again (as Linux). The connection ends
	// when retransmissions would have ended it.
	refusedRetry = int64(500 * time.Millisecond)
	refusedLimit = int64(15 * time.Minute)
)

// Deadline returns when Expire is to be called next, math.MaxInt64 for never.
func (c *Conn) Deadline() int64 {
	// Compare times less one, unsigned: then a timer that is off is later than all
	// others.
	d := min(uint64(c.rtoAt)-1, uint64(c.rackAt)-1, uint64(c.ackAt)-1, uint64(c.keepAt)-1, uint64(c.retryAt)-1)
	if p := c.cc.pacer; p != nil {
		d = min(d, uint64(p.at)-1)
	}
	return int64(min(d, math.MaxInt64-1) + 1)
}

// Expire runs the timers that are due, and sends what they call for.
func (c *Conn) Expire(now int64) {
	if c.has(markDead) {
		return
	}
	if due(&c.rackAt, now) {
		c.expireRack(now)
	}
	if due(&c.rtoAt, now) {
		c.expireRTO(now)
	}
	if due(&c.keepAt, now) {
		c.expireKeep(now)
	}
	if due(&c.ackAt, now) {
		// Nobody answered in time: this is no dialogue.
		c.clear(markPingPong)
		c.h.Stats.DelayedACKs.Add(1)
		c.set(markAckNow)
	}
	if due(&c.retryAt, now) {
		c.expireRetry(now)
	}
	if p := c.cc.pacer; p != nil {
		p.expire(now)
	}
	if !c.has(markDead) {
		c.Output(now)
	}
}

// due reports whether timer t ran out, and stops it.
func due(t *int64, now int64) bool {
	if *t == 0 || *t > now {
		return false
	}
	*t = 0
	return true
}

// rto is the retransmission timeout, backed off.
func (c *Conn) rto() int64 { return c.rtt.Backoff(c.backoff + c.kept) }

// armRTO starts the retransmission timer (RFC 6298 section 5).
func (c *Conn) armRTO(now int64) {
	c.clear(markPersist | markPTO)
	c.rtoAt = c.capped(now+c.rto(), now)
}

// armSent sets the retransmission timer after new data was sent.
func (c *Conn) armSent(now int64) {
	if c.rare.fo != nil {
		return // the SYN-ACK comes first
	}
	if !c.armTLP(false, now) && (c.rtoAt == 0 || c.has(markPersist)) {
		c.armRTO(now)
	}
}

// rearm sets the retransmission timer after an acknowledgement. newer: it moved
// SND.UNA (RFC 6298 section 5.3).
func (c *Conn) rearm(newer bool, now int64) {
	switch {
	case newer:
		c.rtoAt = 0
		c.clear(markPTO)
		if c.sndUna != c.sndNxt && !c.armTLP(true, now) {
			c.armRTO(now)
		}
	case c.has(markPTO) && (c.sacked != 0 || c.recovery != noRecovery):
		c.stopTLP(now)
	}
}

// capped moves a retransmission up to the end of the user timeout, so that it
// is noticed in time.
func (c *Conn) capped(at, now int64) int64 {
	if c.userLimit == 0 {
		return at
	}
	return max(min(at, c.stuckAt+int64(c.userLimit)*1e6), now+1)
}

// userTimedOut reports whether the user timeout has passed since the peer last
// made progress (RFC 5482, as TCP_USER_TIMEOUT).
func (c *Conn) userTimedOut(now int64) bool {
	return c.userLimit != 0 && now-c.stuckAt >= int64(c.userLimit)*1e6
}

func (c *Conn) expireRTO(now int64) {
	switch st := c.State(); {
	case st == SynSent || st == SynReceived:
		c.expireSYN(now)
	case c.has(markPersist):
		c.expirePersist(now)
	case c.has(markPTO):
		c.expireTLP(now)
	case c.sndUna != c.sndNxt:
		c.expireData(now)
	}
}

func (c *Conn) expireSYN(now int64) {
	if c.Deferred() {
		c.OpenDeferred(now)
		return
	}
	if c.retries >= c.synLimit() || c.userTimedOut(now) {
		c.timedOut()
		return
	}
	if c.segsOut == 0 && c.State() == SynSent {
		c.firstSYN(now)
		return
	}
	c.backoff++
	if !c.sendSYN(now) {
		c.backoff--
		c.refusedSYN(now)
		return
	}
	c.retries++
	c.h.Stats.TCPTimeouts.Add(1)
	c.h.Stats.TCPSynRetrans.Add(1)
	if c.retries > 1 {
		c.cc.OnSYNLost()
	}
	c.armRTO(now)
}

// refusedSYN is called when the device did not take a SYN. The device is asked
// again soon; the connection fails when it would with a silent peer.
func (c *Conn) refusedSYN(now int64) {
	if now-c.stuckAt >= 2*c.rtt.Backoff(c.synLimit()) {
		c.timedOut()
		return
	}
	c.rtoAt = c.capped(now+txRetry, now)
}

// synLimit is how often a SYN is sent again.
func (c *Conn) synLimit() uint8 {
	if c.synRetries > 0 && c.State() == SynSent {
		return c.synRetries
	}
	return connectRetries
}

// expireData handles an RTO in which nothing was acknowledged.
func (c *Conn) expireData(now int64) {
	if c.costly(now-c.lastRcv > 2*maxRTO) {
		c.abortOrphan(now)
		return
	}
	limit := uint8(dataRetries)
	if c.has(markOrphan) {
		limit = orphanRetries
	}
	if c.userTimedOut(now) || c.userLimit == 0 && c.retries >= limit {
		c.abortTimeout(now)
		return
	}
	c.h.Stats.TCPTimeouts.Add(1)
	c.setStuck(true)
	if c.retries >= mtuTimeouts {
		c.mtuBlackHole(now)
	}
	c.timeout(now)
	// A peer that took its window back, and answers, is alive (as Linux).
	if c.sndWnd > 0 || c.has(markOrphan) || now-c.lastRcv > maxRTO {
		c.retries++
	}
	if c.backoff < 31 {
		c.backoff++
	}
	c.armRTO(now)
}

// armPersist starts the zero-window probe timer where data waits and nothing in
// flight would open the window by its acknowledgement, or end the connection by its
// timer (RFC 9293 section 3.8.6.1).
func (c *Conn) armPersist(now int64) {
	if c.sndNext == ring.NoFrame || c.sndUna != c.sndNxt || c.rtoAt != 0 {
		return
	}
	if p := c.cc.pacer; p != nil && p.at != 0 {
		return // our own rate holds the data back
	}
	c.set(markPersist)
	c.clear(markPTO)
	c.stuckAt = now
	c.rtoAt = c.capped(now+c.rto(), now)
}

func (c *Conn) expirePersist(now int64) {
	if c.sndNext == ring.NoFrame {
		c.clear(markPersist)
		return
	}
	if c.costly(true) {
		c.abortOrphan(now)
		return
	}
	limit := uint8(dataRetries)
	if c.has(markOrphan) {
		// A peer that answers but never reads may not hold an orphan for ever.
		limit = orphanRetries
		if c.backoff >= orphanRetries {
			limit = 0
		}
	}
	// With an open window the device does not take the data.
	over := c.persistProbes >= limit
	if c.sndWnd > 0 {
		over = now-c.stuckAt >= refusedLimit
	}
	if c.userTimedOut(now) || c.userLimit == 0 && over {
		c.abortTimeout(now)
		return
	}
	// The window is open, but too small for silly window avoidance: override that
	// (RFC 9293 section 3.8.6.2.1).
	if c.sndWnd > 0 {
		c.clear(markPersist)
		if !c.forceOut(now) {
			c.set(markPersist)
			c.persistProbes = min(c.persistProbes, 254) + 1
			c.rtoAt = now + refusedRetry
		}
		return
	}
	if !c.sendProbe(now) {
		c.rtoAt = c.capped(now+txRetry, now)
		return
	}
	c.h.Stats.TCPWinProbe.Add(1)
	c.persistProbes++
	if c.backoff < 31 {
		c.backoff++
	}
	c.rtoAt = c.capped(now+c.rto(), now)
}

// forceOut sends one segment as large as the window allows.
func (c *Conn) forceOut(now int64) bool {
	f := c.sndNext
	m := c.h.Arena.Meta(f)
	count, fin := 1, m.Flags&frameFIN != 0
	if fin {
		count = 0
	} else if n := min(c.sndWnd, uint32(c.mss)); uint32(m.Len) > n && !c.split(f, int(n)) {
		return false
	}
	if !c.transmit(f, count, int(m.Len), fin, now) {
		return false
	}
	c.armSent(now)
	return true
}

func (c *Conn) expireRack(now int64) {
	if c.sndUna == c.sndNxt {
		return
	}
	if c.detectLoss(now) && c.recovery == noRecovery {
		c.enterRecovery(now)
	}
	if c.recovery == inRecovery {
		c.prr(0, false)
	}
}

// armKeepAlive starts or stops keepalive.
func (c *Conn) armKeepAlive(now int64) {
	st := c.State()
	if c.has(markOrphan) && st == FinWait2 {
		return // the timer serves FIN-WAIT-2
	}
	c.keepAt = 0
	if c.has(markKeepAlive) && st >= Established {
		c.keepAt = now + int64(c.keepIdle)*1e6
	}
}

// armFinWait2 bounds the wait for the FIN of a peer whose user here has closed
// (TCP_LINGER2).
func (c *Conn) armFinWait2(now int64) {
	switch ms := c.rare.finWait2; {
	case !c.has(markOrphan):
	case ms < 0:
		c.h.Stats.TCPAbortOnLinger.Add(1)
		c.sendReset(now)
		c.done(0)
	case ms > 0:
		c.keepAt = now + int64(ms)*1e6
	default:
		c.keepAt = now + finWait2Limit
	}
}

// expireKeep is RFC 9293 section 3.8.4, as Linux does it.
func (c *Conn) expireKeep(now int64) {
	if c.has(markOrphan) && c.State() == FinWait2 {
		c.h.Stats.TCPAbortOnLinger.Add(1)
		c.done(0)
		return
	}
	if !c.has(markKeepAlive) {
		return
	}
	idle, every := int64(c.keepIdle)*1e6, int64(c.keepEvery)*1e6
	silent := now - c.lastRcv
	if c.sndHead != ring.NoFrame {
		c.keepAt = now + idle // retransmission or the persist timer watches the peer
		return
	}
	if silent < idle {
		c.keepAt = c.lastRcv + idle
		return
	}
	if c.userLimit == 0 && c.keepProbes >= c.keepCount ||
		c.userLimit != 0 && c.keepProbes > 0 && silent >= int64(c.userLimit)*1e6 {
		c.abortTimeout(now)
		return
	}
	if c.sendProbe(now) {
		c.keepProbes++
		c.h.Stats.TCPKeepAlive.Add(1)
		c.keepAt = now + every
	} else {
		c.keepAt = now + txRetry
	}
}

// abortTimeout gives up on a peer that does not answer.
func (c *Conn) abortTimeout(now int64) {
	c.h.Stats.TCPAbortOnTimeout.Add(1)
	c.sendReset(now)
	c.timedOut()
}

// timedOut ends the connection. If an ICMP error came, that is the better reason.
func (c *Conn) timedOut() {
	if c.softErr != 0 {
		c.done(syscall.Errno(c.softErr))
		return
	}
	c.done(syscall.ETIMEDOUT)
}
