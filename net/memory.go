package onload

import (
	"net/netip"

	"github.com/onload-go/onload/driver/sim"
	"github.com/onload-go/onload/internal/engine"
)

// MemoryConfig describes one end of an in-memory link.
type MemoryConfig struct {
	// Addrs are the addresses with their subnets, 10.0.0.1/24 and
	// fd00::1/64 for the first end and ...2 for the second where there are
	// none.
	Addrs []netip.Prefix
	// MTU of the link, 1500 where it is 0.
	MTU int
	// Faults is what the link does to packets that leave this end; Seed has
	// it do the same each time.
	Faults Faults
	Seed   uint64
	// Config are the settings of the engine. Those of interfaces and queues
	// do not matter.
	Config Config
}

// Faults is what an in-memory link does to packets: loss, reordering, delay,
// a limited rate...
type Faults = sim.Faults

// NewMemoryPair makes two engines joined by a link in memory: no interface, no
// privileges, no kernel. They reach nothing but each other, by literal
// addresses. It is for tests, and to try things.
func NewMemoryPair(a, b MemoryConfig) (*Engine, *Engine, error) {
	ea, eb, err := engine.NewMemoryPair(a.inner(), b.inner())
	if err != nil {
		return nil, nil, err
	}
	return &Engine{in: ea}, &Engine{in: eb}, nil
}

func (c *MemoryConfig) inner() engine.MemoryConfig {
	return engine.MemoryConfig{Addrs: c.Addrs, MTU: c.MTU, Faults: c.Faults, Seed: c.Seed, Config: engine.Config(c.Config)}
}
