package tcp

// nextWindow returns the window to advertise, in bytes. It is never less than what
// is open (RFC 9293 section 3.8.6). It grows only by steps worth a segment (section
// 3.8.6.2.2), unless it is as wide as it gets: a wide window cannot become silly,
// and an unchanged field keeps the peer on its fast path.
func (c *Conn) nextWindow() uint32 {
	open := c.openWindow()
	if free := c.freeWindow(); free > open {
		limit := c.rcvLimit.Load()
		if free-open >= min(limit/2, uint32(c.rcvMSS)) || c.roomy(free) {
			return free
		}
	}
	return open
}

// roomy reports whether a window of free bytes is as wide as the header can say, or
// nothing is unread.
func (c *Conn) roomy(free uint32) bool {
	if free>>c.ourShift() >= 0xffff {
		return true
	}
	_, used := c.rcvUsed.load()
	return used == 0 && free >= uint32(c.rcvMSS)
}

// window moves the edge of the window and returns the header field.
func (c *Conn) window() uint16 {
	now := c.nextWindow()
	shift := c.ourShift()
	// Rounding up keeps the edge where it was. The few bytes above the buffer are
	// accepted.
	field := min((now+1<<shift-1)>>shift, 0xffff)
	c.rcvAdv = c.rcvNxt + field<<shift
	return uint16(field)
}

// freeWindow is how many more bytes the receive buffer would take.
func (c *Conn) freeWindow() uint32 {
	frames, used := c.rcvUsed.load()
	limit := int(c.rcvLimit.Load())
	if used >= limit || frames >= c.heldLimit() {
		return 0
	}
	h := c.h
	free, mask := min(limit-used, int(c.rcvClamp.Load())), 1<<c.ourShift()-1
	if spare := h.Arena.FreeFrames() - h.Reserve; spare < 2*h.Reserve {
		// Windows promise more memory than there is. When it runs low each may
		// count on a part of the rest, so that many windows become small instead of
		// colliding. A connection that holds nothing may count on a segment
		// (mayKeep), so that requests are heard while others do not read.
		share := max(spare, 0) / windowShare * int(c.chunk.Load())
		if least := max(int(c.rcvMSS), int(c.chunk.Load())); frames == 0 && share < least && c.mayKeep(least) {
			share = (least + mask) &^ mask
		}
		free = min(free, share)
	}
	return uint32(free &^ mask)
}

// windowShare is the part of the free frames that one window may count on.
const windowShare = 4

// Bounds of rcvClamp, in segments and bytes.
const (
	initialClamp = 64 << 10
	lowClamp     = 4 // segments, as Linux under memory pressure
)

// growClamp lets the window grow as the peer uses it, twice as fast as a sender in
// slow start, as long as memory is plenty (Linux's rcv_ssthresh). A thousand
// connections with large windows rarely use them at once; if they did, memory would
// not suffice.
func (c *Conn) growClamp(s *Segment, now int64) {
	switch spare := c.h.Arena.FreeFrames() - c.h.Reserve/shutPart; {
	case spare >= 2*c.h.Reserve:
		clamp := c.rcvClamp.Load()
		if clamp < maxBuf {
			c.rcvClamp.Store(min(clamp+2*uint32(s.Len), maxBuf))
		}
		if !c.has(markRcvFixed) && clamp >= c.rcvLimit.Load() {
			c.tuneRcv(s, now)
		}
	case spare < c.h.Reserve/2:
		c.rcvClamp.Store(max(c.rcvClamp.Load()/2, lowClamp*uint32(c.chunk.Load())))
	}
}

// shutByMemory reports whether the window is closed although the buffer is not
// full. Then only a timer opens it: nothing reports memory that others give back.
func (c *Conn) shutByMemory() bool {
	if c.openWindow() >= max(uint32(c.rcvMSS), c.chunk.Load()) || !c.State().receiving() {
		return false
	}
	frames, used := c.rcvUsed.load()
	return used+int(c.rcvMSS) <= int(c.rcvLimit.Load()) && frames < c.heldLimit()
}

// publishWindow shows the reader how far the window is open. It reports a change
// that the reader saw too late, because it had read by then: we have to act on
// that.
func (c *Conn) publishWindow() (changed bool) {
	w := c.openWindow()
	if changed = w != c.rcvEdge.Load(); changed {
		c.rcvEdge.Store(w)
	}
	return changed
}

// openWindow returns the part of the advertised window that is left, in bytes.
func (c *Conn) openWindow() uint32 {
	return uint32(max(int32(c.rcvAdv-c.rcvNxt), 0))
}

// worthUpdate reports whether the window should be advertised anew after Read freed
// space: it has closed to half of the buffer, and can at least double (as Linux),
// by a segment or more.
func (c *Conn) worthUpdate(open uint32) bool {
	_, used := c.rcvUsed.load()
	limit := min(c.rcvLimit.Load(), c.rcvClamp.Load())
	if 2*open > limit || used >= int(limit) {
		return false
	}
	free := limit - uint32(used)
	if c.flags.Load()&sharedUnscaled != 0 {
		free, limit = min(free, 0xffff), min(limit, 0xffff) // the header says no more
	}
	return free >= max(2*open, min(limit/2, c.chunk.Load()))
}

// WindowUpdate is called after Read asked for it. It acknowledges anew if that
// opens the window.
func (c *Conn) WindowUpdate(now int64) {
	if c.has(markDead) || !c.State().receiving() {
		return
	}
	if open := c.openWindow(); c.worthUpdate(open) && c.nextWindow() > open {
		c.sendAck(now)
		c.publishWindow()
	}
}

// ourShift is the scale of the windows that we send.
func (c *Conn) ourShift() uint8 {
	if c.has(markWS) {
		return c.rcvWS
	}
	return 0
}
