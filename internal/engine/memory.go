package engine

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/onload-go/onload/driver/sim"
	"github.com/onload-go/onload/internal/control"
	"github.com/onload-go/onload/internal/outside"
	"github.com/onload-go/onload/internal/stack"
)

// MemoryConfig describes one end of an in-memory link. Package onload has the
// same fields, where they are described.
type MemoryConfig struct {
	Addrs  []netip.Prefix
	MTU    int
	Faults sim.Faults
	Seed   uint64
	Config Config

	// Watch, unless nil, gets the network that the engine and its stack ask, and
	// returns the one to ask instead. It is for tests.
	Watch func(control.Network) control.Network
}

// memoryMAC is the link-layer address of an end, locally administered.
func memoryMAC(end int) [6]byte { return [6]byte{2, 0, 0, 0, 0, byte(end + 1)} }

// NewMemoryPair makes two engines joined by a link in memory, behind which there is
// no kernel. They reach only each other.
func NewMemoryPair(a, b MemoryConfig) (ea, eb *Engine, err error) {
	outside.Do(func() { ea, eb, err = newMemoryPair(a, b) })
	return ea, eb, err
}

func newMemoryPair(a, b MemoryConfig) (*Engine, *Engine, error) {
	ends := [2]*MemoryConfig{&a, &b}
	for i, c := range ends {
		if err := c.Config.check(); err != nil {
			return nil, nil, err
		}
		if len(c.Addrs) == 0 {
			c.Addrs = []netip.Prefix{
				netip.MustParsePrefix(fmt.Sprintf("10.0.0.%d/24", i+1)),
				netip.MustParsePrefix(fmt.Sprintf("fd00::%d/64", i+1)),
			}
		}
		if c.MTU == 0 {
			c.MTU = 1500
		}
	}
	da, db, err := sim.New(memoryNIC(0, &a), memoryNIC(1, &b), sim.LinkConfig{
		AtoB: a.Faults, BtoA: b.Faults, Seed: a.Seed ^ b.Seed<<1,
	})
	if err != nil {
		return nil, nil, fmt.Errorf("onload: %w", err)
	}
	ea, err := newMemoryEngine(0, &a, &b, da)
	if err != nil {
		return nil, nil, errors.Join(err, db.Close())
	}
	eb, err := newMemoryEngine(1, &b, &a, db)
	if err != nil {
		return nil, nil, errors.Join(err, ea.Close())
	}
	return ea, eb, nil
}

func memoryNIC(end int, c *MemoryConfig) sim.Config {
	return sim.Config{
		Name:      fmt.Sprintf("mem%d", end),
		MTU:       c.MTU,
		Queues:    c.Config.teamOf(stack.MaxQueues),
		FrameSize: c.Config.FrameSize,
		Frames:    c.Config.Frames,
		TxRing:    c.Config.RingSize,
		RxRing:    c.Config.RingSize,
		TakeAll:   true, // there is no kernel to answer for closed ports
	}
}

// newMemoryEngine makes the engine of one end. It owns dev, also when it
// fails.
func newMemoryEngine(end int, c, peer *MemoryConfig, dev *sim.Device) (*Engine, error) {
	const link = 1
	network := control.NewStatic(control.Link{
		Index: link, Name: dev.Name(), MAC: memoryMAC(end), MTU: c.MTU, Up: true, Carrier: true,
		Kind: "sim", Driver: "sim", Addrs: c.Addrs,
	})
	for _, p := range peer.Addrs {
		network.SetNeighbor(link, p.Addr(), memoryMAC(1-end))
	}
	e := newEngine(c.Config)
	if e.net = network; c.Watch != nil {
		e.net = c.Watch(network)
	}
	sc := e.stackConfig()
	sc.Called = true
	sc.Over(link, dev)
	sc.Links[0].NoKernel = true
	team, err := stack.NewTeam(sc, c.Config.teamOf(len(dev.Queues())))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("onload: %w", err), network.Close())
	}
	e.ifs = []*Interface{{Name: dev.Name(), Index: link, Stacks: team, Device: dev}}
	e.show()
	return e, nil
}
