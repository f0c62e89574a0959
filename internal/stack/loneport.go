package stack

import (
	"math/rand/v2"
	"net/netip"
)

// Where descriptors run short, connections get lone ports. They are outside of the
// kernel's range, so that the kernel gives one only to a socket that asks for its
// number. They are steered by the whole flow, so that such a socket misses only
// what this one peer sends.

// unprivileged is the first port that any process may bind.
const unprivileged = 1024

// full reports whether ports have taken as many descriptors as they may.
func (t *portTable) full() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.kernel != nil && t.held >= t.most
}

// alone takes a port for one connection only, or nil if there is none. It is chosen
// at random (RFC 6056 section 3.3.1).
func (t *portTable) alone(k localAddr, remote netip.AddrPort, taken flowTaken) *port {
	if t.kernel == nil {
		return nil
	}
	low, high, err := t.kernel.Ephemeral()
	if err != nil || low > high {
		return nil
	}
	below := max(0, int(low)-unprivileged)
	n := below + 0xffff - int(high)
	if n < idleLeast {
		return nil // too few to be hard to guess
	}
	for range reserveTries {
		number := unprivileged + rand.IntN(n)
		if number >= unprivileged+below {
			number += int(high) + 1 - unprivileged - below
		}
		p := &port{space: &portSpace{at: k}, number: uint16(number), refs: 1, remote: remote}
		if taken(p.addr(), remote, reuseAfter) || !t.unbound(p) {
			continue
		}
		if !t.steerLone(p) {
			return nil
		}
		return p
	}
	return nil
}

func (t *portTable) steerLone(p *port) bool {
	t.steerMu.RLock()
	defer t.steerMu.RUnlock()
	if t.device.AddFlow(p.space.at.proto, p.addr(), p.remote, true) != nil {
		return false
	}
	t.mu.Lock()
	t.lone[p] = struct{}{}
	t.mu.Unlock()
	return true
}

// unbound reports whether no socket of the kernel's is bound to p.
func (t *portTable) unbound(p *port) bool {
	h, err := t.kernel.Hold(p.space.at.proto, p.addr())
	if err != nil {
		return false
	}
	h.Close()
	return true
}
