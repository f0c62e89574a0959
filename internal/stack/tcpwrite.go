package stack

import (
	"os"
	"runtime"
	"syscall"
)

// Write writes all of p, and waits for room in the send buffer. If it fails, it
// returns how many bytes were taken before.
func (c *TCPConn) Write(p []byte) (int, error) {
	c.wmu.Lock()
	n, d, locked := c.take(p)
	if locked {
		c.s.endDeferring(d)
	}
	if n >= bulkWrite {
		c.s.takeAcks()
	}
	if n < len(p) || n == 0 {
		return c.writeRest(p, n)
	}
	c.wmu.Unlock()
	return n, nil
}

// take takes as much of p as it can without waiting, and returns how many bytes. If
// locked is true, it took the lock, and endDeferring(d) must follow; otherwise
// others send what it took. wmu is held.
func (c *TCPConn) take(p []byte) (n int, d deferral, locked bool) {
	if len(p) == 0 || c.state.Load()&(stClosed|stWriteClosed|stFrozen|stHalf) != 0 || c.s.life.ending.Load() || c.w.over() || c.tc.Err() != nil {
		return 0, kickNow, false // writeRest says why
	}
	s := c.s
	if len(p) <= smallWrite && s.tryBegin() {
		if !c.gone && !s.life.closing.Load() && c.tc.WriteNow(p) {
			s.touch(c)
			return len(p), s.deferAnswer(), true
		}
		s.end()
	}
	n = c.tc.Write(p)
	// This is done even if nothing was taken: the protocol's timer then retries for
	// a writer that got no frames.
	d, locked = c.begin(todoOutput)
	return n, d, locked
}

// writeRest continues a Write that has taken n bytes of p, possibly none. wmu is
// held, and released.
func (c *TCPConn) writeRest(p []byte, n int) (int, error) {
	defer c.wmu.Unlock()
	for {
		c.yieldToHalf()
		if err := c.mayWrite(); err == errFrozen {
			c.thawedWriter(n > 0)
			continue
		} else if err != nil {
			return n, err
		}
		if len(p) == 0 {
			return 0, nil // no segment is to be made of it either
		}
		k, d, locked := c.take(p[n:])
		n += k
		if locked {
			c.s.endDeferring(d)
		}
		if k >= bulkWrite {
			c.s.takeAcks()
		}
		if n == len(p) {
			return n, nil
		}
		if k > 0 {
			continue
		}
		if err := c.s.wait(c, dirWrite, &c.w); err != nil {
			return n, err
		}
	}
}

// mayWrite returns why nothing may be written now, or nil. errFrozen is as userError's.
func (c *TCPConn) mayWrite() error {
	if err := c.userError(); err != nil {
		return err
	}
	if c.w.over() {
		return os.ErrDeadlineExceeded
	}
	if err := c.failure(); err != nil {
		return err
	}
	if c.state.Load()&stWriteClosed != 0 {
		return syscall.EPIPE
	}
	return nil
}

// written has k bytes sent that were put into the send buffer. k may be 0: the
// protocol's timer then retries for a writer that got no frames.
func (c *TCPConn) written(k int) {
	c.do(todoOutput)
	if k >= bulkWrite {
		c.s.takeAcks()
	}
}

// bulkWrite is the size in bytes from which a Write looks for acknowledgements.
const bulkWrite = 16 << 10

// takeAcks takes the packets that have arrived, for a goroutine that writes much.
// Otherwise it would look only when the send buffer is full, after it had used more
// frames than the processor's cache holds.
func (s *Stack) takeAcks() {
	if s.rxPending() && s.tryBegin() {
		s.poll()
		if s.end() > 0 {
			runtime.Gosched()
		}
	}
}

// smallWrite is the size in bytes up to which a Write is copied under the lock,
// rather than handed to the lock's holder.
const smallWrite = 256
