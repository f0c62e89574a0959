package tcp

import "github.com/onload-go/onload/ring"

// This is how connections share the frames of the arena. The fewer are free, the
// less each may hold, so that peers that never read cannot starve the others
// (attack 29). R is Host.Reserve. Control segments, and so new connections,
// always get a frame.
//
//	free frames   what a connection may hold
//	4R and more   as much as its buffers take
//	below 4R      to send, and received early: a 32nd of the frames above R, at
//	              least four. To send where the peer is stuck: one. Unread small
//	              segments share frames
//	below R       received: one frame, and what fits into those that it holds;
//	              nothing early. The receive window is that segment. To send:
//	              four, none where the peer is stuck
//	below R/2     to send: one
//	below R/4     to send: nothing more
//	below R/8     received: what fits into those that it holds
//
// So what peers send, which nobody may read, never takes the frames that answers
// need.
const (
	plentyReserves = 4 // in R
	shareOfFree    = 32
	leastShare     = 4 // frames: two segments in flight keep acknowledgements coming
	scarceShare    = 1 // frame
	shutPart       = 2 // of R, here and below
	tightPart      = 4
	exhaustedPart  = 8

	noShare = 1 << 30 // frames: no bound

	// squeezeAfter is how long a reader may leave small segments unread, and how
	// often early data is compared with its share, in ns.
	squeezeAfter = int64(100e6)
	squeezeMost  = 64 // most frames to copy then, to bound the pause

	// A connection without a frame is tried again after starvedRetry. A connection
	// that holds frames is woken by their acknowledgement, by its reader, or when
	// memory is plenty. If its peer is stuck, nothing is expected soon.
	starvedRetry = int64(5e6) // ns
	shareRetry   = int64(100e6)
)

// plenty reports whether memory is no concern.
func (h *Host) plenty() bool { return h.Arena.FreeFrames() >= plentyReserves*h.Reserve }

// sendShare is how many frames the send buffer may hold now, whatever its limit in
// bytes allows. Safe without the lock.
func (c *Conn) sendShare() int {
	h := c.h
	free := h.Arena.FreeFrames()
	switch stuck := c.flags.Load()&sharedStuck != 0; {
	case free >= plentyReserves*h.Reserve:
		return noShare
	case free < h.Reserve/tightPart || stuck && free < h.Reserve:
		return 0
	case stuck || free < h.Reserve/shutPart:
		return scarceShare
	}
	return h.fairShare(free)
}

// fairShare is how many frames one of many connections may hold where so many are
// free.
func (h *Host) fairShare(free int) int { return max((free-h.Reserve)/shareOfFree, leastShare) }

// earlyShare is how many frames early data may hold.
func (h *Host) earlyShare() int {
	switch free := h.Arena.FreeFrames(); {
	case free >= plentyReserves*h.Reserve:
		return noShare
	case free < h.Reserve:
		return 0
	default:
		return h.fairShare(free)
	}
}

// trimOOO drops early data beyond its share of now. The share is looked at again as
// long as there is early data, since a peer may leave a hole for ever. The peer
// sends again what it has not seen acknowledged (RFC 2018 section 8).
func (c *Conn) trimOOO(now int64) {
	if c.ooo == nil {
		return
	}
	for share := c.h.earlyShare(); c.ooo.frames > share && c.ooo.evict(c.h.Cache); {
		c.h.Stats.OfoPruned.Add(1)
	}
	if c.ooo.empty() {
		c.dropOOO()
		return
	}
	c.retrySoon(now, squeezeAfter)
}

// retrySoon has expireRetry called after wait at the latest.
func (c *Conn) retrySoon(now, wait int64) {
	if c.retryAt == 0 || c.retryAt > now+wait {
		c.retryAt = now + wait
	}
}

// setStuck notes whether the peer takes little or nothing: its window has no room
// for a segment, or never had for leastShare of them, or it does not answer. More
// data in the send buffer would not help then.
func (c *Conn) setStuck(stuck bool) {
	switch was := c.flags.Load()&sharedStuck != 0; {
	case stuck && !was:
		c.flags.Or(sharedStuck)
	case was && !stuck:
		c.flags.And(^uint32(sharedStuck))
	}
}

// synWindow is the window of a SYN-ACK, in bytes: what the configuration allows
// or, where memory is low, the part of it that freeWindow leaves to one connection,
// at least a frame's worth.
func (l *Listener) synWindow(cfg *Config, ts bool) uint16 {
	most, h := cfg.initialWindow(ts), l.h // Linux's tcp_openreq_init_rwin
	if spare := h.Arena.FreeFrames() - h.Reserve; spare < 2*h.Reserve {
		frames := max(spare/windowShare, 1)
		most = min(most, uint32(frames*(h.Arena.FrameSize()-ring.Headroom)))
	}
	return uint16(most)
}

// mayKeep reports whether memory allows keeping n bytes that came in order.
func (c *Conn) mayKeep(n int) bool {
	free := c.h.Arena.FreeFrames()
	if free >= c.h.Reserve {
		return true
	}
	frames, used := c.rcvUsed.load()
	if frames == 0 {
		return free-c.h.Arena.InFrames(n) >= c.h.Reserve/exhaustedPart
	}
	return used+n <= frames*c.h.Arena.FrameSize()/2
}

// squeezeSoon makes sure that small segments do not stay in frames of their own
// when nobody reads them.
func (c *Conn) squeezeSoon(now int64) {
	if !c.h.plenty() {
		c.squeeze()
	} else {
		c.retrySoon(now, squeezeAfter)
	}
}

// squeeze copies unread segments together where they fill less than half of
// their frames.
func (c *Conn) squeeze() {
	frames, used := c.rcvUsed.load()
	// At the end of the stream an empty mailbox means to the reader that
	// nothing is left.
	if frames > 1 && used < frames*c.h.Arena.FrameSize()/2 && c.flags.Load()&sharedEOF == 0 {
		c.collapse()
	}
}

// collapse copies what lies in the reader's mailbox into fewer frames. The
// reader meanwhile sees an empty mailbox, and is notified after.
func (c *Conn) collapse() {
	a := c.h.Arena
	f, _ := c.rcvBox.TakeAll(a)
	if f == ring.NoFrame {
		return
	}
	wake := false
	for f != ring.NoFrame {
		m := a.Meta(f)
		next := m.Next
		merged := 0
		for next != ring.NoFrame {
			k := a.Meta(next)
			if int(m.Off)+int(m.Len)+int(k.Len) > a.FrameSize() {
				break
			}
			copy(a.Bytes(f)[m.Off+m.Len:], a.Bytes(next)[k.Off:k.Off+k.Len])
			m.Len += k.Len
			g := next
			next = k.Next
			c.h.Cache.Free(g)
			merged++
		}
		c.rcvUsed.add(-merged, 0)
		c.h.Stats.TCPRcvCollapsed.Add(uint64(merged))
		wake = c.rcvBox.Push(a, f) || wake
		f = next
	}
	if wake {
		c.owner.Notify(EvReadable)
	}
}

// checkStarved makes the connection try again soon when it got no frames, since
// nothing else may wake it then: neither itself, nor a writer that waits although
// the send buffer has room, nor a peer whose window it shut.
func (c *Conn) checkStarved(refused bool, now int64) {
	flags := c.flags.Load()
	sent, room := c.bufferRoom()
	writer, shut := flags&sharedWantWrite != 0 && room, c.shutByMemory()
	if !refused && !writer && !shut {
		return
	}
	received, _ := c.rcvUsed.load()
	if refused || writer && sent == 0 && flags&sharedStuck == 0 || shut && received == 0 {
		c.retrySoon(now, starvedRetry)
	} else {
		c.retrySoon(now, shareRetry)
	}
}

// expireRetry tries again to get frames, and looks at those that the connection
// keeps.
func (c *Conn) expireRetry(now int64) {
	if c.sendShare() == 0 {
		c.h.Cache.Flush() // the last free frames may be there
	}
	c.wakeWriter()
	if c.shutByMemory() && c.nextWindow() > c.openWindow() {
		c.set(markAckNow)
	}
	if frames, _ := c.rcvUsed.load(); frames <= squeezeMost {
		c.squeeze()
	}
	c.trimOOO(now)
}
