package stack

import (
	"hash/maphash"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/onload-go/onload/ip"
)

// owners says which stack of a team has a flow: a TCP connection, also one in
// TIME-WAIT, or a connected UDP socket. It is asked about packets only that the
// stack has no flow for which received them.
type owners struct {
	seed  maphash.Seed
	udps  atomic.Int64 // flows of UDP
	parts [ownerParts]ownerPart
}

// ownerParts is how many locks share the flows.
const ownerParts = 64

type ownerPart struct {
	mu sync.Mutex // leaf
	of map[ownedFlow]uint8
	_  [48]byte // parts are in cache lines of their own
}

type ownedFlow struct {
	flowKey
	proto uint8
}

func (o *owners) init() {
	o.seed = maphash.MakeSeed()
	for i := range o.parts {
		o.parts[i].of = make(map[ownedFlow]uint8)
	}
}

func (o *owners) part(local, remote netip.AddrPort) *ownerPart {
	return &o.parts[flowHash(o.seed, local, remote)%ownerParts]
}

// claim makes the flow the i-th stack's. false: it is another's.
func (o *owners) claim(proto uint8, local, remote netip.AddrPort, i int) bool {
	p, k := o.part(local, remote), ownedFlow{makeFlowKey(local, remote), proto}
	p.mu.Lock()
	defer p.mu.Unlock()
	j, taken := p.of[k]
	if taken {
		return int(j) == i
	}
	p.of[k] = uint8(i)
	if proto == ip.ProtoUDP {
		o.udps.Add(1)
	}
	return true
}

// release ends the i-th stack's claim.
func (o *owners) release(proto uint8, local, remote netip.AddrPort, i int) {
	p, k := o.part(local, remote), ownedFlow{makeFlowKey(local, remote), proto}
	p.mu.Lock()
	defer p.mu.Unlock()
	if j, taken := p.of[k]; !taken || int(j) != i {
		return
	}
	delete(p.of, k)
	if proto == ip.ProtoUDP {
		o.udps.Add(-1)
	}
}

// of returns the index of the stack that has the flow.
func (o *owners) of(proto uint8, local, remote netip.AddrPort) (i int, ok bool) {
	p, k := o.part(local, remote), ownedFlow{makeFlowKey(local, remote), proto}
	p.mu.Lock()
	defer p.mu.Unlock()
	j, ok := p.of[k]
	return int(j), ok
}

// len is the number of flows.
func (o *owners) len() (n int) {
	for i := range o.parts {
		p := &o.parts[i]
		p.mu.Lock()
		n += len(p.of)
		p.mu.Unlock()
	}
	return n
}

// claim makes a flow this stack's. false: another stack of the team has it.
func (m *mates) claim(proto uint8, local, remote netip.AddrPort) bool {
	return m.team == nil || m.team.flows.claim(proto, local, remote, m.index)
}

func (m *mates) release(proto uint8, local, remote netip.AddrPort) {
	if m.team != nil {
		m.team.flows.release(proto, local, remote, m.index)
	}
}

// owner returns the other stack that has a flow.
func (m *mates) owner(proto uint8, local, remote netip.AddrPort) (i int, ok bool) {
	if m.team == nil || proto == ip.ProtoUDP && m.team.flows.udps.Load() == 0 {
		return 0, false
	}
	i, ok = m.team.flows.of(proto, local, remote)
	return i, ok && i != m.index
}

// handshakes remembers which stack of a team took the last SYN of a flow. Where the
// queue does not follow from the flow alone, as with a kernel over veth, another
// stack gets what comes next, or the SYN again. Entries replace one another, so that
// a flood of SYNs takes no memory: what is forgotten is taken by whom it comes to.
type handshakes struct {
	of [handshakesMost]atomic.Uint64 // tag, index of the stack, age: 48, 8 and 8 bits; 0: none
}

const (
	handshakesMost = 1 << 12
	// ageShift makes ages of nanoseconds: 4.3 s each, of which handshakeAges are
	// longer than a SYN-ACK is repeated (RFC 6298: 1, 2, 4 ... 32 s).
	ageShift      = 32
	handshakeAges = 15
)

// taker returns the stack that took the flow's last SYN.
func (h *handshakes) taker(hash uint64, now int64) (i int, ok bool) {
	e := h.of[hash%handshakesMost].Load()
	if e == 0 || e>>16 != hash>>16 || uint8(now>>ageShift)-uint8(e) > handshakeAges {
		return 0, false
	}
	return int(e >> 8 & 0xff), true
}

// take notes that the i-th stack takes the flow's SYN.
func (h *handshakes) take(hash uint64, i int, now int64) {
	h.of[hash%handshakesMost].Store(hash>>16<<16 | uint64(i)<<8 | uint64(uint8(now>>ageShift)))
}
