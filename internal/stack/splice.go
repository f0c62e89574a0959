package stack

import (
	"math"
	"os"

	"github.com/onload-go/onload/tcp"
)

// spliceMost is how many bytes SpliceFrom has in hand at most. Neither connection's
// buffer counts them.
const spliceMost = 64 << 10

// SpliceFrom sends what src receives, up to most bytes or src's end of stream,
// without the bytes passing through memory of the caller's. If both are of one
// stack, the received frames leave again; otherwise they are copied once. Neither
// connection is blocked for its other users while it waits for the other one.
// SpliceFrom returns the bytes that c has taken, and the error of either side.
// Received bytes that could not be sent are lost, as with io.Copy, unless c was handed
// over: then src has them again, for the next carrier. cut: fewer bytes are wanted than
// are in one frame; the caller moves them by Read and Write.
func (c *TCPConn) SpliceFrom(src *TCPConn, most int64) (n int64, cut bool, srcErr, err error) {
	var t tcp.Frames
	for n < most {
		if cut, srcErr = src.takeFrames(&t, int(min(most-n, spliceMost))); cut || srcErr != nil {
			return n, cut, srcErr, nil
		}
		k, err := c.giveFrames(&t)
		n += int64(k)
		if err != nil {
			if c.state.Load()&stMoved != 0 {
				src.putBack(&t)
			}
			t.Drop()
			return n, false, nil, err
		}
	}
	return n, false, nil, nil
}

// takeFrames is Read for frames.
func (c *TCPConn) takeFrames(t *tcp.Frames, most int) (cut bool, err error) {
	c.rmu.Lock()
	defer c.rmu.Unlock()
	for {
		if err := c.userError(); err == errFrozen {
			c.thawed(&c.rmu)
			continue
		} else if err != nil {
			return false, err
		}
		if c.r.over() {
			return false, os.ErrDeadlineExceeded
		}
		// This comes before the data: data from before the error is read first.
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

// putBack has the frames in t read again, unless c is closed or was handed over too.
func (c *TCPConn) putBack(t *tcp.Frames) {
	c.rmu.Lock()
	defer c.rmu.Unlock()
	if c.closedError() == nil {
		c.tc.Untake(t)
	}
}

// giveFrames is Write for frames, which it takes out of t.
func (c *TCPConn) giveFrames(t *tcp.Frames) (n int, err error) {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	for {
		c.yieldToHalf()
		if err := c.mayWrite(); err == errFrozen {
			c.thawed(&c.wmu)
			continue
		} else if err != nil {
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

// FillBuffers bounds the parts of Fill's room.
const FillBuffers = tcp.BlankFrames

// Fill sends up to most bytes that read puts into the frames that they leave in.
// read is called once. It is given no more than most, and returns how many bytes it
// has written to bufs, in order. Fill returns how many were sent, and the error of
// read or of the connection. read must not use the connection.
func (c *TCPConn) Fill(most int64, bufs [][]byte, read func(bufs [][]byte) (int, error)) (n int, readErr, err error) {
	var b tcp.Blank
	c.wmu.Lock()
	defer c.wmu.Unlock()
	for {
		c.yieldToHalf()
		if err := c.mayWrite(); err == errFrozen {
			c.thawed(&c.wmu)
			continue
		} else if err != nil {
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
	// Close waits for us, and nobody would take later bytes.
	if err := c.closedError(); err != nil {
		c.tc.Fill(&b, 0)
		return 0, readErr, err
	}
	c.tc.Fill(&b, n)
	c.written(n)
	return n, readErr, nil
}
