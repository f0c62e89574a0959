package nic

import (
	"fmt"

	"github.com/onload-go/onload/ring"
)

// Config opens a device.
type Config struct {
	Address string // PCI address, such as 0000:01:00.0

	// Arena is another device's, whose packets this one is to carry too; nil: the
	// device makes its own. Frames and FrameSize count only then.
	Arena *ring.Arena
	// TakeAll has every frame that comes be ours: there is no kernel to answer what is
	// not steered here.
	TakeAll bool

	Frames         int // of the arena; 0: 4096
	FrameSize      int // bytes, 2048 or 4096; 0: 2048
	RxRing, TxRing int // Descs at most, a power of two; 0: 256
	MTU            int // 0: 1500
	Queues         int // pairs of rings; 0: 1

	Offloads Offloads
}

// Offloads says what the device does for the stack.
type Offloads uint8

const (
	OffloadsAuto     Offloads = iota // all that it can
	OffloadsChecksum                 // checksums, no segmentation
	OffloadsOff
)

// Limits are what a device can have at most.
type Limits struct {
	Ring, MTU, Queues int
}

// Check fills in defaults and refuses what the device cannot have.
func (c *Config) Check(driver string, most Limits) error {
	for _, d := range []struct {
		v  *int
		to int
	}{{&c.Frames, 4096}, {&c.FrameSize, 2048}, {&c.RxRing, 256}, {&c.TxRing, 256}, {&c.MTU, 1500}, {&c.Queues, 1}} {
		if *d.v == 0 {
			*d.v = d.to
		}
	}
	for _, n := range []*int{&c.RxRing, &c.TxRing} {
		if *n < 2 || *n&(*n-1) != 0 {
			return fmt.Errorf("%s: a ring of %d entries, want a power of two from 2", driver, *n)
		}
		*n = min(*n, most.Ring)
	}
	if c.MTU < 68 || c.MTU > most.MTU {
		return fmt.Errorf("%s: MTU %d, want 68 to %d", driver, c.MTU, most.MTU)
	}
	if c.Queues < 1 || c.Queues > most.Queues {
		return fmt.Errorf("%s: %d queues, want 1 to %d", driver, c.Queues, most.Queues)
	}
	return nil
}
