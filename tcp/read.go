package tcp

import "github.com/onload-go/onload/ring"

// readBatch is how many frames Read gives back to the arena at once.
const readBatch = 16

// Read copies received data to p. eof: the peer's stream ended, and nothing is
// left. update: the window should be advertised anew, so the caller lets
// WindowUpdate run. 0, false: there is nothing to read now. Safe without the lock,
// for one reader at a time.
func (c *Conn) Read(p []byte) (n int, eof, update bool) {
	f := c.readList
	// Load the mark first: the FIN is marked after all data was pushed.
	if end := c.flags.Load()&sharedEOF != 0; f == ring.NoFrame && c.rcvBox.Empty() {
		return 0, end, false
	}
	a := c.h.Arena
	var fs [readBatch]ring.Frame
	batch, frames := 0, 0
	for n < len(p) {
		if f == ring.NoFrame {
			// Load the mark first: the FIN is marked after all data was pushed.
			end := c.flags.Load()&sharedEOF != 0
			if f, _ = c.rcvBox.TakeAll(a); f == ring.NoFrame {
				eof = end && n == 0
				break
			}
		}
		m := a.Meta(f)
		k := copy(p[n:], a.Bytes(f)[m.Off:m.Off+m.Len])
		n += k
		if k < int(m.Len) {
			m.Off += uint16(k)
			m.Len -= uint16(k)
			break
		}
		fs[batch] = f
		f = m.Next
		frames++
		if batch++; batch == readBatch {
			a.FreeN(fs[:])
			batch = 0
		}
	}
	c.readList = f
	if n == 0 {
		return 0, eof, false
	}
	if batch == 1 {
		a.Free(fs[0])
	} else {
		a.FreeN(fs[:batch])
	}
	c.rcvUsed.add(-frames, -n)
	return n, false, c.worthUpdate(c.rcvEdge.Load())
}

// Readable reports whether Read would return data or the end of the stream, or Err
// an error. Safe without the lock, for the reader.
func (c *Conn) Readable() bool {
	return c.readList != ring.NoFrame || !c.rcvBox.Empty() ||
		c.flags.Load()&sharedEOF != 0 || c.state.Load() == uint32(Closed) && c.dead()
}

// dead reports whether the connection has ended. The state Closed alone may also
// mean that it has not begun.
func (c *Conn) dead() bool { return c.flags.Load()&sharedNoWrite != 0 }

// dropReceived frees the frames that wait for the reader.
func (c *Conn) dropReceived() {
	a := c.h.Arena
	f, _ := c.rcvBox.TakeAll(a)
	for f != ring.NoFrame {
		m := a.Meta(f)
		next := m.Next
		c.rcvUsed.add(-1, -int(m.Len))
		c.h.Cache.Free(f)
		f = next
	}
}
