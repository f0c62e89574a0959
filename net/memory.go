package onload

import (
	"net/netip"
	"time"

	"github.com/onload-go/onload/driver/sim"
	"github.com/onload-go/onload/internal/engine"
)

// MemoryConfig describes one end of an in-memory link.
type MemoryConfig struct {
	// Addrs are the addresses with their subnets. The default is 10.0.0.1/24 and
	// fd00::1/64 for the first end, ...2 for the second.
	Addrs []netip.Prefix
	// MTU of the link in bytes; 0 means 1500.
	MTU int
	// Faults says what the link does to packets that leave this end. The same Seed
	// makes it do the same each time.
	Faults Faults
	Seed   uint64
	// Config has the settings of the engine. Those of interfaces and queues do not
	// matter.
	Config Config
}

// Faults says what an in-memory link does to packets. The zero value does nothing.
type Faults struct {
	// Probabilities for each packet, from 0 to 1.
	Loss      float64
	Duplicate float64
	Corrupt   float64 // some bits behind the Ethernet header are flipped
	Reorder   float64 // delayed by ReorderDelay more, so that others pass

	ReorderDelay time.Duration // default 1 ms

	Delay  time.Duration
	Jitter time.Duration // additional delay, uniform from 0 to this; it does not reorder

	Rate         int64 // bits per second; 0: no limit
	QueueBytes   int   // of the queue before the bottleneck; 0: no limit
	QueuePackets int   // likewise; default 1000 when neither is set
	MarkBytes    int   // ECN: a queue longer than this marks instead of waiting to drop

	MTU int // larger IP packets vanish, with no ICMP

	// Drop decides for each packet, numbered from 0, before all other faults. frame
	// is the packet with its Ethernet header.
	Drop func(n uint64, frame []byte) bool
}

// NewMemoryPair makes two engines joined by a link in memory: no interface, no
// privileges, no kernel. They reach only each other, by literal addresses. It is
// for tests and for trying things out.
func NewMemoryPair(a, b MemoryConfig) (*Engine, *Engine, error) {
	ea, eb, err := engine.NewMemoryPair(a.inner(), b.inner())
	if err != nil {
		return nil, nil, err
	}
	return &Engine{in: ea}, &Engine{in: eb}, nil
}

func (c *MemoryConfig) inner() engine.MemoryConfig {
	return engine.MemoryConfig{Addrs: c.Addrs, MTU: c.MTU, Faults: sim.Faults(c.Faults), Seed: c.Seed, Config: engine.Config(c.Config)}
}
