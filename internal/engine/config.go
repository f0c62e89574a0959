package engine

import (
	"time"

	"go.uber.org/zap"

	"github.com/onload-go/onload/internal/stack"
	"github.com/onload-go/onload/tcp"
)

// Config says what New makes. Package onload has the same struct, and describes
// each field there. The compiler checks that they agree, since one is converted to
// the other.
type Config struct {
	Interfaces []string
	Static     []string
	Fallback   bool
	NetNS      string
	Broker     string

	Profile Profile
	Spin    time.Duration

	Mode                        Mode
	ZeroCopy                    ZeroCopy
	Queues                      []int
	Stacks                      int
	Frames, FrameSize, RingSize int
	Offloads                    Offloads
	BusyPoll                    int
	NAPI                        NAPI

	RcvBuf, SndBuf           int
	Congestion               string
	MTUProbing               MTUProbing
	ECN                      ECN
	UserTimeout              time.Duration
	MaxOrphans, MaxTimeWaits int

	Guardian string
	Inspect  Inspect

	Logger *zap.Logger
}

// Profile sets how goroutines wait.
type Profile = stack.Profile

// Profiles.
const (
	Balanced   = stack.Balanced
	Latency    = stack.Latency
	Throughput = stack.Throughput
)

// MTUProbing says when a TCP connection searches for the path's MTU itself.
type MTUProbing = tcp.MTUProbing

// Choices of MTUProbing.
const (
	MTUProbeBlackHole = tcp.MTUProbeBlackHole
	MTUProbeAlways    = tcp.MTUProbeAlways
	MTUProbeOff       = tcp.MTUProbeOff
)

// ECN says whether TCP connections use explicit congestion notification.
type ECN = tcp.ECN

// Choices of ECN.
const (
	ECNAccept = tcp.ECNAccept
	ECNOn     = tcp.ECNOn
	ECNOff    = tcp.ECNOff
)

// Mode says where the XDP program of an interface runs.
type Mode int

// Modes.
const (
	ModeAuto Mode = iota
	ModeNative
	ModeGeneric
)

// String is "auto", "native" or "generic".
func (m Mode) String() string { return nameOf(m, "auto", "native", "generic") }

// ZeroCopy says whether the NIC may read and write the frames itself.
type ZeroCopy int

// Choices of ZeroCopy.
const (
	ZeroCopyAuto ZeroCopy = iota
	ZeroCopyRequire
	ZeroCopyOff
)

// String is "auto", "require" or "off".
func (z ZeroCopy) String() string { return nameOf(z, "auto", "require", "off") }

// NAPI says how the kernel polls a NIC's queues.
type NAPI int

// Choices of NAPI.
const (
	NAPIKeep NAPI = iota
	NAPIDefer
	NAPIThread
)

// String is "keep", "defer" or "thread".
func (n NAPI) String() string { return nameOf(n, "keep", "defer", "thread") }

// Inspect says whether the process answers questions about itself.
type Inspect int

// Choices of Inspect.
const (
	InspectOn Inspect = iota
	InspectOff
)

// String is "on" or "off".
func (i Inspect) String() string { return nameOf(i, "on", "off") }

// Offloads says what is left to the device.
type Offloads int

// Choices of Offloads.
const (
	OffloadsAuto Offloads = iota
	OffloadsOff
	OffloadsChecksum
)

// String is "auto", "off" or "checksum".
func (o Offloads) String() string { return nameOf(o, "auto", "off", "checksum") }

func nameOf[T ~int](v T, names ...string) string {
	if v >= 0 && int(v) < len(names) {
		return names[v]
	}
	return "invalid"
}

// tcp returns the configuration of new connections.
func (c *Config) tcp() tcp.Config {
	return tcp.Config{RcvBuf: c.RcvBuf, SndBuf: c.SndBuf, Congestion: c.Congestion, UserTimeout: c.UserTimeout,
		MTUProbing: c.MTUProbing, ECN: c.ECN}
}

// stackConfig is the part of the configuration that all stacks share.
func (e *Engine) stackConfig() stack.Config {
	c := &e.cfg
	return stack.Config{
		Net: e.net, Ports: e.ports(), Output: e.out(), Inlet: e.in(),
		Profile: c.Profile, Spin: c.Spin, TCP: c.tcp(),
		MaxOrphans: c.MaxOrphans, MaxTimeWaits: c.MaxTimeWaits,
		Log: e.log, Owner: e,
	}
}
