package tcp

import "github.com/onload-go/onload/ring"

// Peek copies to p what Read would, and takes nothing (MSG_PEEK). eof: the peer's
// stream ended, and nothing is left. Safe without the lock, for the reader.
func (c *Conn) Peek(p []byte) (n int, eof bool) {
	// Load the mark first: the FIN is marked after all data was pushed.
	end := c.flags.Load()&sharedEOF != 0
	a := c.h.Arena
	link := &c.readList
	for f := *link; f != ring.NoFrame; f = *link {
		m := a.Meta(f)
		n += copy(p[n:], a.Bytes(f)[m.Off:m.Off+m.Len])
		link = &m.Next
	}
	if f, _ := c.rcvBox.TakeAll(a); f != ring.NoFrame {
		*link = f
		for ; f != ring.NoFrame; f = a.Meta(f).Next {
			m := a.Meta(f)
			n += copy(p[n:], a.Bytes(f)[m.Off:m.Off+m.Len])
		}
	}
	return n, end && c.readList == ring.NoFrame
}

// Unread is how many bytes Read would return. Safe without the lock, for the
// reader.
func (c *Conn) Unread() int {
	_, n := c.rcvUsed.load()
	return n
}

// FirstOctet is the sequence number of an octet that the peer has acknowledged: that of
// the SYN, or of data that went with it. It is called when the connection is established.
func (c *Conn) FirstOctet() uint32 { return c.sndUna - 1 }

// Ended reports whether all that the peer sends has come. Safe without the lock.
func (c *Conn) Ended() bool { return c.flags.Load()&sharedEOF != 0 }
