package onload

import (
	"time"

	"go.uber.org/zap"

	"github.com/onload-go/onload/internal/engine"
)

// Config makes an Engine. The zero value is usable: it names no interface, so the
// kernel carries everything.
type Config struct {
	// Interfaces are the interfaces whose traffic is taken from the kernel, by name
	// or by alternative name (ip link property add altname). The single word "auto"
	// means all that are up and whose driver runs XDP natively at its present
	// settings. The single word "none" means none, without a warning.
	//
	// A PCI address such as 0000:01:00.0 takes a NIC that is bound to vfio-pci: it is
	// mapped into the process, and no kernel stands behind it, unless Static names a
	// TAP device for it. Static has its addresses.
	Interfaces []string

	// Static describes the interfaces that are PCI addresses, one element each, in
	// the words of ip(8): addresses with their subnets, routes, name servers. The word
	// dhcp asks a DHCP server of the link for all of these, the word slaac IPv6 routers.
	//
	//	0000:01:00.0 192.0.2.1/24 2001:db8::1/64 default via 192.0.2.254 10.0.0.0/8 via 192.0.2.9 dns 192.0.2.53
	//	0000:02:00.0 dhcp slaac
	//	0000:03:00.0 tap nic0
	//
	// The last form makes the kernel the host on that link, by the TAP device of that
	// name: what no socket of ours wants goes there, and addresses, routes and name
	// servers are the kernel's.
	//
	// New waits until it is known that no other host of the link has the addresses,
	// about a second, and for the server, 15 s at most. Between routes of the kernel's and of Static the longest prefix
	// decides, and Static's of two that are equal. Name servers are asked for all
	// names of the Engine, instead of the system's.
	Static []string

	// Fallback has New leave an interface that cannot be opened to the kernel; the
	// reason is logged, and kept for Status and PathOf. Without Fallback it is an
	// error of New. "auto" implies Fallback. A setting that the interface cannot
	// have is always an error.
	Fallback bool

	// NetNS is the path of the network namespace that the Engine works in, such as
	// /run/netns/NAME; empty means the process's own. Names are resolved from there
	// too.
	NetNS string

	// Broker is the socket of a broker (onload broker), which shares interfaces among
	// processes that need no privilege. An interface that it shares with this process
	// is taken by it. Empty means /run/onload/broker.sock, if it is there; "off" means no
	// broker.
	Broker string

	// Profile sets how goroutines wait.
	Profile Profile
	// Spin is how long a goroutine polls the queues itself before it parks. 0
	// leaves it to the Profile, a negative value means never.
	Spin time.Duration

	// Mode says where the XDP program runs, ZeroCopy whether the NIC accesses the
	// frames itself.
	Mode     Mode
	ZeroCopy ZeroCopy
	// Queues are the receive queues to take, the same of each interface, at most 64
	// in all. nil means all.
	Queues []int
	// Stacks is how many stacks share the interfaces: 0 or 1 is one, PerCore one for
	// each processor, as far as every interface has a queue for each. Each has a
	// lock and queues of its own, so that goroutines of different connections do not
	// wait for one another; a program that has one or two connections at a time
	// gains nothing. An interface with fewer queues is refused.
	Stacks int
	// Frames is the number of frames of packet memory for each interface, FrameSize
	// their size (2048 or 4096 bytes); all interfaces share the memory. RingSize is
	// the number of entries of each ring, a power of two from 64 to 65536. 0 is the
	// default. That of Frames is 8192 and 8192 more for each queue; at most 65536
	// (256 MiB), at most a quarter of the memory that the machine and the cgroups
	// of the process leave, and at most what RLIMIT_MEMLOCK lets a process without
	// CAP_IPC_LOCK lock. That of FrameSize is 4096, or 2048 where only that gives
	// zero-copy.
	Frames, FrameSize, RingSize int
	// Offloads says what is left to the device: completing checksums, and cutting
	// packets of up to 64 KiB to the MTU, or handing them whole to a peer on this
	// machine.
	Offloads Offloads
	// BusyPoll is the most packets that one poll of a NIC handles. Goroutines that
	// spin make such polls, by a system call each time they look. 0 leaves it to
	// interrupts.
	BusyPoll int

	// NAPI says how the kernel polls a NIC's queues in zero-copy mode. Close puts
	// changed settings back; so does the end of a process that crashes.
	NAPI NAPI

	// RcvBuf and SndBuf are the buffer sizes of a TCP connection, in bytes, and the
	// bounds of a UDP socket's. 0 is the default, which for TCP grows on long
	// paths.
	RcvBuf, SndBuf int
	// Congestion is the congestion control: "cubic" (default), "newreno" or "bbr".
	Congestion string

	// MTUProbing says when a TCP connection searches for the path's MTU itself (RFC
	// 4821, RFC 8899).
	MTUProbing MTUProbing

	// ECN says whether TCP lets routers report congestion by marks instead of
	// losses (RFC 3168).
	ECN ECN

	// UserTimeout bounds how long data of a TCP connection may stay unacknowledged,
	// or wait for the peer's window (RFC 5482), as TCPConn.SetUserTimeout does. 0
	// is Linux's default, some 15 minutes.
	UserTimeout time.Duration
	// MaxOrphans bounds the TCP connections that go on after the program has closed
	// them, as Linux's tcp_max_orphans: further ones are reset. MaxTimeWaits bounds
	// those in TIME-WAIT, as tcp_max_tw_buckets. 0 is the default.
	MaxOrphans, MaxTimeWaits int

	// Guardian names the process that tells the peers of this one if it dies: within
	// 200 ms each established connection is reset, as the kernel does for its own. It is
	// the path of the program onload, version for version, which then sleeps beside this
	// process and needs no privilege but the raw sockets that it is given. Empty means the
	// one beside this program or, unless this has capabilities of its file, in PATH, if
	// there is one. "self" means this program, which is executed again and becomes the
	// guardian when package onload is initialised: packages that are initialised before do
	// their work there too. Where none can be had a broker, if the interfaces are its, does
	// the same. "off" means none: peers then wait for their own keepalive. Engine.Guardian
	// says which it is. It is a child of this process until Close: a program that waits
	// until it has no child turns it off.
	Guardian string

	// Inspect says whether the program onload may ask this process about its interfaces,
	// sockets and counters (onload ps, ss, stat ...): the process's user and root may, by a
	// Unix socket below /run/onload, $XDG_RUNTIME_DIR/onload or /tmp/onload-UID.
	Inspect Inspect

	// Logger gets the events of the control path. nil means standard error, from
	// level warn.
	Logger *zap.Logger
}

// PerCore is Config.Stacks for one stack for each processor.
const PerCore = engine.PerCore

// Profile sets all parameters of waiting together.
type Profile = engine.Profile

// Profiles.
const (
	// Balanced spins as long as that gets more done and nobody else wants the
	// processor.
	Balanced = engine.Balanced
	// Latency spins long: a waiting goroutine owns its processor.
	Latency = engine.Latency
	// Throughput never spins: it sleeps in the runtime's netpoller.
	Throughput = engine.Throughput
)

// MTUProbing says when a TCP connection searches for the path's MTU itself.
type MTUProbing = engine.MTUProbing

// Choices of MTUProbing.
const (
	// MTUProbeBlackHole searches when large segments seem to vanish.
	MTUProbeBlackHole = engine.MTUProbeBlackHole
	// MTUProbeAlways searches from the start.
	MTUProbeAlways = engine.MTUProbeAlways
	// MTUProbeOff never searches: routers are expected to complain.
	MTUProbeOff = engine.MTUProbeOff
)

// ECN says whether TCP connections use explicit congestion notification.
type ECN = engine.ECN

// Choices of ECN.
const (
	// ECNAccept uses it if the peer asks for it, as Linux does by default.
	ECNAccept = engine.ECNAccept
	// ECNOn asks for it too.
	ECNOn = engine.ECNOn
	// ECNOff never uses it.
	ECNOff = engine.ECNOff
)

// Mode says where the XDP program of an interface runs.
type Mode = engine.Mode

// Modes.
const (
	// ModeAuto chooses what suits the interface's driver better.
	ModeAuto = engine.ModeAuto
	// ModeNative runs the program in the driver.
	ModeNative = engine.ModeNative
	// ModeGeneric runs it in the kernel's receive path, for any driver.
	ModeGeneric = engine.ModeGeneric
)

// ZeroCopy says whether the NIC may read and write the frames itself.
type ZeroCopy = engine.ZeroCopy

// Choices of ZeroCopy.
const (
	// ZeroCopyAuto uses zero-copy if possible; otherwise packets are copied.
	ZeroCopyAuto = engine.ZeroCopyAuto
	// ZeroCopyRequire does not open an interface that has no zero-copy.
	ZeroCopyRequire = engine.ZeroCopyRequire
	// ZeroCopyOff always has packets copied.
	ZeroCopyOff = engine.ZeroCopyOff
)

// NAPI says how the kernel polls a NIC's queues.
type NAPI = engine.NAPI

// Choices of NAPI.
const (
	// NAPIKeep leaves the kernel's settings as they are.
	NAPIKeep = engine.NAPIKeep
	// NAPIDefer holds interrupts back while goroutines poll, and turns BusyPoll
	// on. It fits the profile Latency: a packet that comes when nobody polls any
	// more may be 200 us late.
	NAPIDefer = engine.NAPIDefer
	// NAPIThread has a thread of the kernel poll each queue all the time, on a
	// processor of its own (Linux 6.19).
	NAPIThread = engine.NAPIThread
)

// Inspect says whether the process answers questions about itself.
type Inspect = engine.Inspect

// Choices of Inspect.
const (
	// InspectOn answers root and the process's user. It costs a goroutine that sleeps.
	InspectOn = engine.InspectOn
	// InspectOff has no socket.
	InspectOff = engine.InspectOff
)

// Offloads says what is left to the device.
type Offloads = engine.Offloads

// Choices of Offloads.
const (
	// OffloadsAuto uses everything that the device offers; PathOf names it.
	OffloadsAuto = engine.OffloadsAuto
	// OffloadsOff leaves nothing to the device: packets are within the MTU, and
	// have their checksums.
	OffloadsOff = engine.OffloadsOff
	// OffloadsChecksum leaves only checksums to the device: packets are within
	// the MTU.
	OffloadsChecksum = engine.OffloadsChecksum
)
