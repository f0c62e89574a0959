package onloadhttp

import (
	"bytes"
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// errTaken ends a Read that waits for the next request on a connection that leaves.
var errTaken = errors.New("onloadhttp: the connection goes to the successor")

// conn is a connection as the server has it. It can be taken away from the server while
// that waits for a request, of which nothing has come.
type conn struct {
	net.Conn
	l *Listener

	mu       sync.Mutex
	news     sync.Cond // of reading
	started  bool      // an octet has come
	between  bool      // no octet has come since it was accepted, or since StateIdle
	fixed    bool      // it cannot leave: it is HTTP/2, or hijacked
	longest  int       // buffer of a Read
	reading  bool      // a Read waits
	empty    bool      // of that Read: the server holds no octet that it has not used
	wanted   bool      // the Read that waits is to end
	ended    bool      // it has, with nothing read
	taken    bool      // the server has lost it
	deadline time.Time // of reads
}

// NetConn returns the connection beneath, for onload.PathOf.
func (c *conn) NetConn() net.Conn { return c.Conn }

// Read implements net.Conn. That the server holds no octet shows in the length of p: it
// reads into the free part of one buffer (bufio.Reader's), whose length is the longest p
// that there was. If that were no longer so, connections would merely stay.
func (c *conn) Read(p []byte) (int, error) {
	c.mu.Lock()
	if c.taken {
		c.mu.Unlock()
		return 0, errTaken
	}
	c.longest = max(c.longest, len(p))
	c.empty = len(p) == c.longest
	if c.l.leaving.Load() && c.between && c.empty && !c.fixed {
		c.taken = true // before the next request, which clients in a hurry have sent
		_ = c.Conn.SetDeadline(time.Time{})
		c.l.leave(c.Conn)
		c.mu.Unlock()
		return 0, errTaken
	}
	c.reading = true
	c.mu.Unlock()

	n, err := c.Conn.Read(p)

	c.mu.Lock()
	defer c.mu.Unlock()
	c.reading = false
	if n > 0 {
		if !c.started {
			// "PRI" is the preface of HTTP/2 (RFC 9113, section 3.4).
			c.fixed = c.fixed || n < 3 || bytes.HasPrefix(p[:n], []byte("PRI"))
		}
		c.started, c.between = true, false
	}
	if c.wanted {
		c.wanted = false
		_ = c.Conn.SetReadDeadline(c.deadline)
		if n == 0 && isTimeout(err) {
			c.taken, c.ended = true, true
			err = errTaken
		}
		c.news.Broadcast()
	}
	return n, err
}

func isTimeout(err error) bool {
	t, ok := err.(net.Error)
	return ok && t.Timeout()
}

// take takes c from the server if it waits for a request, of which nothing has come.
func (c *conn) take() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fixed || c.taken || c.wanted || !c.between || !c.reading || !c.empty {
		return false
	}
	c.wanted = true
	_ = c.Conn.SetReadDeadline(time.Unix(1, 0))
	for c.wanted {
		c.news.Wait()
	}
	if c.ended { // if it is taken otherwise, Listener.leave has it
		_ = c.Conn.SetDeadline(time.Time{})
	}
	return c.ended
}

// SetDeadline implements net.Conn.
func (c *conn) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}

// SetReadDeadline implements net.Conn.
func (c *conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deadline = t
	if c.taken || c.wanted {
		return nil
	}
	return c.Conn.SetReadDeadline(t)
}

// SetWriteDeadline implements net.Conn.
func (c *conn) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.taken {
		return nil
	}
	return c.Conn.SetWriteDeadline(t)
}

// Write implements net.Conn.
func (c *conn) Write(p []byte) (int, error) {
	if c.isTaken() {
		return 0, errTaken
	}
	return c.Conn.Write(p)
}

// ReadFrom implements io.ReaderFrom, so that files are sent as without this package.
func (c *conn) ReadFrom(r io.Reader) (int64, error) {
	if c.isTaken() {
		return 0, errTaken
	}
	if to, ok := c.Conn.(io.ReaderFrom); ok {
		return to.ReadFrom(r)
	}
	return io.Copy(struct{ io.Writer }{c.Conn}, r)
}

// CloseWrite ends the stream to the client, as the server does before it closes a
// connection that it refuses.
func (c *conn) CloseWrite() error {
	if c.isTaken() {
		return errTaken
	}
	if w, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return errors.ErrUnsupported
}

func (c *conn) isTaken() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.taken
}

// Close implements net.Conn. A connection that was taken stays open.
func (c *conn) Close() error {
	c.l.forget(c)
	if c.isTaken() {
		return nil
	}
	return c.Conn.Close()
}

// stays reports whether c will never leave.
func (c *conn) stays() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.fixed || c.taken
}
