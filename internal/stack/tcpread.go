package stack

import (
	"io"
	"os"

	"github.com/onload-go/onload/tcp"
)

// Read reads the data that has arrived, and waits if there is none. io.EOF is the
// peer's FIN.
func (c *TCPConn) Read(p []byte) (int, error) {
	c.rmu.Lock()
	for {
		n, err := c.readNow(p)
		if n == 0 {
			switch {
			case err == errFrozen:
				c.thawed(&c.rmu)
				continue
			case err == nil && len(p) > 0:
				if err = c.s.wait(c, dirRead, &c.r); err == nil {
					continue
				}
			}
		}
		c.rmu.Unlock()
		return n, err
	}
}

// readNow reads the data that has arrived. 0, nil: there is nothing to read yet, or p
// is empty. rmu is held.
func (c *TCPConn) readNow(p []byte) (int, error) {
	if err := c.userError(); err != nil {
		return 0, err
	}
	if len(p) == 0 {
		return 0, nil
	}
	if c.r.over() {
		return 0, os.ErrDeadlineExceeded
	}
	// The error is looked at before the data, since data that came before it is
	// read first.
	err := c.failure()
	n, eof, update := c.tc.Read(p)
	if update {
		c.do(todoWindow)
	}
	if n > 0 {
		// A stack that was closed meanwhile has taken its frames away.
		if c.s.life.closing.Load() {
			return 0, errClosed
		}
		return n, nil
	}
	return 0, c.noData(eof, err)
}

// noData returns why a read that found nothing need not wait; nil if it is worth
// waiting. eof and err say how the stream has ended.
func (c *TCPConn) noData(eof bool, err error) error {
	if eof {
		return io.EOF
	}
	if err != nil {
		return err
	}
	if c.state.Load()&stReadClosed != 0 {
		return io.EOF
	}
	if c.tc.State() == tcp.SynSent {
		c.do(todoConnect) // nobody answers a SYN that waits for data
	}
	return nil
}

// userError returns the error of a socket that the user, or the owner of the stack, has
// closed, and errFrozen where the caller, which holds rmu or wmu, is to let Freeze have
// it (thawed); nil: it is open.
func (c *TCPConn) userError() error {
	if st := c.state.Load(); st&(stClosed|stFrozen) != 0 || c.s.life.ending.Load() {
		if st&stFrozen != 0 && c.closedError() == nil {
			return errFrozen
		}
		return errClosed
	}
	return nil
}

// closedError is userError for callers without those mutexes.
func (c *TCPConn) closedError() error {
	if c.state.Load()&stClosed != 0 || c.s.life.ending.Load() {
		return errClosed
	}
	return nil
}

// failure returns the error that has ended the connection, nil while it lives. A
// stack that closes resets its connections, which is a close for their users.
func (c *TCPConn) failure() error {
	err := c.tc.Err()
	if err != nil && c.closedError() != nil {
		return errClosed
	}
	return err
}
