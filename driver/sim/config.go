// Package sim is an in-memory link of two network interfaces. Each end is a
// driver.Device with its own arena and queues; what one end transmits is copied
// into frames of the other when it receives, as NICs do. The link loses,
// reorders, duplicates, corrupts, delays and limits packets as Faults says, the
// same way for the same seed.
//
// With LinkConfig.Clock one goroutine drives both ends on virtual time, and every
// run is the same. Without it the ends may be used by different goroutines, each
// end under its own lock, and delays are real.
package sim

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/onload-go/onload/ring"
)

// Config describes one end: the NIC.
type Config struct {
	Name      string // default "sim0" and "sim1"
	Queues    int    // default 1
	Frames    int    // of the arena; default: enough for all rings twice
	FrameSize int    // default 2048
	// Arena, unless nil, is an arena that the device shares with others and does
	// not close.
	Arena *ring.Arena

	TxRing, RxRing int // entries; default 2048

	MTU      int  // default 1500
	MaxFrags int  // most Descs per transmitted packet; default 16
	TSO      int  // largest IP packet that it segments; 0: none
	TSOFrags int  // most Descs of such a packet; default MaxFrags
	LargeRx  bool // takes the peer's TSO packets whole
	TxCsum   bool // honours FlagCsumPartial
	Virtual  bool // leaves checksums of the peer partial, as veth does

	// RxInfo has the device report what it knows of a received packet: checksum
	// verified or partial, segment size, hash. An AF_XDP queue does not.
	RxInfo bool

	RxHeadroom int // free bytes in front of received data; default 256

	// RSSKey is the key of the hash that spreads flows over the queues;
	// default Microsoft's.
	RSSKey []byte

	// CompletionDelay is how long a frame stays in the NIC after Kick.
	CompletionDelay time.Duration

	// TakeAll makes every packet ours, whatever the steering tables say.
	TakeAll bool

	// Unmatched gets the packets that are not ours, as the kernel would. It is
	// called from the peer's Kick, and must copy what it keeps.
	Unmatched func(frame []byte)
}

// Dir is a direction of the link.
type Dir int

// AtoB is from New's first device to its second.
const (
	AtoB Dir = iota
	BtoA
)

// String is the direction in words.
func (d Dir) String() string { return [...]string{"a->b", "b->a"}[d] }

// LinkConfig describes what lies between the ends.
type LinkConfig struct {
	AtoB, BtoA Faults
	Seed       uint64

	// InFlight bounds the packets on the way from one queue to another;
	// default 16384. More are dropped, as by a full ring.
	InFlight int

	// Clock is virtual time in ns, read by the one goroutine that drives both
	// ends. Nil: real time.
	Clock func() int64

	// Tap sees every frame as it leaves a NIC, before the link does anything
	// to it. It must copy what it keeps. It is called from Kick.
	Tap func(dir Dir, frame []byte)
}

// Faults says what one direction of the link does to packets. Probabilities are
// from 0 to 1, per packet on the wire.
type Faults struct {
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

	// Drop decides for each packet, numbered from 0, before all other faults.
	Drop func(n uint64, frame []byte) bool
}

func (f *Faults) active() bool {
	return f.Loss > 0 || f.Duplicate > 0 || f.Corrupt > 0 || f.Reorder > 0 || f.Delay > 0 ||
		f.Jitter > 0 || f.Rate > 0 || f.MTU > 0 || f.Drop != nil
}

func (f *Faults) check() error {
	for _, p := range []float64{f.Loss, f.Duplicate, f.Corrupt, f.Reorder} {
		if math.IsNaN(p) || p < 0 || p > 1 {
			return fmt.Errorf("sim: probability %v: must be from 0 to 1", p)
		}
	}
	if f.Delay < 0 || f.Jitter < 0 || f.ReorderDelay < 0 || f.Rate < 0 || f.QueueBytes < 0 ||
		f.QueuePackets < 0 || f.MarkBytes < 0 || f.MTU < 0 {
		return errors.New("sim: negative fault")
	}
	if f.ReorderDelay == 0 {
		f.ReorderDelay = time.Millisecond
	}
	if f.Rate > 0 && f.QueueBytes == 0 && f.QueuePackets == 0 {
		f.QueuePackets = 1000
	}
	return nil
}

func (l *LinkConfig) fill() error {
	if l.InFlight < 0 {
		return errors.New("sim: negative InFlight")
	}
	if l.InFlight == 0 {
		l.InFlight = 16384
	}
	return errors.Join(l.AtoB.check(), l.BtoA.check())
}

// defaultKey is the key of Microsoft's verification suite, which many NICs
// start with.
var defaultKey = []byte{
	0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0,
	0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c,
	0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
}

func (c *Config) fill(name string) error {
	def := func(p *int, v int) {
		if *p == 0 {
			*p = v
		}
	}
	if c.Name == "" {
		c.Name = name
	}
	def(&c.Queues, 1)
	def(&c.FrameSize, 2048)
	def(&c.TxRing, 2048)
	def(&c.RxRing, 2048)
	def(&c.MTU, 1500)
	def(&c.MaxFrags, 16)
	def(&c.TSOFrags, c.MaxFrags)
	def(&c.RxHeadroom, 256)
	def(&c.Frames, 2*c.Queues*(c.TxRing+c.RxRing))
	if c.RSSKey == nil {
		c.RSSKey = defaultKey
	}
	switch {
	case c.Queues < 0 || c.Queues > 64:
		return fmt.Errorf("sim: %d queues: must be 1 to 64", c.Queues)
	case c.TxRing < 1 || c.RxRing < 1:
		return errors.New("sim: rings must have entries")
	case c.MTU < 68 || c.MTU > 65535 || c.TSO < 0 || c.TSO > 65535:
		return fmt.Errorf("sim: MTU %d, TSO %d: out of range", c.MTU, c.TSO)
	case c.MaxFrags < 1 || c.CompletionDelay < 0:
		return errors.New("sim: negative limit")
	case c.RxHeadroom < 0 || c.RxHeadroom > c.FrameSize/2:
		return fmt.Errorf("sim: receive headroom %d: must be at most half a frame", c.RxHeadroom)
	}
	return nil
}

// maxFrags is the most Descs of a packet with these flags.
func (c *Config) maxFrags(flags ring.DescFlags) int {
	if flags&ring.FlagGSO != 0 {
		return c.TSOFrags
	}
	return c.MaxFrags
}
