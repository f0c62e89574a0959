package stack

import (
	"net/netip"
	"syscall"

	"github.com/onload-go/onload/driver"
)

// DestinationGlance is a destination as an onlooker sees it: a route in use.
type DestinationGlance struct {
	Local, Remote netip.Addr
	Proto, TOS    uint8
	Link          int // index; 0: none
	Detour        bool
	NextHop       netip.Addr
	MTU           int // of the route
	PathMTU       int // of UDP, as a router says; 0: none did
	Users         int // sockets that share it
	Waiting       int // packets that wait for the neighbour
	Ready         bool
	Err           syscall.Errno // why there is no route at present; 0: there is
}

// EachDestination calls f with each destination, without the lock.
func (s *Stack) EachDestination(f func(*DestinationGlance)) {
	var all []*dst
	s.begin()
	for _, d := range s.dests.all { // a map may change while nobody looks at it
		if all = append(all, d); len(all)%glanceGroups == 0 {
			s.end()
			s.begin()
		}
	}
	s.end()
	var gs [glanceConns]DestinationGlance
	eachOf(s, all, gs[:], func(d *dst, g *DestinationGlance) bool {
		*g = DestinationGlance{
			Local: d.key.Local, Remote: d.key.Remote, Proto: d.key.proto, TOS: d.key.tos,
			Link: linkOfDst(d), Detour: d.detour, NextHop: d.route.NextHop, MTU: d.route.MTU, PathMTU: d.pathMTU,
			Users: d.refs, Waiting: len(d.parked), Ready: d.ready,
		}
		if d.gone {
			g.Err = d.why
		}
		return true
	}, f)
}

// QueueGlance is a queue as an onlooker sees it.
type QueueGlance struct {
	Queue   driver.Queue
	Link    int
	Lacks   int // frames that the device lacks to receive into
	TxSpace int // descriptors that it would take
}

// Queues returns the queues of all links.
func (s *Stack) Queues() (l []QueueGlance) {
	for _, k := range s.links() {
		for _, q := range k.queues() {
			l = append(l, QueueGlance{Queue: q, Link: k.index})
		}
	}
	s.begin()
	defer s.end()
	if s.life.closing.Load() {
		return l
	}
	for i := range l {
		l[i].Lacks, l[i].TxSpace = l[i].Queue.Lacks(), l[i].Queue.TxSpace()
	}
	return l
}
