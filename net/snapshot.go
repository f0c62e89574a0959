package onload

import (
	"net/netip"

	"github.com/onload-go/onload/driver"
)

// Snapshot is what a monitor wants to know of an Engine at one time. Package metrics
// makes it Prometheus's, and expvar's.
type Snapshot struct {
	// Interfaces are in the states that Status returns, without Warnings and Advice,
	// which cost system calls.
	Interfaces []InterfaceStatus
	Teams      []TeamStats
	// Listeners are the accelerated ones, by address.
	Listeners []ListenerStats
}

// TeamStats are the counters of interfaces that share memory and stacks. Those of an
// interface that shares neither stand alone.
type TeamStats struct {
	Interfaces []string // names
	Stats      Stats    // of all of them together, without Queues
	Queues     []QueueStats
}

// QueueStats are the counters of a queue. Queue is its number on the NIC, or its place
// among the queues where the device has no numbers.
type QueueStats struct {
	Interface string
	Queue     int
	driver.Stats
}

// ListenerStats are the counters of a listener. The address :: of a listener on all
// addresses of both families is the zero Addr here.
type ListenerStats struct {
	Addr     netip.AddrPort
	Waiting  int // connections that wait for Accept, those of the kernel included
	Backlog  int // how many of ours may
	HalfOpen int // that wait for the last ACK of their handshake
	// Accepted counts connections, those of the kernel included, Overflows the SYNs and
	// ACKs that were dropped because Backlog connections were waiting.
	Accepted, Overflows uint64
}

// Snapshot returns the counters of all accelerated interfaces and listeners. Numbers of
// one Stats belong together; others may be some microseconds apart.
func (e *Engine) Snapshot() Snapshot {
	var s Snapshot
	for _, i := range e.in.States() {
		s.Interfaces = append(s.Interfaces, interfaceStatus(i))
	}
	for _, t := range e.in.Teams() {
		team := TeamStats{Interfaces: t.Interfaces, Stats: Stats(t.Stats)}
		for _, q := range t.Queues {
			team.Queues = append(team.Queues, QueueStats(q))
		}
		s.Teams = append(s.Teams, team)
	}
	for _, l := range e.in.Listeners() {
		s.Listeners = append(s.Listeners, ListenerStats(l))
	}
	return s
}
