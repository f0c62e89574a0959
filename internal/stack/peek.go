package stack

import (
	"io"
	"os"
)

// Inspect has f look at what Read would return now: data is what waits to be read,
// a part of it where that is much; err is why there is none (io.EOF, the errno that
// ended the connection), nil where Read would wait. f returns how many of the bytes
// it has read for good, and whether it is done: else it is called again when there
// is more. While another goroutine reads, all that comes is that one's, and f sees
// nothing.
//
// Before f is called the queues are looked at, and a connection that was closed, or
// whose deadline is over, ends the call.
func (c *TCPConn) Inspect(f func(data []byte, err error) (read int, done bool, failure error)) error {
	if !c.rmu.TryLock() {
		if err := c.closedError(); err != nil {
			return err
		}
		if _, done, failure := f(nil, nil); done || failure != nil {
			return failure
		}
		c.rmu.Lock()
	}
	defer c.rmu.Unlock()
	for {
		if err := c.userError(); err == errFrozen {
			c.thawed(&c.rmu)
			continue
		} else if err != nil {
			return err
		}
		if c.r.over() {
			return os.ErrDeadlineExceeded
		}
		if !c.ready(dirRead) && c.s.rxPending() { // else pollOnce would only arm the queues
			c.s.pollOnce()
		}
		more := moreThan{c: c, ended: c.ended()}
		data, err := c.peek()
		more.n = len(data)
		if more.n == maxPeek {
			more.n = c.tc.Unread()
		}
		more.ended = more.ended || err != nil
		read, done, failure := f(data, err)
		c.skip(data[:read])
		if done || failure != nil {
			return failure
		}
		if read > 0 {
			continue
		}
		if err := c.s.wait(&more, dirRead, &c.r); err != nil {
			return err
		}
	}
}

// maxPeek is how many bytes Inspect shows at most.
const maxPeek = 64 << 10

// peek returns what waits to be read, or why there is nothing. rmu is held.
func (c *TCPConn) peek() ([]byte, error) {
	// The error is looked at before the data, since data that came before it is
	// read first.
	err := c.failure()
	data := make([]byte, min(c.tc.Unread(), maxPeek))
	n, eof := c.tc.Peek(data)
	switch {
	case c.s.life.closing.Load(): // which has taken the frames away
		return nil, errClosed
	case n > 0:
		return data[:n], nil
	case eof || err == nil && c.state.Load()&stReadClosed != 0:
		return nil, io.EOF
	}
	return nil, err
}

// skip takes bytes that were read elsewhere off the queue; p is overwritten. rmu is
// held.
func (c *TCPConn) skip(p []byte) {
	for len(p) > 0 {
		n, _, update := c.tc.Read(p)
		if update {
			c.do(todoWindow)
		}
		if n == 0 {
			return // the stack has closed
		}
		p = p[n:]
	}
}

// ended reports whether no more comes than is there.
func (c *TCPConn) ended() bool {
	return c.tc.Ended() || c.tc.Err() != nil || c.state.Load()&stReadClosed != 0
}

// moreThan waits for more bytes than n, or for the end of the stream unless that
// was there already.
type moreThan struct {
	c     *TCPConn
	n     int
	ended bool
}

func (m *moreThan) ready(direction) bool {
	return m.c.userError() != nil || m.c.tc.Unread() > m.n || !m.ended && m.c.ended()
}

// Closed reports whether c has been closed, by its user or with its stack.
func (c *TCPConn) Closed() bool { return c.closedError() != nil }

// MayWrite returns why Write would fail now, or nil.
func (c *TCPConn) MayWrite() error {
	if err := c.mayWrite(); err != errFrozen {
		return err
	}
	return nil
}

// AwaitEnd waits until nothing can be written any more, and returns why.
func (c *TCPConn) AwaitEnd() error {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	for {
		if err := c.s.wait(noWrite{c}, dirWrite, &c.w); err != nil {
			return err
		}
		if err := c.mayWrite(); err != errFrozen {
			return err
		}
		c.thawed(&c.wmu)
	}
}

// noWrite waits for the end of what can be written.
type noWrite struct{ c *TCPConn }

func (k noWrite) ready(direction) bool { return k.c.mayWrite() != nil }
