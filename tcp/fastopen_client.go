package tcp

import (
	"github.com/onload-go/onload/ring"
)

// recallServerCookie prepares Fast Open of a connection that is about to send its
// SYN: section 4.1.3. It reports whether there is a cookie, so that the SYN can
// carry data.
func (c *Conn) recallServerCookie(now int64) bool {
	f := c.rare.fo
	k := c.h.ServerCookies.get(*c.pair)
	switch {
	case now < k.until:
		c.dropFastOpen()
		c.h.Stats.TCPFastOpenBlackhole.Add(1)
	case f.bare:
		if k.mss == 0 {
			// As Linux: without a cookie nothing may be known of the server.
			k.mss = uint16(int(c.mtu) - c.ipHeaderLen() - headerSize)
		}
		c.deferSYN(k.mss)
		return true
	case k.option == 0:
		f.option = fastOpenAsk
	default:
		f.option, f.cookie = k.option, k.value
		c.deferSYN(k.mss)
		return true
	}
	return false
}

// deferSYN has the SYN wait for data: as much as fits into segments of mss bytes,
// the peer's limit.
func (c *Conn) deferSYN(mss uint16) {
	c.rare.fo.deferred = true
	c.setPeerMSS(mss)
	c.updateMSS()
	// The data written now is cut to the room in the SYN, so that nothing small
	// is left over.
	c.chunk.Store(uint32(max(c.synRoom(), minSendMSS)))
}

// Deferred reports whether the SYN of a connection that is being opened waits
// for the first data, to carry it: Output sends it then.
func (c *Conn) Deferred() bool { return c.rare.fo != nil && c.rare.fo.deferred }

// deferredWait is how long a SYN waits for data once somebody waits for an answer.
// Most clients begin to read before they write, in another goroutine.
const deferredWait = 10e6

// ReadDeferred is called when somebody waits for an answer. The SYN of a Deferred
// connection then leaves soon, with data or without.
func (c *Conn) ReadDeferred(now int64) {
	if c.Deferred() && c.rtoAt == 0 {
		c.rtoAt = now + deferredWait
	}
}

// OpenDeferred sends the SYN that waited, with the data that is there, if any.
func (c *Conn) OpenDeferred(now int64) {
	c.pull()
	c.rare.fo.deferred = false
	c.stuckAt = now
	c.firstSYN(now)
}

// sendSYNData sends the SYN, whose header of n bytes fill wrote, with a copy of the
// data that is first on the send queue (section 4.2.2). For the queue that data is
// not sent yet: if the SYN-ACK does not acknowledge it, it is sent as any new data.
func (c *Conn) sendSYNData(n int, fill func(b []byte)) bool {
	a := c.h.Arena
	f, ok := c.h.Cache.Alloc()
	if !ok {
		c.h.Stats.TCPOutNoFrames.Add(1)
		return false
	}
	data := a.Bytes(f)[ring.Headroom:]
	size := 0
	if f := c.rare.fo; f.option > fastOpenAsk || f.bare {
		data = data[:c.SYNRoom()]
		for g := c.sndHead; g != ring.NoFrame && size < len(data); g = a.Meta(g).Next {
			m := a.Meta(g)
			size += copy(data[size:], a.Bytes(g)[m.Off:m.Off+m.Len])
		}
	}
	d := &c.h.pkt[0]
	*d = ring.Desc{Frame: f, Off: uint16(ring.Headroom - n), Len: uint16(n + size)}
	hdr := a.Data(*d)[:n]
	fill(hdr)
	c.checksum(hdr, size, c.h.sum(data[:size]), d)
	ok = c.owner.Transmit(c.h.pkt[:1], ectNone)
	c.h.Cache.Release(f)
	if ok {
		c.h.Stats.OutSegs.Add(1)
		c.segsOut++
		c.rare.fo.data = uint16(size)
	}
	return ok
}

// SYNRoom is how many bytes the SYN of a Deferred connection can carry.
func (c *Conn) SYNRoom() int { return max(c.synRoom(), 0) }

// synRoom is the payload of a SYN. The MSS counts neither header (RFC 6691), so
// options take room from it. As in Linux, they count as if there were as many as
// possible.
func (c *Conn) synRoom() int {
	room := min(int(c.peerMSS), int(c.mtu)-c.ipHeaderLen()-headerSize) - maxOptions
	return min(room, c.h.Arena.FrameSize()-ring.Headroom)
}

// synTooLarge is called when a router dropped the SYN because of its data. The SYN
// then leaves without data, at once (section 4.1.3.1, as Linux).
func (c *Conn) synTooLarge(now int64) {
	f := c.rare.fo
	f.option, f.data, f.bare = 0, 0, false
	c.h.Stats.TCPSynRetrans.Add(1)
	c.sendSYN(now)
	c.armRTO(now)
}

// synData is how many bytes a SYN-ACK may acknowledge beside our SYN.
func (c *Conn) synData() uint32 {
	if c.rare.fo == nil {
		return 0
	}
	return uint32(c.rare.fo.data)
}

// synAnswered takes what a SYN-ACK says of Fast Open: sections 4.1.3 and 4.2.2.
// SND.UNA and SND.NXT are the sequence number after our SYN.
func (c *Conn) synAnswered(s *Segment, now int64) {
	f, o := c.rare.fo, &s.Opt
	c.dropFastOpen()
	n := s.Ack - c.sndNxt
	if _, left := c.sndUsed.load(); left > int(f.data) {
		// As Linux: what waits follows at once, this is a dialogue.
		c.set(markPingPong)
	}
	k := c.h.ServerCookies.get(*c.pair)
	k.mss = c.peerMSS
	switch {
	case o.FastOpen > fastOpenAsk && !o.FastOpenExp && !f.bare:
		c.h.ServerCookies.put(*c.pair, serverCookie{value: o.FastOpenCookie, option: o.FastOpen, mss: c.peerMSS})
	case n > 0:
		if k.losses = 0; !f.bare {
			k.value, k.option = f.cookie, f.option
		}
		c.h.ServerCookies.put(*c.pair, k)
	case c.retries > 0 && (f.option != 0 || f.bare):
		// Only a SYN without Fast Open came through: section 4.1.3.1. A SYN that
		// only asked for a cookie may have been lost by chance.
		k.losses = min(k.losses+1, maxBlackHole)
		if f.data > 0 || k.losses > 1 {
			k.until = now + fastOpenPause<<(k.losses-1)
		}
		c.h.ServerCookies.put(*c.pair, k)
	case f.data > 0 && !f.bare:
		c.h.ServerCookies.forget(*c.pair) // not taken, and no other given
	}
	switch {
	case f.data == 0:
		return
	case n == uint32(f.data):
		c.h.Stats.TCPFastOpenActive.Add(1)
		c.set(markSYNData)
	default:
		c.h.Stats.TCPFastOpenActiveFail.Add(1)
	}
	c.cleanSYNData(n)
}

// requeue cuts the waiting data anew. It was cut for the SYN, and a segment that is
// not full would hold back the last one (Nagle).
func (c *Conn) requeue() {
	a, chunk := c.h.Arena, int(c.chunk.Load())
	f := c.sndHead
	c.sndHead, c.sndNext, c.sndTail = ring.NoFrame, ring.NoFrame, ring.NoFrame
	for f != ring.NoFrame {
		next := a.Meta(f).Next
		if !c.topUp(f) {
			c.append(f)
		}
		for int(a.Meta(c.sndTail).Len) > chunk && c.split(c.sndTail, chunk) {
		}
		f = next
	}
}

// cleanSYNData takes n bytes off the send queue that the SYN carried.
func (c *Conn) cleanSYNData(n uint32) {
	a := c.h.Arena
	c.sndUna += n
	c.sndNxt = c.sndUna
	c.delivered += uint64(n)
	frames, bytes := 0, int(n)
	f := c.sndHead
	for n > 0 {
		m := a.Meta(f)
		if uint32(m.Len) > n {
			m.Seq += n
			m.Off += uint16(n)
			m.Len -= uint16(n)
			c.sum(f, m)
			break
		}
		n -= uint32(m.Len)
		next := m.Next
		c.h.Cache.Release(f)
		frames++
		f = next
	}
	c.sndHead, c.sndNext = f, f
	if f == ring.NoFrame {
		c.sndTail = ring.NoFrame
	} else {
		a.Meta(f).Prev = ring.NoFrame
	}
	c.sndUsed.add(-frames, -bytes)
	c.wakeWriter()
}
