// Package afxdp carries packets over AF_XDP sockets: one UMEM (the device's
// arena) shared by a socket for each queue, and an XDP program that steers
// our flows to them and leaves all else to the kernel.
//
// Everything dies with the process: the program is held by a bpf_link, the
// sockets and maps by descriptors, and nothing is pinned.
package afxdp

import (
	"context"
	"fmt"
	"unsafe"

	"go.uber.org/zap"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/ring"
)

// Mode says where the XDP program runs.
type Mode int

const (
	// ModeAuto takes native if the driver runs it, else generic. On virtual links
	// it takes generic, see preferGeneric.
	ModeAuto Mode = iota
	// ModeNative is in the driver, before the kernel's packet buffers.
	ModeNative
	// ModeGeneric is in the kernel's receive path, for any driver.
	ModeGeneric
)

// String is "auto", "native" or "generic".
func (m Mode) String() string {
	switch m {
	case ModeNative:
		return "native"
	case ModeGeneric:
		return "generic"
	}
	return "auto"
}

// ZeroCopy says whether the NIC may read and write the arena itself.
type ZeroCopy int

const (
	// ZeroCopyAuto takes zero-copy if possible; Caps shows it.
	ZeroCopyAuto ZeroCopy = iota
	// ZeroCopyRequire fails without it.
	ZeroCopyRequire
	// ZeroCopyOff copies.
	ZeroCopyOff
)

// Defaults of Config. Rings of 512 entries lost 20,000 packets in 3 s where 4,096
// lost none.
const (
	DefaultRing       = 4096
	DefaultFrameSize  = 4096
	DefaultTxBudget   = 256
	DefaultMaxPorts   = 65536
	DefaultMaxFlows   = 262144
	framesPerQueue    = 8192
	maxDefaultFrames  = 65536
	maxRing           = 1 << 16
	maxQueues         = 1 << 12
	minFramesPerQueue = 16
	// leastFrames is the least packet memory for each queue that is taken unasked.
	leastFrames = 64
)

// Config is the interface that Open opens, and how. All but Interface may be zero.
type Config struct {
	// Context ends the wait for a program or a queue that another socket has; Open then
	// returns what it waits for. nil: it ends by itself.
	Context context.Context

	Interface string // name or alternative name, or number in decimal
	Queues    []int  // default: all that receive, also those that come later
	Mode      Mode
	ZeroCopy  ZeroCopy

	Frames    int // of the arena, default 8192 and 8192 more for each queue, at most 65536, but see Free
	FrameSize int // 4096 or 2048; 0: 4096, or 2048 where only that gives zero-copy
	// Sharers is how many interfaces are to share the arena; 0 means one. The arena
	// is made for as many times the queues and Frames.
	Sharers int
	// Arena is that of the device that was opened first, and is not closed with
	// this one. nil: the device makes its own. Each device registers it as a UMEM of
	// its own; the kernel counts it against RLIMIT_MEMLOCK each time.
	Arena     *ring.Arena
	anySize   bool
	anyFrames bool
	// Free is the memory that may be had, in bytes, and FreeOf what leaves no
	// more, in words. The default takes a quarter of it; Frames that ask for more
	// than all are refused. 0 is no limit.
	Free   int64
	FreeOf string
	fewer  string // why the default takes fewer frames
	// RxRing and TxRing are the rings' entries, powers of two. The kernel
	// receives into RxRing frames in turn: fewer may stay in the processor's
	// cache, more survive a burst.
	RxRing, TxRing int

	// BusyPoll is the most packets that one poll of the NIC by RxPending or
	// RxBatch handles; 0 leaves the NIC to its interrupts. It has no effect where the
	// queue has no NAPI of its own (virtual links, copy mode).
	BusyPoll int
	// NAPI says how the kernel polls our queues.
	NAPI NAPI
	// TxBudget is the most Descs that one system call sends in copy mode
	// (Linux 6.18; 32 before), -1 for the kernel's default.
	TxBudget int

	MaxPorts, MaxFlows int // steering entries

	Offloads Offloads

	// Changed, unless nil, is called when the number of the interface's queues
	// may have changed; Grow takes new ones. It must not wait.
	Changed   func()
	allOfThem bool // Queues were not named

	// InNS calls its argument inside the interface's network namespace, on
	// one thread. nil: the current one.
	InNS func(func() error) error
	Log  *zap.Logger // nil: silent
}

func (c *Config) defaults() error {
	def := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	if c.Context == nil {
		c.Context = context.Background()
	}
	c.anySize = c.FrameSize == 0
	def(&c.FrameSize, DefaultFrameSize)
	def(&c.RxRing, DefaultRing)
	def(&c.TxRing, DefaultRing)
	def(&c.TxBudget, min(DefaultTxBudget, c.TxRing))
	def(&c.MaxPorts, DefaultMaxPorts)
	def(&c.MaxFlows, DefaultMaxFlows)
	def(&c.Sharers, 1)
	if c.Arena != nil {
		c.Frames, c.FrameSize, c.anySize = c.Arena.Frames(), c.Arena.FrameSize(), false
	}
	if c.NAPI == NAPIDefer {
		def(&c.BusyPoll, defaultBusyPoll)
	}
	if c.Log == nil {
		c.Log = zap.NewNop()
	}
	if c.InNS == nil {
		c.InNS = func(f func() error) error { return f() }
	}
	for _, r := range []int{c.RxRing, c.TxRing} {
		if r < 16 || r > maxRing || r&(r-1) != 0 {
			return fmt.Errorf("afxdp: ring of %d entries: must be a power of two, 16 to %d", r, maxRing)
		}
	}
	if c.Frames < 0 || c.MaxPorts < 0 || c.MaxFlows < 0 || c.BusyPoll < 0 {
		return fmt.Errorf("afxdp: negative size in %+v", *c)
	}
	return nil
}

// queues checks the choice of queues against those that the link has.
func (c *Config) queues(l *linkInfo) error {
	if c.allOfThem = len(c.Queues) == 0; c.allOfThem {
		for q := range l.rx {
			c.Queues = append(c.Queues, q)
		}
	} else {
		c.Queues = append([]int(nil), c.Queues...)
	}
	seen := map[int]bool{}
	for _, q := range c.Queues {
		if q < 0 || q >= l.rx {
			return wrong("Queues", "%s has no receive queue %d: it has 0 to %d", l.name, q, l.rx-1)
		}
		if seen[q] {
			return wrong("Queues", "queue %d of %s is named twice", q, l.name)
		}
		seen[q] = true
	}
	if len(c.Queues) > maxQueues {
		return wrong("Queues", "%d queues of %s: at most %d", len(c.Queues), l.name, maxQueues)
	}
	return c.frames(l)
}

// frames sizes the arena, or checks the size that was asked for.
func (c *Config) frames(l *linkInfo) error {
	n := c.allQueues()
	if c.Arena != nil {
		if c.Frames < minFramesPerQueue*n {
			return wrong("Frames", "%d frames for %d queues of several interfaces: at least %d each", c.Frames, n, minFramesPerQueue)
		}
		return nil
	}
	c.Frames *= c.Sharers
	each := int64(c.FrameSize) + int64(unsafe.Sizeof(ring.Meta{}))
	if c.Frames != 0 {
		if c.Frames < minFramesPerQueue*n {
			return wrong("Frames", "%d frames for %d queues of %s: at least %d each", c.Frames, n, l.name, minFramesPerQueue)
		}
		if need := int64(c.Frames) * each; c.Free > 0 && need > c.Free {
			return wrong("Frames", "%d frames for %s take %d MiB: %s", c.Frames, l.name, need>>20, c.FreeOf)
		}
		return nil
	}
	c.anyFrames = true
	c.Frames = max(2*framesPerQueue, min(framesPerQueue*(1+n), maxDefaultFrames))
	if most := c.Free / 4 / each; c.Free > 0 && most < int64(c.Frames) {
		c.Frames, c.fewer = max(int(most), leastFrames*n), c.FreeOf
	}
	return nil
}

// allQueues is how many queues are to share the arena.
func (c *Config) allQueues() int { return len(c.Queues) * c.Sharers }

// share is how many frames of the arena a queue may have for receiving.
func (c *Config) share(a *ring.Arena) int { return min(c.RxRing, a.Frames()/2/c.allQueues()) }

func wrong(field, format string, args ...any) error {
	return &driver.SettingError{Field: field, Err: fmt.Errorf(format, args...)}
}
