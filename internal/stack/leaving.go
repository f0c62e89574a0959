package stack

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/onload-go/onload/internal/control"
	"github.com/onload-go/onload/ip"
)

// leaving has the ports whose listener or bound socket has closed while their packets
// come to us: connections may live on them, and packets may be on their way. What is
// nobody's there is the kernel's: its socket, or another process that shares the port
// (SO_REUSEPORT) or has bound it since, serves it. The stacks of a team have one in
// common, since their device brings the packets of a port to all of them.
type leaving struct {
	some atomic.Bool // ports is not empty: no packet pays otherwise

	mu    sync.Mutex // leaf
	ports map[leavingPort]*departure
	flows map[flowKey]int64 // of connections that were handed over, until when
	swept int64
}

type leavingPort struct {
	proto  uint8
	number uint16
}

// departure is how far the kernel has a port again.
type departure struct {
	steered int   // ports of this number that still come to us
	until   int64 // packets of the others may be on their way until then
}

// lastPackets is how long packets of a port may be on the rings after it is no longer
// steered, in ns. A reactor that is late reads them a second later at most.
const lastPackets = int64(time.Second)

// begin is called before a port leaves the demultiplexer, end when it is steered no
// longer.
func (l *leaving) begin(proto uint8, number uint16, now int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sweep(now)
	if l.ports == nil {
		l.ports = map[leavingPort]*departure{}
	}
	k := leavingPort{proto, number}
	d := l.ports[k]
	if d == nil {
		d = &departure{}
		l.ports[k] = d
	}
	d.steered++
	l.some.Store(true)
}

func (l *leaving) end(proto uint8, number uint16, now int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if d := l.ports[leavingPort{proto, number}]; d != nil {
		d.steered--
		d.until = now + lastPackets
	}
}

// has reports whether what is nobody's at the port is the kernel's.
func (l *leaving) has(proto uint8, number uint16, now int64) bool {
	if !l.some.Load() {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sweep(now)
	return l.ports[leavingPort{proto, number}] != nil
}

// move notes that the connection between two ends was handed over to another carrier.
func (l *leaving) move(local, remote netip.AddrPort, now int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sweep(now)
	if l.flows == nil {
		l.flows = map[flowKey]int64{}
	}
	l.flows[makeFlowKey(local, remote)] = now + lastPackets
	l.some.Store(true)
}

// hasMoved reports whether segments of that connection may be on their way yet.
func (l *leaving) hasMoved(local, remote netip.AddrPort, now int64) bool {
	if !l.some.Load() {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sweep(now)
	_, moved := l.flows[makeFlowKey(local, remote)]
	return moved
}

// sweep forgets the ports that are the kernel's again; it looks once a second.
func (l *leaving) sweep(now int64) {
	if now-l.swept < lastPackets {
		return
	}
	l.swept = now
	for k, d := range l.ports {
		if d.steered == 0 && now > d.until {
			delete(l.ports, k)
		}
	}
	for k, until := range l.flows {
		if now > until {
			delete(l.flows, k)
		}
	}
	l.some.Store(len(l.ports)+len(l.flows) > 0)
}

// depart notes that p, whose socket is about to leave the demultiplexer, is the kernel's
// but for connections. It is not where only a socket that receives in our place holds
// it (UDP), nor where no kernel has it.
func (t *portTable) depart(p *port, now int64) {
	if p == nil || t.kernel == nil {
		return
	}
	t.mu.Lock()
	first := !p.departed && (p.space.at.proto == ip.ProtoTCP || p.held == control.Held{})
	p.departed = p.departed || first
	t.mu.Unlock()
	if first {
		t.leaving.begin(p.space.at.proto, p.number, now)
	}
}

// hasDeparted is called when p is steered no longer.
func (t *portTable) hasDeparted(p *port) {
	t.mu.Lock()
	was := p.departed
	p.departed = false
	t.mu.Unlock()
	if was {
		t.leaving.end(p.space.at.proto, p.number, nanotime())
	}
}
