package tcp

import (
	"github.com/onload-go/onload/ip"
	"github.com/onload-go/onload/ring"
)

// Output takes the data that Write left. It sends all that the peer's window, the
// congestion window and Nagle allow, and an acknowledgement if one is due. more
// says that Transmit refused a packet: Output is to be called again when there is
// room.
//
// The owner calls Output once after everything that it did to c in a turn: Input,
// Write, settings. CloseWrite, Close, Expire, ICMP and SetPathMTU call it
// themselves, because their packets must leave before they return. The owner calls
// it after those too, to learn of a full device; nothing is sent twice.
func (c *Conn) Output(now int64) (more bool) {
	c.pull()
	if c.has(markDead) {
		return false
	}
	switch st := c.State(); {
	case st.sending() || st == SynReceived && c.halfOpen():
		more = !c.sendData(now)
	case st == SynSent && c.Deferred():
		if c.sndHead != ring.NoFrame {
			c.OpenDeferred(now)
		}
		return false
	case st < Established:
		return false
	}
	if c.has(markWatched) {
		c.rare.limit.note(c.limiter(), now)
	}
	// The window is published before the acknowledgement leaves, so that a
	// concurrent reader sees how small a window the acknowledgement announces.
	if c.publishWindow() && c.worthUpdate(c.openWindow()) {
		// The reader had read before it could see a small window.
		c.set(markAckNow)
	}
	// Data carries no SACK blocks, so a duplicate is reported in a segment of its
	// own (RFC 2883 section 4).
	if !more && c.mark&(markAckNow|markDSACK) != 0 {
		more = !c.sendAck(now)
	}
	c.publishWindow()
	c.checkStarved(more, now)
	return more
}

// sendData sends retransmissions first, then new data. false: Transmit refused, or
// no frame was free.
func (c *Conn) sendData(now int64) bool {
	if c.has(markFinWanted) && !c.has(markFinQueued) && c.rare.fo == nil && !c.queueFIN() {
		return false
	}
	if c.has(markFRTONew) && !c.sendFRTO(now) {
		return false
	}
	if c.lost > c.retrans && !c.has(markFRTONew) && !c.sendLost(now) {
		return false
	}
	if c.sndNext != ring.NoFrame {
		before := c.sndNxt
		if c.rare.search != nil {
			c.probeMTU(now)
		}
		ok := c.sendNew(now)
		if c.sndNxt != before {
			c.armSent(now)
			c.noteFlight()
		}
		if !ok {
			c.armPersist(now) // so that a device that takes nothing for ever is noticed
			return false
		}
	}
	if c.recovery == inRecovery && c.sndUna != c.sndNxt && !c.rescue(now) {
		return false
	}
	if c.rare.rate != nil && c.nearlyEmpty() {
		c.checkAppLimited()
	}
	c.armPersist(now)
	return true
}

// queueFIN puts the FIN behind the written data.
func (c *Conn) queueFIN() bool {
	f, ok := c.h.Cache.Alloc()
	if !ok {
		return false
	}
	m := c.h.Arena.Meta(f)
	m.Off, m.Len, m.Sum, m.Flags = ring.Headroom, 0, 0, frameFIN
	c.append(f)
	c.set(markFinQueued)
	return true
}

// pipe is RFC 6675's estimate of the bytes in the network.
func (c *Conn) pipe() int {
	return int(c.sndNxt-c.sndUna) - int(c.sacked) - int(c.lost) + int(c.retrans) - int(c.dupSacked)
}

// packetRoom returns how many payload bytes a new packet may have where cwnd allows
// quota bytes.
func (c *Conn) packetRoom(quota int) int {
	if c.tso == 0 || quota < 2*int(c.mss) {
		return int(c.mss)
	}
	return c.largeRoom(quota)
}

func (c *Conn) largeRoom(quota int) int {
	mss := int(c.mss)
	if p := c.cc.pacer; p != nil {
		quota = min(quota, p.quantum(mss))
	}
	// Two packets at least share the window, so that the acknowledgement of one
	// comes while the other is on its way (as Linux).
	most := min(int(c.tso)-c.ipHeaderLen()-c.headerLen(), quota, max(c.cwnd()/2, mss), c.autosize())
	return max(most/mss*mss, mss)
}

// sendNew sends data for the first time.
func (c *Conn) sendNew(now int64) bool {
	a := c.h.Arena
	if c.sndWnd > 0 {
		c.restartAfterIdle(now)
	}
	before := c.sndNxt
	for c.sndNext != ring.NoFrame {
		wnd := int(int32(c.sndUna + c.sndWnd - c.sndNxt))
		pipe, cwnd := c.pipe(), c.cwnd()
		room := c.packetRoom(cwnd - pipe)
		count, bytes, fin := 0, 0, false
		f := c.sndNext
		for f != ring.NoFrame {
			m := a.Meta(f)
			if m.Flags&frameFIN != 0 {
				if fin = bytes < wnd; fin {
					f = m.Next
				}
				break
			}
			n := bytes + int(m.Len)
			most := c.h.MaxFrags
			if n > int(c.mss) {
				most = c.h.TSOFrags
			}
			if n > min(room, wnd) || count >= most {
				break
			}
			count, bytes, f = count+1, n, m.Next
		}
		if count == 0 && !fin {
			// The first frame does not fit whole. Cut it if it is above the MSS, or
			// if the part that the window allows is worth a packet: the sender's
			// silly window avoidance (RFC 9293 section 3.8.6.2.1).
			m := a.Meta(c.sndNext)
			cut := min(room, wnd)
			if m.Flags&frameFIN != 0 || cut <= 0 || cut < int(c.mss) && uint32(cut) < c.maxWnd/2 {
				break // sending goes on when the window opens, or by the probe
			}
			if !c.split(c.sndNext, cut) {
				return false
			}
			continue
		}
		if pipe > 0 && pipe+bytes > cwnd {
			c.set(markLimited)
			c.usedAt, c.cwndUsed = now, 0
			if c.cc.models {
				c.cc.alg().limited(&c.cc)
			}
			return true
		}
		if f == ring.NoFrame && !fin && bytes < int(c.mss) && !c.has(markNoDelay) &&
			seqGT(c.sndSmall, c.sndUna) && (c.tso == 0 || c.sndNxt == before) {
			// Nagle, as Minshall amended it: one small segment in flight. The
			// remainder of a packet that the device cuts is not held back.
			break
		}
		if p := c.cc.pacer; p != nil && !p.ready(now) {
			return true
		}
		// This is transmit without the call: writers come here with small stacks.
		if pkt, ecn := c.segment(c.sndNext, count, bytes, fin, now); !c.owner.Transmit(pkt, ecn) {
			return false
		}
		c.transmitted(c.sndNext, count, bytes, fin, now)
	}
	// cwnd does not hold data back, and much of it is unused. So nothing proves the
	// window (RFC 7661).
	if c.pipe() < c.cwnd()/2 {
		c.clear(markLimited)
		if c.sndNxt != before {
			c.unusedCwnd(now)
		}
	}
	return true
}

// sendLost retransmits lost frames as far as cwnd allows.
func (c *Conn) sendLost(now int64) bool {
	a := c.h.Arena
	f := c.lostHint
	if f == ring.NoFrame {
		f = c.sndHead
	}
	for c.lost > c.retrans && f != ring.NoFrame && f != c.sndNext {
		m := a.Meta(f)
		if m.Flags&(frameLost|frameRetrans) != frameLost {
			if m.Flags&frameSacked != 0 {
				m = a.Meta(c.runEnd(f))
			}
			f = m.Next
			c.lostHint = f
			continue
		}
		if pipe := c.pipe(); pipe > 0 && pipe+int(m.Len) > c.cwnd() {
			return true
		}
		if p := c.cc.pacer; p != nil && !p.ready(now) {
			return true
		}
		ok, next := c.resend(f, now)
		if !ok {
			return false
		}
		f = next
		c.lostHint = f
	}
	return true
}

// resend retransmits one packet that begins with the lost frame f, and returns the
// frame behind it.
func (c *Conn) resend(f ring.Frame, now int64) (ok bool, next ring.Frame) {
	a := c.h.Arena
	f, ok = c.private(f)
	if !ok {
		return false, f
	}
	if m := a.Meta(f); int(m.Len) > int(c.mss) && !c.split(f, int(c.mss)) {
		return false, f
	}
	count, bytes, fin := 0, 0, false
	for next = f; next != ring.NoFrame && next != c.sndNext; {
		m := a.Meta(next)
		if m.Flags&(frameLost|frameRetrans) != frameLost || bytes+int(m.Len) > int(c.mss) {
			break
		}
		if m.Flags&frameFIN != 0 {
			fin, next = true, m.Next
			break
		}
		if count == c.h.MaxFrags {
			break
		}
		count, bytes, next = count+1, bytes+int(m.Len), m.Next
	}
	if !c.transmit(f, count, bytes, fin, now) {
		return false, f
	}
	if next == ring.NoFrame {
		next = c.sndNext
	}
	return true, next
}

// rescue retransmits the last segment when nothing else can be sent and its
// acknowledgement is overdue, so that a lost tail shows (RFC 6675 section 4,
// NextSeg rule 4). It does so once per recovery. The segment is not taken for lost:
// nothing says so, and a loss of something that recovery sent would be one more
// reduction.
func (c *Conn) rescue(now int64) bool {
	if c.has(markRescued) || !c.has(markSACK) || c.sacked == 0 || c.lost > c.retrans ||
		c.pipe()+int(c.mss) > c.cwnd() || c.sndNext != ring.NoFrame {
		return true
	}
	a := c.h.Arena
	m := a.Meta(c.sndTail)
	if m.Flags&(frameSacked|frameLost) != 0 || now-m.SentAt <= c.rtt.SRTT() {
		return true
	}
	if !c.resendTail(now) {
		return false
	}
	c.set(markRescued)
	c.tlpEnd = c.sndNxt
	return true
}

// transmit sends one packet of count frames from f on, which hold bytes bytes, and
// the FIN behind them where fin. It accounts for a first transmission or a
// retransmission.
func (c *Conn) transmit(f ring.Frame, count, bytes int, fin bool, now int64) bool {
	if pkt, ecn := c.segment(f, count, bytes, fin, now); !c.owner.Transmit(pkt, ecn) {
		return false
	}
	c.transmitted(f, count, bytes, fin, now)
	return true
}

// segment makes the packet that transmit sends. ecn is the codepoint for its IP
// header.
func (c *Conn) segment(f ring.Frame, count, bytes int, fin bool, now int64) (pkt []ring.Desc, ecn uint8) {
	a := c.h.Arena
	m := a.Meta(f)
	fl := FlagACK
	if fin {
		fl |= FlagFIN
	}
	ecn = ectNone
	if c.capable(bytes, m) {
		ecn = ect0
		fl |= Flags(c.ecn & ecnCWR)
	}
	hl := c.headerLen()
	pkt = c.h.pkt[:max(count, 1)]
	sum, odd := uint16(0), false
	partial := c.h.TxCsum || bytes > int(c.mss) // the device sums
	g := f
	for i := range pkt {
		k := a.Meta(g)
		if !partial {
			if k.Flags&frameUnsummed != 0 {
				c.sum(g, k)
			}
			s := k.Sum
			if odd {
				s = ip.Swap(s)
			}
			sum = ip.Add(sum, s)
			odd = odd != (k.Len&1 != 0)
		}
		pkt[i] = ring.Desc{Frame: g, Off: k.Off, Len: k.Len, Flags: ring.FlagMore}
		g = k.Next
	}
	// PSH: nothing follows for now. A packet that becomes many segments carries it
	// too, since waiting for more gains nothing when the peer may join them again
	// (as Linux).
	if count > 0 && (g == ring.NoFrame || fin || bytes > int(c.mss)) {
		fl |= FlagPSH
	}
	pkt[len(pkt)-1].Flags = 0
	d := &pkt[0]
	d.Off -= uint16(hl)
	d.Len += uint16(hl)
	hdr := a.Bytes(f)[d.Off:][:hl]
	sum = ip.Add(sum, c.putSegment(hdr, m.Seq, fl, now))
	if bytes > int(c.mss) {
		d.Flags |= ring.FlagGSO
		if fl&FlagCWR != 0 {
			d.Flags |= ring.FlagCWR
		}
		d.SegSize = c.mss
	}
	c.putChecksum(hdr, bytes, sum, d)
	return pkt, ecn
}

// capable reports whether a packet of bytes bytes that begins with the frame of m
// is ECN-capable, and carries CWR. Only new data is and does (RFC 3168 sections
// 6.1.2, 6.1.4, 6.1.5 and 6.1.6).
func (c *Conn) capable(bytes int, m *ring.Meta) bool {
	return c.ecn&ecnECT != 0 && bytes > 0 && m.Flags&(frameLost|frameTimed) == 0
}

// transmitted accounts for what transmit sent.
func (c *Conn) transmitted(f ring.Frame, count, bytes int, fin bool, now int64) {
	m := c.h.Arena.Meta(f)
	if c.capable(bytes, m) {
		c.ecn &^= ecnCWR // the peer was told
	}
	c.h.Stats.OutSegs.Add(1)
	c.segsOut++
	c.lastSnd = now
	if p := c.cc.pacer; p != nil {
		p.sent(bytes, now)
	}
	switch {
	case m.Flags&frameLost != 0:
		c.noteResent(f, count, bytes, fin, now)
	case m.Flags&frameTimed != 0:
		c.noteTail(f, count, bytes, fin, now)
	default:
		c.noteSent(f, count, bytes, fin, now)
	}
	c.acked()
}

// noteSent accounts for a first transmission.
func (c *Conn) noteSent(f ring.Frame, count, bytes int, fin bool, now int64) {
	a := c.h.Arena
	if fin {
		count++
	}
	idle := c.sndUna == c.sndNxt
	if c.rare.rate != nil {
		c.stampRate(f, count, now)
	}
	for ; count > 0; count-- {
		m := a.Meta(f)
		n := frameLen(m)
		m.SentAt = now
		c.timeAppend(f)
		c.sndNxt += n
		f = m.Next
	}
	c.sndNext = f
	if mss := int(c.mss); bytes > 0 && bytes != mss && (bytes < mss || bytes%mss != 0) {
		c.sndSmall = c.sndNxt
	}
	if idle {
		c.stuckAt = now
	}
	c.prrSent += uint32(bytes)
	if bytes > 0 {
		c.noteInteractive(now)
	}
}

// noteResent accounts for a retransmission.
func (c *Conn) noteResent(f ring.Frame, count, bytes int, fin bool, now int64) {
	a := c.h.Arena
	if fin {
		count++
	}
	if c.rare.search != nil {
		c.mtuProbeResent(a.Meta(f).Seq)
	}
	c.stampRetrans(now)
	if f == c.sndHead {
		c.armRTO(now) // its acknowledgement is a round trip away from now (as Linux)
	}
	if c.rare.rate != nil {
		c.stampRate(f, count, now)
	}
	for ; count > 0; count-- {
		m := a.Meta(f)
		n := frameLen(m)
		m.SentAt = now
		m.Flags |= frameRetrans
		if m.Retrans < 0xffff {
			m.Retrans++
		}
		c.timeAppend(f)
		c.retrans += n
		if c.recovery == inRecovery {
			c.prrSent += n
		}
		f = m.Next
	}
	c.undoRetrans = max(c.undoRetrans, 0) + 1
	c.countRetrans(bytes)
	if c.recovery == inRecovery {
		c.h.Stats.TCPFastRetrans.Add(1)
	} else {
		c.h.Stats.TCPSlowStartRetrans.Add(1)
	}
	if c.rtoAt == 0 || c.has(markPersist) {
		c.armRTO(now)
	}
}
