package tcp

// nextWindow is the window to advertise, never less than what is open (RFC
// 9293 section 3.8.6), and more only by steps that are worth a segment
// (section 3.8.6.2.2).
func (c *Conn) nextWindow() uint32 {
	open := c.openWindow()
	if free := c.freeWindow(); free > open {
		limit := c.rcvLimit.Load()
		if free-open >= min(limit/2, uint32(c.rcvMSS)) {
			return free
		}
	}
	return open
}

// window moves the edge of the window and returns the header field.
func (c *Conn) window() uint16 {
	now := c.nextWindow()
	shift := c.ourShift()
	// Rounding up keeps the edge where it was; the few bytes above the buffer
	// are accepted.
	field := min((now+1<<shift-1)>>shift, 0xffff)
	c.rcvAdv = c.rcvNxt + field<<shift
	return uint16(field)
}

// freeWindow is how much more the receive buffer would take.
func (c *Conn) freeWindow() uint32 {
	frames, used := c.rcvUsed.load()
	limit := int(c.rcvLimit.Load())
	if used >= limit || frames >= c.heldLimit() {
		return 0
	}
	if c.h.Arena.FreeFrames() < c.h.Reserve/2 {
		return 0 // memory is short: let the window close by itself
	}
	free := uint32(limit - used)
	return free &^ (1<<c.ourShift() - 1)
}

// publishWindow shows the reader how far the window is open.
func (c *Conn) publishWindow() {
	if w := c.openWindow(); w != c.rcvEdge.Load() {
		c.rcvEdge.Store(w)
	}
}

// openWindow is what is left of the window that the peer knows of.
func (c *Conn) openWindow() uint32 {
	return uint32(max(int32(c.rcvAdv-c.rcvNxt), 0))
}

// worthUpdate tells whether the window should be advertised anew after Read
// freed space: it has closed to half of the buffer, and can at least double
// (as Linux), by a segment or more.
func (c *Conn) worthUpdate(open uint32) bool {
	_, used := c.rcvUsed.load()
	limit := c.rcvLimit.Load()
	if 2*open > limit || used >= int(limit) {
		return false
	}
	return limit-uint32(used) >= max(2*open, min(limit/2, c.chunk.Load()))
}

// WindowUpdate is called after Read said so: it acknowledges anew where that
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
