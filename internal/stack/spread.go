package stack

import (
	"net/netip"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/internal/control"
	"github.com/onload-go/onload/ip"
)

// spread is how a device spreads TCP flows over the stacks of a team: by a hash of
// addresses and ports, through the NIC's indirection table. What a NIC hashes of UDP
// differs, often the addresses only. Who changes the table (ethtool -X) only has
// more packets handed over.
type spread struct {
	hash    *driver.Toeplitz
	stackOf []int // by entry of the table
}

// numbered is a queue that knows its number at the interface.
type numbered interface{ ID() int }

// newSpread returns how the device of l spreads over n stacks; nil: nobody knows.
// Queue q of l is stack q%n's.
func newSpread(l *Link, n int) *spread {
	c := l.Queues[0].Caps()
	if len(c.RSSKey) == 0 || len(c.RSSTable) == 0 {
		return nil
	}
	of := map[int]int{}
	for q := range l.Queues {
		id := q
		if x, ok := l.Queues[q].(numbered); ok {
			id = x.ID()
		}
		of[id] = q % n
	}
	p := &spread{hash: driver.NewToeplitz(c.RSSKey)}
	for _, id := range c.RSSTable {
		at, ok := of[int(id)]
		if !ok {
			at = -1 // the queue is not ours
		}
		p.stackOf = append(p.stackOf, at)
	}
	return p
}

// stack is the index of the stack that receives a packet, -1 for none.
func (p *spread) stack(src, dst netip.AddrPort) int {
	return p.stackOf[int(p.hash.Flow(src, dst))%len(p.stackOf)]
}

// bindDial reserves the port of a connection to remote. Where the device's hash is
// known it looks for one, among so many as bind tries, with which the answers come by
// a queue of this stack.
func (s *Stack) bindDial(local, remote netip.AddrPort, route *Route, share control.Sharing) (*port, error) {
	if t := s.demux.mates.team; t != nil && local.Port() == 0 && share == (control.Sharing{}) {
		if sp := (*t.spreads.Load())[s.linkOfRoute(route)]; sp != nil {
			taken := func(local, remote netip.AddrPort, age int64) bool {
				return sp.stack(remote, local) != s.demux.mates.index || s.flowTaken(local, remote, age)
			}
			for range 1 + t.size()/8 {
				if p, err := s.ports.bind(ip.ProtoTCP, local, remote, share, taken); err == nil {
					return p, nil
				}
			}
		}
	}
	return s.ports.bind(ip.ProtoTCP, local, remote, share, s.flowTaken)
}

// linkOfRoute is the index of the interface that carries the route, 0 if that is
// none of the stack's.
func (s *Stack) linkOfRoute(r *Route) int {
	l, ok := s.cfg.Net.Link(r.Link)
	if !ok {
		return 0
	}
	for _, k := range s.links() {
		if k.carries(l) {
			return k.index
		}
	}
	return 0
}
