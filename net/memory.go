package onload

import (
	"errors"
	"fmt"
	"net/netip"
	"syscall"

	"github.com/onload-go/onload/driver/sim"
	"github.com/onload-go/onload/internal/control"
	"github.com/onload-go/onload/internal/stack"
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

// memoryMAC is the link-layer address of an end, locally administered.
func memoryMAC(end int) [6]byte { return [6]byte{2, 0, 0, 0, 0, byte(end + 1)} }

// NewMemoryPair makes two engines joined by a link in memory: no interface, no
// privileges, no kernel. They reach nothing but each other, by literal
// addresses. It is for tests, and to try things.
func NewMemoryPair(a, b MemoryConfig) (*Engine, *Engine, error) {
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
	e.memory = true
	e.net = network
	s, err := stack.New(stack.Config{
		Name: dev.Name(), Link: link, Device: dev, Net: network,
		Profile: c.Config.Profile, Spin: c.Config.Spin, TCP: e.stackTCP(), Log: e.log,
		MaxOrphans: c.Config.MaxOrphans, MaxTimeWaits: c.Config.MaxTimeWaits,
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("onload: %w", err), network.Close())
	}
	e.ifs = []*iface{{name: dev.Name(), index: link, stack: s}}
	return e, nil
}

// memoryWay is way for an engine without a kernel: the peer, or nowhere.
func (e *Engine) memoryWay(dst, src netip.Addr) (*stack.Stack, error) {
	if !dst.IsValid() || dst.IsUnspecified() {
		return nil, syscall.ENETUNREACH
	}
	r, err := e.net.Route(dst, src)
	if err != nil {
		return nil, err
	}
	s, _ := e.stackOf(r.Link)
	if s == nil || r.Local || r.Multicast || r.Broadcast {
		return nil, syscall.ENETUNREACH
	}
	return s, nil
}
