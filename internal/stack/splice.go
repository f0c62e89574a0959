package stack

import (
	"math"
	"os"

	"github.com/onload-go/onload/tcp"
)

// spliceMost is how many bytes SpliceFrom has in hand at most, which neither
// connection's buffer counts.
const spliceMost = 64 << 10

// SpliceFrom sends what src receives, up to most bytes or src's end of stream,
// without the bytes passing through memory of the caller's: where both are of
// one stack the frames that they came in leave again, else they are copied once.
// Neither connection is held up for its other users while it waits for the
// other one. It returns the bytes that c has taken, and the error of either
// side. What was received and could not be sent is lost, as with io.Copy. cut:
// fewer bytes are wanted than are in one frame; Read and Write are to move them.
func (c *TCPConn) SpliceFrom(src *TCPConn, most int64) (n int64, cut bool, srcErr, err error) {
	var t tcp.Frames
	for n < most {
		if cut, srcErr = src.takeFrames(&t, int(min(most-n, spliceMost))); cut || srcErr != nil {
			return n, cut, srcErr, nil
		}
		k, err := c.giveFrames(&t)
		n += int64(k)
		if err != nil {
			t.Drop()
			return n, false, nil, err
		}
	}
	return n, false, nil, nil
}

// takeFrames is Read, but for frames.
func (c *TCPConn) takeFrames(t *tcp.Frames, most int) (cut bool, err error) {
	c.rmu.Lock()
	defer c.rmu.Unlock()
	for {
		if err := c.userError(); err != nil {
			return false, err
		}
		if c.r.over() {
			return false, os.ErrDeadlineExceeded
		}
		// Before the data: what came before the error is read first.
		err := c.failure()
		cut, eof, update := c.tc.Take(t, most)
		if update {
			c.do(todoWindow)
		}
		if cut {
			return true, nil
		}
		if t.Len() > 0 {
			// A stack that was closed meanwhile has taken its frames away.
			if c.s.life.closing.Load() {
				t.Drop()
				return false, errClosed
			}
			return false, nil
		}
		if err := c.noData(eof, err); err != nil {
			return false, err
		}
		if err := c.s.wait(c, dirRead, &c.r); err != nil {
			return false, err
		}
	}
}

// giveFrames is Write, but of frames, which it takes out of t.
func (c *TCPConn) giveFrames(t *tcp.Frames) (n int, err error) {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	for {
		if err := c.mayWrite(); err != nil {
			return n, err
		}
		k := c.tc.Give(t)
		n += k
		c.written(k)
		if t.Len() == 0 {
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

// FillBuffers is how many parts Fill's room has at most.
const FillBuffers = tcp.BlankFrames

// Fill sends up to most bytes that read puts into the frames that they leave in:
// one call of read, which returns how many it has written to bufs, in order, and
// is given no more than most. It returns how many were sent, and the error of
// read or of the connection. read must not use the connection.
func (c *TCPConn) Fill(most int64, bufs [][]byte, read func(bufs [][]byte) (int, error)) (n int, readErr, err error) {
	var b tcp.Blank
	c.wmu.Lock()
	defer c.wmu.Unlock()
	for {
		if err := c.mayWrite(); err != nil {
			return 0, nil, err
		}
		if c.tc.Blank(&b, int(min(most, math.MaxInt32))) {
			break
		}
		c.written(0)
		if err := c.s.wait(c, dirWrite, &c.w); err != nil {
			return 0, nil, err
		}
	}
	n, readErr = read(c.tc.Slices(&b, bufs[:0]))
	// Who closes waits for us, and nobody would take what comes after.
	if err := c.userError(); err != nil {
		c.tc.Fill(&b, 0)
		return 0, readErr, err
	}
	c.tc.Fill(&b, n)
	c.written(n)
	return n, readErr, nil
}
