// Package driver defines the edge between the stack and whatever carries its
// packets: an AF_XDP socket (driver/afxdp), a NIC mapped by VFIO, an
// in-memory link (driver/sim). The suite in driver/drivertest is this contract
// as code; every driver passes it.
//
// A Queue never blocks, works in batches, and leaves with the caller what a
// call did not take.
//
// # Locks
//
// RxPending, NoEdges, Stats, Err and Caps are safe without a lock, and at any
// time. Every other method of a Queue is called under the stack lock. Steering
// and the other methods of a Device are safe without it.
//
// # When a queue breaks
//
// Err reports a fault that does not pass: the interface is gone (Err wraps
// ErrGone), a ring is corrupt, the device was closed. From then on the queue takes and gives
// nothing: RxBatch, TxBatch, TxSpace, Lacks and Reclaim return 0, RxPending
// returns false, Kick returns Err, and Arm returns true, so that a caller that
// would sleep looks at Err instead. A WaitFD that is armed becomes readable
// where the device notices the fault by itself.
//
// # The link
//
// A link that is down is no fault: Err stays nil, and the queue works again
// when the link is up. Meanwhile Kick returns ENETDOWN and leaves the packets
// on the ring, or the packets are lost, as on a wire that nobody is at the
// other end of. A driver whose interface the kernel knows says no more: the
// kernel's netlink reports its state.
//
// # After Close
//
// After Device.Close every queue is broken, the packets are the kernel's again,
// and WaitFD and EdgeFD return -1. Frames and arena must not be used any more.
// Another Close does nothing and returns nil. AddPort and AddFlow return an
// error, RemovePort and RemoveFlow nil: the entries went with the device.
package driver

import (
	"context"
	"errors"
	"net/netip"

	"github.com/onload-go/onload/ring"
)

// ErrGone says that a queue's interface was deleted, or its NIC unplugged.
var ErrGone = errors.New("the interface is gone")

// Queue is one pair of receive and transmit rings. All queues of a Device
// draw on one Arena.
type Queue interface {
	// RxBatch fills ds with received Descs and returns how many. It never cuts a
	// packet of several Descs: a packet that does not fit into ds waits. The caller
	// owns the frames, with one reference each.
	RxBatch(ds []ring.Desc) int

	// Refill gives the device free frames of the arena to receive into, as many
	// as it lacks or the arena has. RxBatch does not do it by itself.
	Refill()

	// Lacks returns how many frames Refill would give the device if the arena
	// had them.
	Lacks() int

	// TxSpace returns how many Descs TxBatch would take now. A Desc takes its
	// place until Reclaim.
	TxSpace() int

	// TxBatch puts Descs on the transmit ring and returns how many it took,
	// whole packets only. The ring holds the frames (Arena.Posted) until
	// Reclaim. Packets need not leave before Kick. A packet with FlagGSO may
	// leave at once, behind all that is on the ring; then the ring does not hold
	// its frames.
	//
	// A packet that the device can never send is taken, dropped and counted as
	// TxInvalid, at TxBatch or at Kick: it must not block those behind it. Its
	// faults are an empty Desc, one outside of its frame, FlagMore in the last,
	// more Descs than Caps allow, or an offload that Caps do not name. A packet
	// above the MTU without FlagGSO is lost, and need not be counted.
	TxBatch(ds []ring.Desc) int

	// Kick makes the device transmit all that is on the ring. Its errors:
	//
	//   - EAGAIN: the device took a part, or nothing, for lack of room. The rest
	//     is on the ring; the caller kicks again soon, without new packets.
	//   - ENETDOWN: the link is down. The packets are on the ring, and leave with
	//     the first Kick after the link is up. There is no hurry.
	//   - Err's error: the queue is broken.
	//
	// With nothing on the ring Kick returns nil.
	Kick() error

	// Reclaim takes back transmitted frames (Arena.Completed) and returns
	// how many.
	Reclaim() int

	// RxPending reports whether RxBatch would return something. It is cheap: a
	// spinning goroutine calls it again and again.
	RxPending() bool

	// Arm asks for WaitFD to become readable at the next packet, once. It
	// reports whether a packet is there already, or the queue is broken; then
	// the queue is not armed. An armed queue may be armed again.
	Arm() (alreadyReady bool)

	// Disarm revokes Arm: no packet pays for a wake-up while somebody polls.
	// WaitFD is not readable then.
	Disarm()

	// WaitFD is the descriptor that Arm speaks of. It belongs to the Queue,
	// and is fit for epoll; -1 where there is none.
	WaitFD() int

	// EdgeFD is a descriptor that reports arrivals to an edge-triggered epoll, armed
	// or not; -1 where there is none. An arrival while a packet waits may go
	// unreported, so the caller looks at RxPending before it sleeps. EdgeFD belongs to
	// the Queue. The caller calls NoEdges when it has no more use for it.
	EdgeFD() int

	// NoEdges revokes EdgeFD: arrivals need not be reported until EdgeFD is
	// called again.
	NoEdges()

	// Stats returns the counters since the start; they outlive Close.
	Stats() Stats

	// Err returns the fault that broke the queue for good, or nil. The first
	// fault stays.
	Err() error

	// Caps returns what the queue can do. It does not change.
	Caps() *Caps
}

// Caller is a Queue whose packets come from a goroutine of this process. Calling the
// receiver then costs less than waking it.
type Caller interface {
	// OnArrival has call run, instead of WaitFD becoming readable, whenever packets
	// have arrived while the queue is armed. The queue stays armed until Disarm.
	// OnArrival itself is called before the queue is first armed.
	//
	// call runs on the goroutine that sent the packets, within its Kick, so with the
	// sender's stack lock held: it must not wait. It runs on a timer's goroutine
	// where the link delays packets, and on Break's when the queue breaks.
	OnArrival(call func())
}

// Device is a set of queues of one interface, and the steering of flows to
// them.
type Device interface {
	Name() string
	Queues() []Queue
	Arena() *ring.Arena
	Caps() *Caps
	Steering
	// Close ends the device, see "After Close" above. Nobody may be in a method
	// of its queues that needs the stack lock.
	Close() error
}

// Grower is a Device whose interface may get more queues while it is open.
type Grower interface {
	// Grow opens the queues that the interface has got since the last call, and
	// hands them to take before they receive anything. They are the Device's once
	// take has returned nil. The error is why some are not taken, or receive
	// nothing; the packets that come by those are the kernel's. Grow waits for
	// queues that are busy only until ctx ends, and returns ctx's error then.
	//
	// Close waits for a Grow that is under way. So nobody may close the Stack that
	// has the Device meanwhile: it closes the Device with the stack lock held, which
	// take waits for.
	Grow(ctx context.Context, take func([]Queue) error) error
	// Missing returns that error as long as it holds, in words; else "".
	Missing() string
}

// Retirer is a Device that can be put away while others use its arena.
type Retirer interface {
	// Retire takes the frames back that the queues of a device hold whose interface is
	// gone. The queues are broken from then on. It returns how many frames are in
	// packets that have left and not arrived: a further call takes back what has arrived
	// meanwhile. It is called under the stack lock, with those of all stacks that have
	// queues of the device, and not while Grow is under way. It does not wait.
	Retire() (left int)
	// Release closes what Retire has put away, all but the arena. The frames that are
	// left are in use for good. It may take long: the kernel waits for those that may
	// look at a socket still. It needs no lock.
	Release() error
	// Detach frees the interface alone, for the next Device: it may live on, in
	// another namespace. The queues stay as they are. Anybody may call it.
	Detach() error
}

// Steering tells the device which packets are ours; all others stay the kernel's.
// Entries are counted: each Add wants its Remove. As local, the zero Addr (the
// invalid one) means any address of either family; 0.0.0.0 and :: mean any of that
// family.
type Steering interface {
	// AddPort takes packets of proto (6 or 17) to local. It returns
	// EPROTONOSUPPORT for another protocol, EINVAL for port 0.
	AddPort(proto uint8, local netip.AddrPort) error
	// RemovePort returns ENOENT if there is no such entry, as does RemoveFlow.
	RemovePort(proto uint8, local netip.AddrPort) error
	// AddFlow decides for one flow before any port does: ours, or the kernel's
	// although its port is ours. Of several entries for one flow the last one added
	// decides, until all are removed. It returns EINVAL if the flow is not exact:
	// an address is missing or unspecified, or a port is 0.
	AddFlow(proto uint8, local, remote netip.AddrPort, ours bool) error
	RemoveFlow(proto uint8, local, remote netip.AddrPort) error
}

// Prover is a Steering of a device that somebody else polices, who believes nobody's
// word that a port is theirs.
type Prover interface {
	// ProvePort is AddPort with the proof: a socket of the kernel's that is bound to
	// local, -1 where there is none. The socket stays the caller's. A socket without a
	// number asked for may be bound anew, to the same port. Where the port is refused,
	// and so the kernel's, the error wraps ErrRefused.
	ProvePort(proto uint8, local netip.AddrPort, socket int) error
	// Unlisten says that the listener of a port of TCP has closed, while connections of
	// the port live.
	Unlisten(local netip.AddrPort)
	// SharePort lets a new listener of the kernel's, with SO_REUSEADDR, have a port
	// after Unlisten. ProvePort is to show it soon. Other ports are left alone; an
	// address may be a wildcard.
	SharePort(local netip.AddrPort) error
}

// ErrRefused says that a port is not given to this process.
var ErrRefused = errors.New("the port is refused")

// HostFilter is a Steering with a kernel behind it, to which it leaves unicast
// frames for other hosts: the kernel bridges or drops them, or gives them to a
// macvlan.
type HostFilter interface {
	// SetMACs says which unicast addresses the frames for this host have. With
	// none, or more than the device can tell apart, it steers frames whatever
	// their address is. It may be called under the stack lock.
	SetMACs(macs [][6]byte) error
}

// Returner is a Device with a kernel behind it. A fragment that overtakes the first
// of its datagram has no ports. Where a port of ours has its address the device
// gives it to us, and then all others of that datagram; FlagKernels marks a first
// one that turns out to be the kernel's. Its fragments go back.
type Returner interface {
	// Return gives the kernel a frame, with its Ethernet header, as though the
	// interface had received it: soon, in order, and without waiting. frame is the
	// device's from then on, and has at most MaxReturn bytes.
	Return(frame []byte)
	// ReturnErrors returns how many frames the kernel did not take, or were too many.
	ReturnErrors() uint64
}

// MaxReturn is the largest frame that a Returner takes, in bytes: a page has room
// for it and for what the kernel keeps beside it.
const MaxReturn = 3500

// Caps are the capabilities of a Queue.
type Caps struct {
	Driver   string // kernel driver or own name: "veth", "sim", "virtio"
	Mode     string // "native", "generic", "sim", "vfio"
	ZeroCopy bool
	// EdgesFree reports whether edges that nobody waits for cost next to
	// nothing.
	EdgesFree bool
	// CopyReason is why a device that could be in zero-copy mode is not.
	CopyReason string
	// Broker is the socket of the broker by whose link packets travel, or empty.
	Broker string
	// FramesReason is why the arena has fewer frames than the device would take by
	// itself. It is empty if the arena has as many, or as many as were asked for.
	FramesReason string
	NAPI         string // settings of the kernel's polling, empty where none were asked for
	Virtual      bool   // no wire: a checksum that is only the pseudo-header's is valid

	MTU       int  // of the link: the largest IP packet that is not GSO
	MaxFrags  int  // most Descs per transmitted packet, >= 1
	RxMetaLen int  // bytes that the device may use in front of received data
	TxRoom    int  // bytes in front of each transmitted Desc that the device uses
	TSO       int  // largest IP packet that the device segments itself; 0: none
	TSOFrags  int  // most Descs of such a packet
	LargeRx   bool // packets above the MTU may arrive (GRO, the peer's GSO)
	TxCsum    bool // honours FlagCsumPartial on TX

	TxRing, RxRing int // entries

	// RSS key and indirection table, empty where unknown.
	RSSKey   []byte
	RSSTable []uint32
}
