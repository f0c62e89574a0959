package tcp

import (
	"syscall"

	"github.com/onload-go/onload/ring"
)

// CloseRead says that the user reads no more. It needs no lock. The peer learns of
// it only when it sends data to a connection that is closed for writing too.
func (c *Conn) CloseRead() { c.flags.Or(sharedNoRead) }

// unwanted reports whether nobody will read what comes: the user has closed the
// connection, or both of its directions (RFC 9293 section 3.6.1, as Linux).
func (c *Conn) unwanted() bool {
	if c.has(markOrphan) {
		return true
	}
	st := c.State()
	return (st == FinWait1 || st == FinWait2) && c.flags.Load()&sharedNoRead != 0
}

// CloseWrite sends FIN after all that was written.
func (c *Conn) CloseWrite(now int64) {
	c.flags.Or(sharedNoWrite)
	if c.has(markDead | markFinWanted) {
		return
	}
	c.pull()
	c.set(markFinWanted)
	switch c.State() {
	case Established:
		c.setState(FinWait1)
	case CloseWait:
		c.setState(LastAck)
	default:
		if c.Deferred() {
			c.OpenDeferred(now)
		}
		return // the FIN goes out when the handshake is complete
	}
	c.Output(now)
}

// Close closes both directions for good. Unread data and a linger time of zero make
// it an abort (RFC 9293 section 3.6.1, as Linux). The connection goes on by itself
// until EvClosed or EvTimeWait.
func (c *Conn) Close(now int64) {
	c.flags.Or(sharedNoWrite)
	if c.has(markOrphan) {
		return
	}
	c.set(markOrphan)
	_, unread := c.rcvUsed.load()
	c.dropReceived()
	if c.has(markDead) {
		return
	}
	c.countOrphan(1)
	st := c.State()
	switch {
	case st == Closed || st == SynSent && (c.rare.fo == nil || !c.written()):
		c.done(0)
		return
	case unread > 0:
		c.h.Stats.TCPAbortOnClose.Add(1)
		c.sendReset(now)
		c.done(0)
		return
	case c.linger.Load() == 0:
		c.h.Stats.TCPAbortOnData.Add(1)
		c.Abort(now)
		return
	}
	c.CloseWrite(now)
	switch {
	case c.has(markDead):
	case c.h.orphans > c.h.MaxOrphans:
		c.abortOrphan(now)
	case c.State() == FinWait2:
		c.armFinWait2(now)
	}
}

// written reports whether something waits to be sent.
func (c *Conn) written() bool {
	_, n := c.sndUsed.load()
	return n > 0
}

// countOrphan keeps the number of connections that go on without a user.
func (c *Conn) countOrphan(n int) {
	if c.has(markOrphan) {
		c.h.orphans += n
	}
}

// abortOrphan resets a connection that no user waits for, to save memory.
func (c *Conn) abortOrphan(now int64) {
	c.h.Stats.TCPAbortOnMemory.Add(1)
	c.sendReset(now)
	c.done(0)
}

// costly reports whether an orphan whose peer does not acknowledge must end,
// because there are too many orphans or frames are short. An orphan that has been
// stuck for longer counts twice (Linux's tcp_out_of_resources; attack 16).
func (c *Conn) costly(stuck bool) bool {
	n := c.h.orphans
	if stuck {
		n *= 2
	}
	return c.has(markOrphan) && (n > c.h.MaxOrphans || c.h.Arena.FreeFrames() < c.h.Reserve)
}

// Abort resets the connection: RFC 9293 section 3.10.5.
func (c *Conn) Abort(now int64) {
	if c.has(markDead) {
		return
	}
	switch c.State() {
	case Closed, SynSent:
	case Closing, LastAck:
		// Data that was sent may still arrive. A reset tells the peer only about
		// data that was not sent (as Linux).
		if !c.has(markFinQueued) || c.sndNext != ring.NoFrame {
			c.sendReset(now)
		}
	default:
		c.sendReset(now)
	}
	if c.has(markOrphan) {
		c.done(0)
	} else {
		c.done(syscall.ECONNABORTED)
	}
}

// Fail ends the connection with errno and sends nothing, since no route leads to
// the peer any more.
func (c *Conn) Fail(errno syscall.Errno) {
	if c.has(markDead) {
		return
	}
	if c.has(markOrphan) {
		errno = 0
	}
	c.done(errno)
}

// TimeWait returns what is left to do after EvTimeWait.
func (c *Conn) TimeWait(now int64) TimeWait {
	return TimeWait{
		sndNxt: c.sndNxt, rcvNxt: c.rcvNxt, rcvWnd: c.openWindow(),
		rcvWS: c.ourShift(), ts: c.has(markTS),
		tsRecent: c.tsRecent, tsOffset: c.tsOffset,
		deadline: now + int64(TimeWaitLen),
	}
}
