package stack

import (
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/onload-go/onload/ip"
	"github.com/onload-go/onload/tcp"
)

// given has the TCP flows that were handed over to the kernel (see Release). Their
// packets may be on the rings still, and where a port is steered to us as a whole, each
// of its flows that is the kernel's is excepted. The stacks of a team have it in
// common, as they have leaving.
type given struct {
	some atomic.Bool // flows is not empty: no stray packet pays otherwise

	mu    sync.Mutex        // leaf
	flows map[flowKey]int64 // forgotten then, in ns; 0: as long as the port is steered
	swept int64
}

// givenFlow is a flow that is excepted from its port.
type givenFlow struct{ local, remote netip.AddrPort }

// add enters a flow, which is forgotten at until; 0: not by itself.
func (g *given) add(f givenFlow, until int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.flows == nil {
		g.flows = map[flowKey]int64{}
	}
	g.flows[makeFlowKey(f.local, f.remote)] = until
	g.some.Store(true)
}

// has reports whether a flow is the kernel's.
func (g *given) has(local, remote netip.AddrPort, now int64) bool {
	if !g.some.Load() {
		return false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if now-g.swept >= lastPackets {
		g.sweep(now)
	}
	_, ok := g.flows[makeFlowKey(local, remote)]
	return ok
}

// sweep forgets the flows whose packets are no longer on the rings.
func (g *given) sweep(now int64) {
	g.swept = now
	for k, until := range g.flows {
		if until != 0 && now > until {
			delete(g.flows, k)
		}
	}
	g.some.Store(len(g.flows) > 0)
}

// give has the packets of a TCP flow on p go to the kernel, as long as p is steered.
func (t *portTable) give(p *port, f givenFlow) {
	t.steerMu.RLock()
	defer t.steerMu.RUnlock()
	if p == nil || p.remote.IsValid() { // nobody has it when the connection has left it
		t.leaving.given.add(f, nanotime()+lastPackets)
		return
	}
	t.leaving.given.add(f, 0)
	// Where the device has no room, packets come to us and go back by returnGiven.
	_ = t.device.AddFlow(ip.ProtoTCP, f.local, f.remote, false)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.given == nil {
		t.given = map[*port][]givenFlow{}
	}
	t.given[p] = append(t.given[p], f)
}

// ungive ends the exceptions from p, which is steered no longer.
func (t *portTable) ungive(p *port) {
	t.mu.Lock()
	flows := t.given[p]
	delete(t.given, p)
	t.mu.Unlock()
	for _, f := range flows {
		_ = t.device.RemoveFlow(ip.ProtoTCP, f.local, f.remote)
		t.leaving.given.add(f, nanotime()+lastPackets)
	}
}

// returnGiven gives the kernel a segment of a flow that was handed over to it, and
// frees it. false: it is not of such a flow, or no kernel is behind the link.
func (s *Stack) returnGiven(seg *tcp.Segment) bool {
	return s.ports.leaving.given.has(seg.Local, seg.Remote, s.now) && s.returnWhole(seg.Payload, s.headers(seg))
}
