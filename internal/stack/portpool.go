package stack

import (
	"math/rand/v2"
	"net/netip"
	"syscall"
)

const (
	// Ports in a pool that are kept though none uses them, and from which on
	// connections to different peers share one. They are descriptors of the
	// process, which has a limit.
	poolPorts = 4096
	poolPart  = 8
	// With so many idle, a port is used again rather sooner than another one is
	// reserved.
	idleEnough = 512
	// Limits on the search.
	portTries    = 4
	reserveTries = 32
)

// flowTaken tells whether there is a connection from local to remote, or was
// one less than age nanoseconds ago.
type flowTaken func(local, remote netip.AddrPort, age int64) bool

// bind reserves a port for a connection from local to remote. A local port 0
// is chosen at random (RFC 6056): of ended connections; where there are many,
// of connections to other peers, as the kernel does; else a new one.
func (t *portTable) bind(proto uint8, local, remote netip.AddrPort, shared bool, taken flowTaken) (*port, error) {
	if local.Port() != 0 {
		return t.bindLocal(proto, local, false, shared)
	}
	k := localAddr{proto, local.Addr()}
	for range portTries {
		p, age := t.takeIdle(k)
		if p == nil {
			break
		}
		if !taken(p.addr(), remote, age) {
			return p, nil
		}
		t.release(p)
	}
	for range portTries {
		p := t.takeUsed(k, t.enough, rand.Int())
		if p == nil {
			break
		}
		if !taken(p.addr(), remote, reuseAfter) {
			return p, nil
		}
		t.release(p)
	}
	for range reserveTries {
		p, err := t.reserve(proto, local, false)
		if err != nil {
			if p := t.search(k, remote, taken); p != nil {
				return p, nil
			}
			return nil, err
		}
		t.mu.Lock()
		p.space.addPool(p)
		t.mu.Unlock()
		// The kernel knows nothing of our connections in TIME-WAIT.
		if !taken(p.addr(), remote, reuseAfter) {
			return p, nil
		}
		t.release(p)
	}
	return nil, syscall.EADDRNOTAVAIL
}

// takeIdle takes a port that no connection uses, one of the older ones, since
// the younger are in TIME-WAIT; age is how old that has to be. nil: there is
// none.
func (t *portTable) takeIdle(k localAddr) (p *port, age int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	sp := t.spaces[k]
	if sp == nil || len(sp.idle) == 0 {
		return nil, 0
	}
	age = reuseAfter
	if len(sp.idle) >= min(idleEnough, t.enough) {
		age = reuseSoon
	}
	idle := sp.idle
	i := rand.IntN(max(min(len(idle), 32), len(idle)/4))
	p = idle[i]
	idle[i], idle[0] = idle[0], nil
	sp.idle = idle[1:]
	p.refs = 1
	return p, age
}

// takeUsed takes the port at i, which may be any number, of a pool that has
// at least so many, with those that use it. nil: there is none.
func (t *portTable) takeUsed(k localAddr, least, i int) *port {
	t.mu.Lock()
	defer t.mu.Unlock()
	sp := t.spaces[k]
	if sp == nil || len(sp.pool) < max(least, 1) {
		return nil
	}
	// The idle ones were offered already, and are in that list too.
	for range portTries {
		if p := sp.pool[i%len(sp.pool)]; p.refs > 0 {
			p.refs++
			return p
		}
		i++
	}
	return nil
}

// search looks at every port of the pool, when no more can be had: the kernel
// has none, or the process no descriptor.
func (t *portTable) search(k localAddr, remote netip.AddrPort, taken flowTaken) *port {
	t.mu.Lock()
	sp := t.spaces[k]
	if sp == nil {
		t.mu.Unlock()
		return nil
	}
	n := len(sp.pool)
	t.mu.Unlock()
	first := rand.IntN(n + 1)
	for i := range n {
		p := t.takeUsed(k, 1, first+i)
		if p == nil {
			continue
		}
		if !taken(p.addr(), remote, reuseAfter) {
			return p
		}
		t.release(p)
	}
	return nil
}

// addPool puts p into the pool. The table's lock is held.
func (sp *portSpace) addPool(p *port) {
	sp.pool = append(sp.pool, p)
	p.pos = int32(len(sp.pool))
}

// unpool takes p out of it. The table's lock is held.
func (sp *portSpace) unpool(p *port) {
	if !p.pooled() {
		return
	}
	last := len(sp.pool) - 1
	o := sp.pool[last]
	sp.pool[p.pos-1], sp.pool[last] = o, nil
	o.pos = p.pos
	sp.pool = sp.pool[:last]
	p.pos = 0
}
