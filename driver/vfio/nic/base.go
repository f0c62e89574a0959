package nic

import (
	"errors"
	"os"
	"sync"
	"sync/atomic"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/driver/steer"
	"github.com/onload-go/onload/driver/vfio"
	"github.com/onload-go/onload/ring"
)

// Base is a device without its rings. With queues it implements driver.Device,
// driver.Linked and driver.Retirer. There is no kernel behind it: packets that are not
// ours are dropped.
type Base struct {
	*steer.Table
	Container *vfio.Container
	PCI       *vfio.Device
	Traits    driver.Caps // fixed once queues are made
	Hardware  [6]byte     // address

	takeAll   bool
	arena     *ring.Arena
	borrowed  bool // arena is another device's
	arenaIOVA uint64

	mu     sync.Mutex
	queues []driver.Queue
	parts  []*Queue // of the queues
	stop   func() error
	gone   error // why the kernel wants the device back
	halted bool
	closed bool // released
	freed  bool // the arena is

	changes *os.File // eventfd of FollowLink
	up      atomic.Bool
	onLink  func()
}

// Open takes a device that vfio-pci has, resets the function if the kernel can, and
// maps the arena for it. It neither reads nor writes memory yet: the driver resets it
// by its registers and then calls PCI.Master. After an error the Base is to be closed
// too.
func Open(c *Config) (*Base, error) {
	b := &Base{Table: steer.New(), takeAll: c.TakeAll, arena: c.Arena, borrowed: c.Arena != nil}
	var err error
	if b.Container, err = vfio.NewContainer(); err != nil {
		return b, err
	}
	if b.PCI, err = vfio.Open(b.Container, c.Address); err != nil {
		return b, err
	}
	if err := errors.Join(b.PCI.Reset(), b.PCI.Answer(), b.PCI.OnRemoval(b.removed)); err != nil {
		return b, err
	}
	if !b.borrowed {
		if b.arena, err = ring.NewArena(c.Frames, c.FrameSize); err != nil {
			return b, err
		}
	}
	b.arenaIOVA, err = b.Container.Map(b.arena.Mem())
	return b, err
}

// Loose is a Base without a device over an arena, which it then owns: for tests whose
// device is memory.
func Loose(a *ring.Arena) *Base { return &Base{Table: steer.New(), takeAll: true, arena: a} }

// OnClose has stop run when the device is closed, before its memory goes: it ends
// all that the device reads and writes.
func (b *Base) OnClose(stop func() error) { b.stop = stop }

// Add makes q a queue of b. Its part that knows no ring is part.
func (b *Base) Add(q driver.Queue, part *Queue) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.queues, b.parts = append(b.queues, q), append(b.parts, part)
	if b.gone != nil {
		part.Fail(b.gone)
	}
}

// AddressOf is where the device finds the frame.
func (b *Base) AddressOf(f ring.Frame) uint64 {
	return b.arenaIOVA + uint64(f)*uint64(b.arena.FrameSize())
}

// Name implements driver.Device: the PCI address.
func (b *Base) Name() string { return b.PCI.Address() }

// MAC is the device's hardware address.
func (b *Base) MAC() [6]byte { return b.Hardware }

// Queues implements driver.Device.
func (b *Base) Queues() []driver.Queue { return b.queues }

// Arena implements driver.Device.
func (b *Base) Arena() *ring.Arena { return b.arena }

// Caps implements driver.Device.
func (b *Base) Caps() *driver.Caps { return &b.Traits }

// Registers calls f unless the device is stopped or closed, so that its registers are
// there.
func (b *Base) Registers(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.halted {
		f()
	}
}
