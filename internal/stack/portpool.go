package stack

import (
	"math/rand/v2"
	"net/netip"
	"syscall"

	"github.com/onload-go/onload/internal/control"
)

const (
	// A pool keeps up to poolPorts ports that no connection uses. Each is a
	// descriptor of the process, whose number is limited: idle ports take at most
	// an eighth of the limit, all reserved ports a quarter.
	poolPorts = 4096
	poolPart  = 8
	poolMost  = 4
	// idleLeast is the least number of ports to choose one from, whether idle or
	// used by connections to other peers. Among fewer, a server that has seen one
	// could guess the next (RFC 6056).
	idleLeast = 512
	// Limits on the search.
	portTries    = 4
	fullTries    = 16
	reserveTries = 32
)

// flowTaken reports whether there is a connection from local to remote, or there
// was one less than age nanoseconds ago.
type flowTaken func(local, remote netip.AddrPort, age int64) bool

// bind reserves a port for a connection from local to remote. For port 0 it chooses
// one at random (RFC 6056). If there are many ports, it chooses among those of
// ended connections and of connections to other peers, as the kernel does.
// Otherwise, or if the connection shares its port, it takes a new one.
func (t *portTable) bind(proto uint8, local, remote netip.AddrPort, share control.Sharing, taken flowTaken) (*port, error) {
	if local.Port() != 0 || share != (control.Sharing{}) {
		return t.bindLocal(proto, local, false, share)
	}
	k := localAddr{proto, local.Addr()}
	if p := t.tryIdle(k, min(idleLeast, t.enough), remote, taken); p != nil {
		return p, nil
	}
	full := t.full()
	tries := portTries
	if full {
		tries = fullTries
	}
	for range tries {
		if p := t.tryUsed(k, t.shareFrom, rand.Int(), remote, taken); p != nil {
			return p, nil
		}
	}
	if full {
		if p := t.alone(k, remote, taken); p != nil {
			return p, nil
		}
	}
	for range reserveTries {
		p, err := t.reserve(proto, local, false)
		if err == nil {
			p, err = t.steer(p)
		}
		if err != nil {
			if p := t.tryIdle(k, 1, remote, taken); p != nil {
				return p, nil
			}
			if p := t.search(k, remote, taken); p != nil {
				return p, nil
			}
			if p := t.alone(k, remote, taken); p != nil {
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

// tryIdle takes a port that no connection uses, if there are at least that many.
func (t *portTable) tryIdle(k localAddr, least int, remote netip.AddrPort, taken flowTaken) *port {
	for range portTries {
		p := t.takeIdle(k, least)
		if p == nil {
			return nil
		}
		if !taken(p.addr(), remote, reuseSoon) {
			return p
		}
		t.release(p)
	}
	return nil
}

// takeIdle takes a port of the quarter that has been idle for longest, since
// younger ones may have connections in TIME-WAIT.
func (t *portTable) takeIdle(k localAddr, least int) *port {
	t.mu.Lock()
	defer t.mu.Unlock()
	sp := t.spaces[k]
	if sp == nil || len(sp.idle) < least {
		return nil
	}
	idle := sp.idle
	i := rand.IntN((len(idle) + 3) / 4)
	p := idle[i]
	idle[i], idle[0] = idle[0], nil
	sp.idle = idle[1:]
	p.refs = 1
	return p
}

// tryUsed takes the i-th port of a pool (any i; it is reduced), if the pool has at
// least that many ports, connections use the port, and none of them leads to
// remote.
func (t *portTable) tryUsed(k localAddr, least, i int, remote netip.AddrPort, taken flowTaken) *port {
	p := t.takeUsed(k, least, i)
	if p != nil && taken(p.addr(), remote, reuseAfter) {
		t.release(p)
		return nil
	}
	return p
}

func (t *portTable) takeUsed(k localAddr, least, i int) *port {
	t.mu.Lock()
	defer t.mu.Unlock()
	sp := t.spaces[k]
	if sp == nil || len(sp.pool) < max(least, 1) {
		return nil
	}
	p := sp.pool[i%len(sp.pool)]
	if p.refs == 0 {
		return nil // idle ports were offered already
	}
	p.refs++
	return p
}

// search looks at every port of the pool. It is for when no other port can be had:
// the kernel has none left, or the process no descriptor.
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
		if p := t.tryUsed(k, 1, first+i, remote, taken); p != nil {
			return p
		}
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
