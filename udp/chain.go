package udp

import "github.com/onload-go/onload/ring"

// part is the remainder of joined datagrams of which some were read.
type part struct {
	at   ring.Frame
	off  int // bytes of its payload that were read
	left int // bytes of all; 0: none was begun
}

// readChain reads from the datagram that begins in frame f: all of it or, of joined
// ones, the next, unless joined is true. It frees the frames once all was read.
func (q *Queue) readChain(p []byte, f ring.Frame, info *Info, joined bool) (n, full int) {
	at := &q.part
	if at.left == 0 {
		*at = part{at: f}
		for g := f; g != ring.NoFrame; g = q.arena.Meta(g).Prev {
			at.left += int(q.arena.Meta(g).Len)
		}
	}
	full = at.left
	if !joined {
		if info.Seg > 0 {
			full = min(full, info.Seg)
		}
		info.Seg = 0
	}
	n = q.copyPart(p, full)
	if at.left -= full; at.left == 0 {
		q.next = q.arena.Meta(f).Next
		q.freeChain(f)
	}
	return n, full
}

// copyPart copies the next full bytes to p as far as they fit, and moves past all
// of them.
func (q *Queue) copyPart(p []byte, full int) (n int) {
	at := &q.part
	for left := full; left > 0; {
		m := q.arena.Meta(at.at)
		b := q.arena.Bytes(at.at)[int(m.Off)+at.off : int(m.Off)+int(m.Len)]
		b = b[:min(left, len(b))]
		n += copy(p[n:], b)
		left -= len(b)
		if at.off += len(b); at.off == int(m.Len) {
			at.at, at.off = m.Prev, 0
		}
	}
	return n
}

// freeChain frees a datagram that was read.
func (q *Queue) freeChain(f ring.Frame) {
	n := q.charge(f)
	var free [32]ring.Frame
	k := 0
	for f != ring.NoFrame {
		if k == len(free) {
			q.arena.FreeN(free[:])
			k = 0
		}
		free[k] = f
		k++
		f = q.arena.Meta(f).Prev
	}
	q.arena.FreeN(free[:k])
	q.held.Add(-n)
}
