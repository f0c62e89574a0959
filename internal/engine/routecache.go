package engine

import (
	"net/netip"
	"sync"
)

// routeCache remembers which shard sends to a few destinations, so that a route
// is not looked up for every datagram.
type routeCache struct {
	mu      sync.Mutex
	entries *[cacheSize]cachedRoute
}

type cachedRoute struct {
	dst   netip.Addr
	gen   uint64 // of the network's state that it was found in
	shard int
}

const (
	cacheSize   = 64
	kernelShard = -1
)

// slot spreads neighbours, whose addresses differ in their last bytes.
func slot(a netip.Addr) int {
	b := a.As16()
	return int(b[15]^b[14]<<3) % cacheSize
}

func (c *routeCache) get(dst netip.Addr, gen uint64) (shard int, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.entries == nil {
		return 0, false
	}
	e := &c.entries[slot(dst)]
	return e.shard, e.dst == dst && e.gen == gen
}

func (c *routeCache) put(dst netip.Addr, gen uint64, shard int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.entries == nil {
		c.entries = new([cacheSize]cachedRoute)
	}
	c.entries[slot(dst)] = cachedRoute{dst, gen, shard}
}

// clear forgets all.
func (c *routeCache) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.entries = nil
}
