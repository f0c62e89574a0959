package engine

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"runtime"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/internal/stack"
)

// A team is the stacks that span the same interfaces (stack.NewTeam). Bound sockets
// have a shard on each of them; of a connection one is chosen when it is made.

// PerCore is Config.Stacks for a stack for each processor and queue.
const PerCore = -1

func setStacks(c *Config, v string) error {
	if v == "per-core" {
		c.Stacks = PerCore
		return nil
	}
	if err := number(&c.Stacks, v); err != nil {
		return err
	}
	return within(c.Stacks, 0, stack.MaxQueues)
}

func checkStacks(c *Config) error {
	if c.Stacks == PerCore {
		return nil
	}
	return within(c.Stacks, 0, stack.MaxQueues)
}

// teamOf is the number of stacks over interfaces of which the one with the fewest
// queues has that many. The opener refuses interfaces with fewer than Config.Stacks.
func (c *Config) teamOf(fewest int) int {
	if c.Stacks == PerCore {
		return max(1, min(fewest, runtime.GOMAXPROCS(0), stack.MaxQueues))
	}
	return max(1, c.Stacks)
}

// enoughQueues returns why a device cannot have the stacks that the configuration
// asks for.
func (c *Config) enoughQueues(d driver.Device) error {
	n := len(d.Queues())
	switch {
	case n >= c.Stacks:
		return nil
	case len(c.Queues) > 0:
		return &driver.SettingError{Field: "Stacks", Err: fmt.Errorf("%d stacks want a queue each, ONLOAD_QUEUES takes %d of %s", c.Stacks, n, d.Name())}
	}
	word := "queues"
	if n == 1 {
		word = "queue"
	}
	return &driver.SettingError{Field: "Stacks", Err: fmt.Errorf("%s has %d %s, %d stacks want one each (ethtool -L)", d.Name(), n, word, c.Stacks)}
}

// pick chooses a stack for packets between local and remote, both of which may lack
// the port. Sockets that name the same local port share it, which only one stack
// can have them do. Datagrams of a bound socket to one peer stay in order. All else
// is spread.
func (e *Engine) pick(i *Interface, t *Traffic, local, remote netip.AddrPort) *stack.Stack {
	n := uint32(len(i.Stacks))
	switch {
	case n == 1:
		return i.Stacks[0]
	case t.Unbound:
		b := remote.Addr().As16()
		return i.Stacks[binary.BigEndian.Uint32(b[12:])%n]
	case local.Port() != 0:
		return i.Stacks[uint32(local.Port())%n]
	}
	return i.Stacks[e.picks.Add(1)%n]
}

// addQueues spreads queues that an interface has got over its stacks. No stack gets
// its part if one has no room for its own: the caller closes all of them then, and a
// stack that had some would take the interface for broken.
func (i *Interface) addQueues(qs []driver.Queue) error {
	parts := make([][]driver.Queue, len(i.Stacks))
	for n, q := range qs {
		at := (len(i.Device.Queues()) + n) % len(parts)
		parts[at] = append(parts[at], q)
	}
	for n, part := range parts {
		if err := i.Stacks[n].MayGrow(i.Index, len(part)); err != nil {
			return err
		}
	}
	for n, part := range parts {
		if len(part) == 0 {
			continue
		}
		if err := i.Stacks[n].AddQueues(i.Index, part); err != nil {
			return err
		}
	}
	return nil
}
