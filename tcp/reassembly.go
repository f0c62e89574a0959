package tcp

import (
	"slices"
	"sort"

	"github.com/onload-go/onload/ring"
)

// maxRanges bounds the separate pieces of an out-of-order queue, and so the cost of
// an insertion (CVE-2018-5390).
const maxRanges = 512

// piece is a run of consecutive frames, linked through Meta.Next.
type piece struct {
	lo, hi      uint32
	first, last ring.Frame
}

// reassembly is the out-of-order queue of a connection: pieces in order of sequence
// number that neither touch nor overlap. It is searched by bisection, and maxRanges
// bounds what an insertion moves. A connection has one only while something is
// missing.
type reassembly struct {
	list   []piece
	frames int
	recent [4]uint32 // a sequence number in each of the newest pieces
	known  int       // valid ones
}

// takeReassembly returns an empty queue.
func (h *Host) takeReassembly() *reassembly {
	if n := len(h.pool); n > 0 {
		r := h.pool[n-1]
		h.pool = h.pool[:n-1]
		return r
	}
	return &reassembly{list: make([]piece, 0, 16)}
}

// putReassembly keeps an empty queue for the next connection.
func (h *Host) putReassembly(r *reassembly) {
	if len(h.pool) < 64 {
		r.known = 0
		h.pool = append(h.pool, r)
	}
}

func (r *reassembly) empty() bool { return len(r.list) == 0 }

// end is the end of the last piece; the queue is not empty.
func (r *reassembly) end() uint32 { return r.list[len(r.list)-1].hi }

// find returns the index of the first piece that ends at or after seq.
func (r *reassembly) find(seq uint32) int {
	return sort.Search(len(r.list), func(i int) bool { return seqGE(r.list[i].hi, seq) })
}

// overlap returns the first part of [lo, hi) that the queue has already.
func (r *reassembly) overlap(lo, hi uint32) (from, to uint32, ok bool) {
	i := r.find(lo + 1)
	if i == len(r.list) || !seqLT(r.list[i].lo, hi) {
		return 0, 0, false
	}
	p := &r.list[i]
	if seqGT(p.lo, lo) {
		lo = p.lo
	}
	if seqLT(p.hi, hi) {
		hi = p.hi
	}
	return lo, hi, true
}

// insert takes frame f, whose Meta describes its payload. limit is the most frames
// that the queue may hold. dup reports whether the queue had all of it already.
func (r *reassembly) insert(h *ring.Cache, f ring.Frame, limit int) (dup bool) {
	last := h.Arena().Meta(f)
	seq := last.Seq + uint32(last.Len) - 1
	dup = r.put(h, f, limit)
	r.touch(seq)
	return dup
}

func (r *reassembly) put(h *ring.Cache, f ring.Frame, limit int) (dup bool) {
	a := h.Arena()
	m := a.Meta(f)
	lo, hi := m.Seq, m.Seq+uint32(m.Len)
	i := r.find(lo)
	// r.list[i] is the first that may touch [lo, hi) from the left or overlap.
	join := false // f continues r.list[i]
	if i < len(r.list) {
		p := &r.list[i]
		if seqLE(p.lo, lo) {
			if seqGE(p.hi, hi) {
				h.Free(f)
				return true
			}
			trimFrame(m, p.hi, hi)
			lo = p.hi
			join = true
		}
	}
	// f replaces pieces that it covers whole; a piece that it overlaps cuts f.
	j := i
	if join {
		j++
	}
	k := j
	for k < len(r.list) && seqLE(r.list[k].hi, hi) {
		r.release(h, &r.list[k])
		k++
	}
	r.list = slices.Delete(r.list, j, k)
	meets := j < len(r.list) && seqLE(r.list[j].lo, hi)
	if meets {
		trimFrame(m, lo, r.list[j].lo)
		hi = r.list[j].lo
	}
	switch {
	case join && r.copyInto(h, &r.list[i], f, m, limit):
		r.list[i].hi = hi
	case r.frames >= limit || !join && !meets && len(r.list) >= maxRanges:
		// The queue is full. The piece furthest from delivery is worth least.
		if j == len(r.list) || !r.evictAbove(h, hi) {
			h.Free(f)
			return false
		}
		// Eviction may have taken the piece that f meets.
		r.place(a, f, lo, hi, i, join, j < len(r.list) && r.list[j].lo == hi)
		return false
	default:
		r.place(a, f, lo, hi, i, join, meets)
		return false
	}
	if meets {
		r.fuse(a, i)
	}
	return false
}

// place links f in at index i: behind piece i if join is set, in front of the next
// if meets is set.
func (r *reassembly) place(a *ring.Arena, f ring.Frame, lo, hi uint32, i int, join, meets bool) {
	m := a.Meta(f)
	m.Next = ring.NoFrame
	r.frames++
	switch {
	case join:
		p := &r.list[i]
		a.Meta(p.last).Next = f
		p.last, p.hi = f, hi
		if meets {
			r.fuse(a, i)
		}
	case meets:
		p := &r.list[i]
		m.Next = p.first
		p.first, p.lo = f, lo
	default:
		r.list = slices.Insert(r.list, i, piece{lo, hi, f, f})
	}
}

// fuse joins piece i and the next, which begins where piece i ends.
func (r *reassembly) fuse(a *ring.Arena, i int) {
	p, q := &r.list[i], &r.list[i+1]
	a.Meta(p.last).Next = q.first
	p.last, p.hi = q.last, q.hi
	r.list = slices.Delete(r.list, i+1, i+2)
}

// copyInto copies the payload of f behind that of the last frame of p, and frees f.
// It does so if the payload fits and is small or frames are getting scarce.
func (r *reassembly) copyInto(h *ring.Cache, p *piece, f ring.Frame, m *ring.Meta, limit int) bool {
	a := h.Arena()
	t := a.Meta(p.last)
	if int(m.Len) > a.FrameSize()/8 && r.frames < limit/2 ||
		int(t.Off)+int(t.Len)+int(m.Len) > a.FrameSize() {
		return false
	}
	copy(a.Bytes(p.last)[t.Off+t.Len:], a.Bytes(f)[m.Off:m.Off+m.Len])
	t.Len += m.Len
	h.Free(f)
	return true
}

// touch notes that the piece with seq is the newest.
func (r *reassembly) touch(seq uint32) {
	i := r.find(seq + 1)
	if i == len(r.list) || seqGT(r.list[i].lo, seq) {
		return // it was dropped
	}
	n := 0
	var keep [4]uint32
	for _, s := range r.recent[:r.known] {
		if n < 3 && !seqIn(s, r.list[i].lo, r.list[i].hi) {
			keep[n+1] = s
			n++
		}
	}
	keep[0] = seq
	r.recent, r.known = keep, n+1
}

// blocks fills b with the newest pieces, newest first.
func (r *reassembly) blocks(b []SACKBlock) (n int) {
	for _, seq := range r.recent[:r.known] {
		if n == len(b) {
			return n
		}
		n = r.block(b, n, r.find(seq+1), seq)
	}
	// The rest of the room goes to other pieces, nearest to delivery first.
	for i := 0; i < len(r.list) && n < len(b); i++ {
		n = r.block(b, n, i, r.list[i].lo)
	}
	return n
}

// block adds piece i to b if it holds seq and is not in b yet.
func (r *reassembly) block(b []SACKBlock, n, i int, seq uint32) int {
	if i == len(r.list) || seqGT(r.list[i].lo, seq) {
		return n
	}
	s := SACKBlock{Start: r.list[i].lo, End: r.list[i].hi}
	if slices.Contains(b[:n], s) {
		return n
	}
	b[n] = s
	return n + 1
}

// pop returns the frame that holds the byte next, trimmed to begin there, or
// NoFrame. It frees everything before.
func (r *reassembly) pop(h *ring.Cache, next uint32) ring.Frame {
	a := h.Arena()
	for len(r.list) > 0 {
		p := &r.list[0]
		if seqGT(p.lo, next) {
			return ring.NoFrame
		}
		f := p.first
		m := a.Meta(f)
		p.first = m.Next
		r.frames--
		end := m.Seq + uint32(m.Len)
		p.lo = end
		if p.first == ring.NoFrame {
			r.list = slices.Delete(r.list, 0, 1)
		}
		if seqGT(end, next) {
			trimFrame(m, next, end)
			return f
		}
		h.Free(f)
	}
	return ring.NoFrame
}

// evict releases the last piece.
func (r *reassembly) evict(h *ring.Cache) bool {
	n := len(r.list)
	if n == 0 {
		return false
	}
	r.release(h, &r.list[n-1])
	r.list = r.list[:n-1]
	return true
}

// evictAbove releases the last piece if it begins at or after seq.
func (r *reassembly) evictAbove(h *ring.Cache, seq uint32) bool {
	n := len(r.list)
	return n > 0 && seqGE(r.list[n-1].lo, seq) && r.evict(h)
}

// clear releases all.
func (r *reassembly) clear(h *ring.Cache) {
	for r.evict(h) {
	}
	r.known = 0
}

func (r *reassembly) release(h *ring.Cache, p *piece) {
	a := h.Arena()
	for f := p.first; f != ring.NoFrame; {
		next := a.Meta(f).Next
		h.Free(f)
		r.frames--
		f = next
	}
}
