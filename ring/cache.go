package ring

// Cache keeps a few free frames beside an Arena, so that its owner (the
// holder of the stack lock) allocates and frees without atomic operations.
type Cache struct {
	arena *Arena
	n     int
	most  int // frames to keep
	fs    [cacheMost]Frame
}

// cacheMost and cachePart bound the frames that are kept where nobody else finds
// them: so many in each cache, and that part of the arena in all of them together,
// but leastCached in each.
const (
	cacheMost   = 128
	cachePart   = 16
	leastCached = 2
)

// NewCache returns an empty cache of a, one of so many.
func NewCache(a *Arena, caches int) *Cache {
	most := a.Frames() / (cachePart * caches)
	return &Cache{arena: a, most: min(max(most, leastCached), cacheMost)}
}

// Arena is the arena behind the cache.
func (c *Cache) Arena() *Arena { return c.arena }

// Alloc takes a frame with one reference; ok is false when none is free.
func (c *Cache) Alloc() (f Frame, ok bool) {
	if c.n == 0 {
		if c.n = c.arena.takeN(c.fs[:c.most/2]); c.n == 0 {
			return NoFrame, false
		}
	}
	c.n--
	f = c.fs[c.n]
	c.arena.claim(f)
	return f, true
}

// Free takes back a frame that has one reference and is in no ring.
func (c *Cache) Free(f Frame) {
	m := c.arena.Meta(f)
	if m.refs != 1 {
		panic("ring: free of a frame that is free or that others hold")
	}
	m.refs = 0
	if c.n == c.most {
		c.spill(c.most / 2)
	}
	c.fs[c.n] = f
	c.n++
}

// Release drops one reference, and frees f with the last.
func (c *Cache) Release(f Frame) {
	if m := c.arena.Meta(f); m.refs > 1 {
		m.refs--
		return
	}
	c.Free(f)
}

// FreeDescs frees the frames of ds.
func (c *Cache) FreeDescs(ds []Desc) {
	for i := range ds {
		c.Free(ds[i].Frame)
	}
}

// Len returns the number of cached frames, all of them free.
func (c *Cache) Len() int { return c.n }

// Flush returns every cached frame to the arena.
func (c *Cache) Flush() { c.spill(0) }

// spill returns all but keep frames to the arena.
func (c *Cache) spill(keep int) {
	c.arena.pushN(c.fs[keep:c.n])
	c.n = keep
}
