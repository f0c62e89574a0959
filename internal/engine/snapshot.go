package engine

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/internal/stack"
)

// Team is interfaces that share stacks, with what those have counted.
type Team struct {
	Interfaces []string
	Stats      stack.Stats // without Queues
	Queues     []QueueStats
}

// QueueStats are the counters of a queue. Queue is its number on the NIC, or its place
// among the queues where the device has no numbers.
type QueueStats struct {
	Interface string
	Queue     int
	driver.Stats
}

// Teams returns the counters of all teams, in the order of their first interfaces.
func (e *Engine) Teams() []Team {
	var teams []Team
	at := map[*stack.Stack]int{}
	for _, i := range e.interfaces() {
		s := i.first()
		if s == nil {
			continue
		}
		n, ok := at[s]
		if !ok {
			n = len(teams)
			at[s] = n
			teams = append(teams, Team{Stats: stack.TeamCounts(i.Stacks)})
		}
		t := &teams[n]
		t.Interfaces = append(t.Interfaces, i.Name)
		for place, q := range i.Device.Queues() {
			t.Queues = append(t.Queues, QueueStats{i.Name, queueNumber(q, place), q.Stats()})
		}
	}
	return teams
}

// queueNumber is the number of q on its NIC, or place.
func queueNumber(q driver.Queue, place int) int {
	if n, ok := q.(interface{ ID() int }); ok {
		return n.ID()
	}
	return place
}

// ListenerStats are the counters of a listener. Accepted includes the connections that
// the kernel's listener on the same address had.
type ListenerStats struct {
	Addr                netip.AddrPort
	Waiting, Backlog    int    // connections that wait for Accept; how many may
	HalfOpen            int    // that wait for the last ACK of their handshake
	Accepted, Overflows uint64 // connections; SYNs and ACKs dropped because Backlog were waiting
}

// Listeners returns the counters of all accelerated listeners, by address.
func (e *Engine) Listeners() []ListenerStats {
	e.bound.mu.Lock()
	var ls []*Listener
	for x := range e.bound.all {
		if l, ok := x.(*Listener); ok {
			ls = append(ls, l)
		}
	}
	e.bound.mu.Unlock()
	all := make([]ListenerStats, len(ls))
	for i, l := range ls {
		all[i] = l.stats()
	}
	slices.SortFunc(all, func(a, b ListenerStats) int {
		return cmp.Or(a.Addr.Compare(b.Addr), cmp.Compare(b.Accepted, a.Accepted))
	})
	return all
}

func (l *Listener) stats() ListenerStats {
	l.mu.Lock()
	shards := slices.Clone(l.shards)
	l.mu.Unlock()
	st := ListenerStats{Addr: l.Addr(), Waiting: l.first.Waiting()}
	for _, s := range shards {
		backlog, halfOpen, accepted, overflows := s.Counts()
		st.Backlog = backlog
		st.HalfOpen += halfOpen
		st.Accepted += accepted
		st.Overflows += overflows
	}
	st.Accepted += l.first.Injected()
	return st
}
