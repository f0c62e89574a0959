package tcp

import (
	"syscall"

	"github.com/onload-go/onload/ip"
	"github.com/onload-go/onload/ring"
)

// Least path MTUs that an ICMP message may set: RFC 8201 section 4 for IPv6.
const (
	minMTU4 = ip.MinPathMTU4
	minMTU6 = 1280
)

// ICMP takes an error message that quotes a segment of ours. The quoted data must
// be in flight (RFC 5927 section 4). Errors are fatal only while connecting
// (section 5.2).
func (c *Conn) ICMP(e *ip.ICMPError, now int64) {
	if c.has(markDead) {
		return
	}
	if !e.HasSeq || !seqIn(e.Seq, c.sndUna, c.sndNxt) {
		c.h.Stats.OutOfWindowIcmps.Add(1)
		return
	}
	errno, _ := e.Errno()
	if errno == syscall.EMSGSIZE {
		c.lowerMTU(e.MTU, now)
		return
	}
	c.Unreachable(errno, now)
}

// Unreachable notes that errno keeps us from reaching the peer. While connecting it
// is fatal; later it becomes the error of a timeout (RFC 9293 section 3.9.2.2).
func (c *Conn) Unreachable(errno syscall.Errno, _ int64) {
	if c.has(markDead) || errno == 0 {
		return
	}
	// A connection that Fast Open made and that was accepted is the user's already
	// (as Linux).
	if st := c.State(); st == SynSent || st == SynReceived && c.flags.Load()&sharedTaken == 0 {
		c.done(errno)
	} else {
		c.softErr = uint16(errno)
	}
}

func (c *Conn) leastMTU() int {
	if c.pair.Local.Is4() {
		return minMTU4
	}
	return minMTU6
}

func (c *Conn) lowerMTU(mtu int, now int64) {
	mtu = max(mtu, c.leastMTU())
	if mtu < int(c.mtu) {
		c.h.Stats.TCPPathMTULowered.Add(1)
		most := c.mostMTU()
		c.SetPathMTU(mtu, now)
		// Routes change, and anybody can forge the message (RFC 5927 section 7). So
		// a larger MTU is tried again after some time (RFC 1191 section 6.3, RFC
		// 8201 section 4).
		c.makeRare().search = &mtuSearch{low: mtu, high: most, most: most, at: now + mtuAgain}
	}
}

// SetPathMTU sets the largest IP packet of the path. Data in flight that is larger
// is sent again at once, in smaller segments. That loss says nothing about
// congestion (RFC 8201 section 5.4).
func (c *Conn) SetPathMTU(mtu int, now int64) {
	mtu = min(max(mtu, minMTU4), 0xffff)
	if mtu == int(c.mtu) || c.has(markDead) {
		return
	}
	c.endMTUSearch() // now it is known
	if !c.setMTU(mtu) {
		if c.synData() > 0 {
			c.synTooLarge(now)
		}
		return
	}
	switch {
	case c.lost == 0:
	case c.recovery == noRecovery:
		c.recovery = inLoss // no reduction: it was no congestion
		c.beginEpisode(now)
	default:
		// The end of recovery must not treat it as congestion either, and large
		// segments that arrive after all do not make the loss spurious (as Linux).
		c.recoverSeq = c.sndNxt
		c.clear(markUndo | markFRTO | markFRTONew)
	}
	c.Output(now)
}

// setMTU sets the size of packets, and marks what is in flight and larger as
// lost. It reports whether there may be such.
func (c *Conn) setMTU(mtu int) (smaller bool) {
	c.mtu = uint16(mtu)
	old := c.mss
	c.updateMSS()
	c.cc.SetMSS(int(c.mss))
	if c.mss >= old || !c.State().sending() {
		return false
	}
	// Lose every frame: a packet may have consisted of several.
	for f := c.sndHead; f != ring.NoFrame && f != c.sndNext; f = c.h.Arena.Meta(f).Next {
		c.lose(f)
	}
	return true
}
