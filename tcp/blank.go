package tcp

import "github.com/onload-go/onload/ring"

// BlankFrames is how many frames a Blank has at most: two of the largest packets
// of Ethernet's segments.
const BlankFrames = 96

// Blank is room in a send buffer: frames that a writer has yet to fill.
type Blank struct {
	frames [BlankFrames]ring.Frame
	room
}

// room is how a number of frames is to be filled.
type room struct {
	n     int // frames
	chunk int // bytes for each but the last
	bytes int // for all
}

// Blank takes room for up to n bytes, which Fill gives back. false: the buffer is
// full or closed for writing, as with Write. Safe without the lock, for the writer.
func (c *Conn) Blank(b *Blank, n int) bool {
	n = min(n, BlankFrames*int(c.chunk.Load()))
	if packet := int(c.packet.Load()); n > packet {
		n -= n % packet // above one packet, only full packets
	}
	if b.room = c.reserve(b.frames[:], n); b.n > 0 {
		return true
	}
	if c.flags.Load()&sharedNoWrite != 0 {
		return false
	}
	c.flags.Or(sharedWantWrite) // and look again, as Write
	b.room = c.reserve(b.frames[:], n)
	return b.n > 0
}

// reserve fills fs with frames for up to n bytes, n > 0, which count as used from
// then on. It returns zero room if there is none.
func (c *Conn) reserve(fs []ring.Frame, n int) (r room) {
	if c.flags.Load()&sharedNoWrite != 0 {
		return r
	}
	a := c.h.Arena
	chunk := int(c.chunk.Load())
	limit := int(c.sndLimit.Load())
	frames, used := c.sndUsed.load()
	n = min(limit-used, n)
	count := min((n+chunk-1)/chunk, min(sendFrames(limit), c.sendShare())-frames, len(fs))
	if n <= 0 || count <= 0 {
		return r
	}
	if count = a.AllocN(fs[:count]); count == 0 {
		return r
	}
	r = room{count, chunk, min(n, count*chunk)}
	c.sndUsed.add(r.n, r.bytes)
	return r
}

// Slices appends the parts of b to to, in order.
func (c *Conn) Slices(b *Blank, to [][]byte) [][]byte {
	left := b.bytes
	for _, f := range b.frames[:b.n] {
		k := min(left, b.chunk)
		to = append(to, c.h.Arena.Bytes(f)[ring.Headroom:ring.Headroom+k])
		left -= k
	}
	return to
}

// Fill sends the first n bytes of b, which the caller has written, and gives
// back the rest. The caller lets Output run afterwards. Safe without the lock,
// for the writer.
func (c *Conn) Fill(b *Blank, n int) {
	a := c.h.Arena
	left := b.bytes - n
	rest := 0
	for i, f := range b.frames[:b.n] {
		if n == 0 {
			b.frames[rest] = b.frames[i]
			rest++
			continue
		}
		k := min(n, b.chunk)
		m := a.Meta(f)
		m.Off, m.Len = ring.Headroom, uint16(k)
		c.sumLater(f, m)
		c.sndBox.Push(a, f)
		n -= k
	}
	a.FreeN(b.frames[:rest])
	c.sndUsed.add(-rest, -left)
	b.room = room{}
}

// sumLater sums a frame whose payload was not copied, unless the device will sum
// it. A device sums either every packet or only those of more than one segment;
// this one will most likely be of several.
func (c *Conn) sumLater(f ring.Frame, m *ring.Meta) {
	if c.h.TSO > 0 && !c.h.TxCsum {
		m.Flags |= frameUnsummed
		return
	}
	c.sum(f, m)
}
