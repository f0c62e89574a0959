package stack

import (
	"cmp"
	"syscall"
	"time"
)

// CloseRead makes reads return io.EOF where they would wait, as shutdown(SHUT_RD)
// does. The peer is not told.
func (c *TCPConn) CloseRead() error {
	var ended error
	err := c.look(func() {
		if c.state.Load()&stDone != 0 {
			ended = syscall.ENOTCONN
			return
		}
		c.state.Or(stReadClosed)
		c.tc.CloseRead()
	})
	if err != nil || ended != nil {
		return cmp.Or(err, ended)
	}
	c.s.wake(&c.r)
	return nil
}

// CloseWrite sends FIN after all that was written.
func (c *TCPConn) CloseWrite() error {
	if err := c.closedError(); err != nil {
		return err
	}
	// A caller that has just read EOF may be ahead of the turn that ends the
	// connection.
	c.s.begin()
	c.s.end()
	if c.state.Load()&stDone != 0 {
		return syscall.ENOTCONN
	}
	c.state.Or(stWriteClosed)
	c.s.wake(&c.w)
	c.wmu.Lock()
	defer c.wmu.Unlock()
	if err := c.closedError(); err != nil {
		return err // another carrier has it by now, or it was closed
	}
	c.do(todoCloseWrite)
	return nil
}

// Close ends the connection: in order, or by a reset if unread data would be lost
// or SO_LINGER says so. Blocked calls return net.ErrClosed.
func (c *TCPConn) Close() error {
	for {
		st := c.state.Load()
		if st&stClosed != 0 {
			return errClosed
		}
		if c.state.CompareAndSwap(st, st|stClosed) {
			break
		}
	}
	c.s.wake(&c.r)
	c.s.wake(&c.w)
	c.rmu.Lock()
	c.wmu.Lock()
	if c.state.Load()&stMoved != 0 {
		c.wmu.Unlock()
		c.rmu.Unlock()
		return errClosed // another carrier has it by now, and is to be closed
	}
	if c.s.life.closing.Load() {
		if c.s.shared() {
			c.do(todoClose) // frees the frames
		}
	} else {
		c.do(todoClose)
		if sec := c.tc.Linger(); sec > 0 {
			c.s.setDeadline(&c.w, time.Now().Add(time.Duration(sec)*time.Second))
			// Linux returns success even if the time was not enough.
			_ = c.s.wait(lingering{c}, dirWrite, &c.w)
		}
		// The goroutine that read the last bytes left the queues unarmed, since it
		// was expected back soon. It may not come back, and the next client must
		// not wait for the reactor's tick.
		c.s.arm()
	}
	c.r.stop()
	c.w.stop()
	c.wmu.Unlock()
	c.rmu.Unlock()
	return nil
}
