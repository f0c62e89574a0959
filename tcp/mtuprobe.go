package tcp

import (
	"github.com/onload-go/onload/ring"
)

// MTUProbing says when a connection searches for the path's MTU itself, by segments
// larger than it would send otherwise (RFC 4821, RFC 8899), instead of relying on
// routers to report it.
type MTUProbing uint8

const (
	// MTUProbeBlackHole searches when large segments seem to vanish (Linux's
	// tcp_mtu_probing=1).
	MTUProbeBlackHole MTUProbing = iota
	// MTUProbeAlways searches from the start (2).
	MTUProbeAlways
	// MTUProbeOff never searches (0).
	MTUProbeOff
)

const (
	baseMTU4     = 1064  // Linux's tcp_base_mss and headers
	baseMTU6     = 1280  // RFC 8200 section 5: every path carries it
	mtuStep      = 8     // the search ends when no more is to be gained
	mtuAgain     = 600e9 // ns until a larger MTU is tried again, RFC 8899 section 5.1.1
	mtuTimeouts  = 2     // in a row, before the next is taken for a black hole
	mtuProbeCwnd = 11    // segments: fast recovery then repairs a lost probe, as Linux
	mtuBehind    = 4     // segments that follow a probe, and show its loss
)

// mtuSearch is a search for the path's MTU. Sizes are those of IP packets.
type mtuSearch struct {
	low, high  int // low is known to pass, above high nothing does
	most       int // what high began with
	size       int // of the probe in flight; 0: there is none
	start, end uint32
	at         int64 // when the next probe may go out
}

func (c *Conn) baseMTU() int {
	if c.pair.Local.Is4() {
		return baseMTU4
	}
	return baseMTU6
}

// startMTUSearch begins at low. false: there is nothing to search.
func (c *Conn) startMTUSearch(low int, now int64) bool {
	if low >= int(c.mtu) {
		return false
	}
	most := c.mostMTU()
	high := most
	if p := c.rare.search; p != nil && now < p.at {
		high = int(c.mtu) // a recent report of a router counts (RFC 8201 section 4)
	}
	c.makeRare().search = &mtuSearch{low: low, high: high, most: most, at: now}
	c.setMTU(low)
	return true
}

// mostMTU is the path's MTU as it was before any search.
func (c *Conn) mostMTU() int {
	if p := c.rare.search; p != nil {
		return p.most
	}
	return int(c.mtu)
}

func (c *Conn) endMTUSearch() {
	if c.rare.search != nil {
		c.makeRare().search = nil
	}
}

// mtuBlackHole is called when the retransmission timer has expired several times in
// a row. If large segments were sent, they may be what vanishes (RFC 8899 section
// 4.3), so the following ones are small. A second time they get even smaller.
func (c *Conn) mtuBlackHole(now int64) {
	low := c.baseMTU()
	if c.rare.search != nil && int(c.mtu) <= low {
		low = minMTU4
	}
	large := low - c.ipHeaderLen() - c.headerLen()
	if c.has(markMTUOff) || low < c.leastMTU() || int(c.sndNxt-c.sndUna) <= large || int(c.mss) <= large {
		return
	}
	if c.startMTUSearch(low, now) {
		// Do not grow again at once: the path may have been dead altogether.
		c.rare.search.at = now + c.rtt.RTO()
	}
}

// probeMTU sends a probe if the search wants one and its loss would do no harm (RFC
// 4821 section 7.4).
func (c *Conn) probeMTU(now int64) {
	p := c.rare.search
	if p.size != 0 || now < p.at || c.recovery != noRecovery {
		return
	}
	if c.has(markMTUOff) {
		c.endMTUSearch() // a router will report it again
		c.setMTU(p.most)
		return
	}
	hl := c.ipHeaderLen() + c.headerLen()
	// A probe is no larger than the peer accepts, either (RFC 9293 section 3.7.1).
	p.high = min(p.high, c.h.Arena.FrameSize()-ring.Headroom+hl, int(c.peerMSS)+c.ipHeaderLen()+headerSize)
	if p.high-p.low < mtuStep {
		p.at, p.high = now+mtuAgain, p.most
		return
	}
	size := (p.low + p.high + 1) / 2
	n, mss := size-hl, int(c.mss)
	_, used := c.sndUsed.load()
	need := n + mtuBehind*mss
	if used-int(c.sndNxt-c.sndUna) < need || int(int32(c.sndUna+c.sndWnd-c.sndNxt)) < need ||
		c.cwnd() < mtuProbeCwnd*mss || c.pipe()+n > c.cwnd() || !c.fill(c.sndNext, n) {
		return
	}
	seq := c.sndNxt
	c.mss = uint16(n) // for once
	ok := c.transmit(c.sndNext, 1, n, false, now)
	c.mss = uint16(mss)
	if ok {
		p.size, p.start, p.end = size, seq, seq+uint32(n)
	}
}

// fill fills the unsent frame f up to n bytes, from the frames behind it.
func (c *Conn) fill(f ring.Frame, n int) bool {
	a := c.h.Arena
	m := a.Meta(f)
	if m.Flags&frameFIN != 0 || int(m.Off)+n > a.FrameSize() {
		return false
	}
	if int(m.Len) > n {
		return c.split(f, n)
	}
	for int(m.Len) < n {
		g := m.Next
		if g == ring.NoFrame {
			return false
		}
		k := a.Meta(g)
		if k.Flags&frameFIN != 0 {
			return false
		}
		took := uint16(copy(a.Bytes(f)[m.Off+m.Len:int(m.Off)+n], a.Bytes(g)[k.Off:k.Off+k.Len]))
		m.Len += took
		c.sum(f, m)
		k.Off, k.Len, k.Seq = k.Off+took, k.Len-took, k.Seq+uint32(took)
		if k.Len > 0 {
			c.sum(g, k)
			continue
		}
		m.Next = k.Next
		if k.Next == ring.NoFrame {
			c.sndTail = f
		} else {
			a.Meta(k.Next).Prev = f
		}
		c.sndUsed.add(-1, 0)
		c.h.Cache.Free(g)
	}
	return true
}

// mtuProbeAcked is called when SND.UNA moved. If the probe was never sent again, it
// has passed.
func (c *Conn) mtuProbeAcked(now int64) {
	p := c.rare.search
	if p.size == 0 || seqLT(c.sndUna, p.end) {
		return
	}
	c.h.Stats.TCPMTUPSuccess.Add(1)
	p.low, p.size, p.at = p.size, 0, now
	c.setMTU(p.low)
}

// mtuProbeResent is called when the data at seq is sent again. If that is the
// probe, packets of its size do not pass.
func (c *Conn) mtuProbeResent(seq uint32) {
	p := c.rare.search
	if p.size != 0 && seqIn(seq, p.start, p.end) {
		c.h.Stats.TCPMTUPFail.Add(1)
		p.high, p.size = p.size-1, 0
	}
}

// onlyMTUProbeLost reports whether a probe is the only loss, which says nothing
// about congestion (RFC 4821 section 7.6.1).
func (c *Conn) onlyMTUProbeLost() bool {
	p := c.rare.search
	return p != nil && p.size != 0 && c.sndUna == p.start && c.lost == p.end-p.start &&
		c.h.Arena.Meta(c.sndHead).Flags&frameLost != 0
}
