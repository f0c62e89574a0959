// Package driver defines the edge between the stack and whatever carries its
// packets: an AF_XDP socket (driver/afxdp), a NIC mapped by VFIO, an
// in-memory link (driver/sim).
//
// A Queue never blocks, works in batches, and leaves with the caller what a
// call did not take. But for RxPending and Stats its methods are called under
// the stack lock.
package driver

import (
	"net/netip"

	"github.com/onload-go/onload/ring"
)

// Queue is one pair of receive and transmit rings. All queues of a Device
// draw on one Arena.
type Queue interface {
	// RxBatch fills ds with received Descs and returns how many. A packet of
	// several Descs is never cut: what does not fit whole waits. The frames
	// are the caller's, one reference each.
	RxBatch(ds []ring.Desc) int

	// Refill gives the device free frames of the arena to receive into, and
	// returns how many, or more where it lacks none. RxBatch does not do it by
	// itself.
	Refill() int

	// Lacks returns how many frames Refill would give the device if the arena
	// had them.
	Lacks() int

	// TxSpace returns how many Descs TxBatch would take now.
	TxSpace() int

	// TxBatch puts Descs on the transmit ring and returns how many it took,
	// whole packets only. The ring holds the frames (Arena.Posted) until
	// Reclaim. Nothing need move before Kick; but a packet with FlagGSO may
	// leave at once, behind all that is on the ring, and its frames are then
	// not held.
	TxBatch(ds []ring.Desc) int

	// Kick makes the device transmit all that is on the ring.
	Kick() error

	// Reclaim takes back transmitted frames (Arena.Completed) and returns
	// how many.
	Reclaim() int

	// RxPending tells whether RxBatch would return something. Safe without
	// the lock, and cheap: it is what a spinning goroutine looks at.
	RxPending() bool

	// Arm asks for WaitFD to become readable at the next packet, once.
	// alreadyReady tells that one is there already.
	Arm() (alreadyReady bool)

	// Disarm revokes Arm: no wake-up is paid for while somebody polls.
	Disarm()

	// WaitFD is the descriptor that Arm speaks of. It belongs to the Queue,
	// and is fit for epoll; -1 where there is none.
	WaitFD() int

	// EdgeFD is a descriptor that reports every arrival to an edge-triggered
	// epoll, armed or not; -1 where there is none. It belongs to the Queue, and
	// the caller says NoEdges when it has no use for it. Safe without the lock.
	EdgeFD() int

	// NoEdges revokes EdgeFD: no arrival need be reported until it is called
	// again. Safe without the lock.
	NoEdges()

	// Stats returns the counters since the start. Safe without the lock.
	Stats() Stats

	// Err returns what broke the queue for good (link gone, ring corrupt), or
	// nil. RxBatch and TxBatch take nothing then. Safe without the lock.
	Err() error

	// Caps returns what the queue can do. It does not change.
	Caps() *Caps
}

// Device is a set of queues of one interface, and the steering of flows to
// them.
type Device interface {
	Name() string
	Queues() []Queue
	Arena() *ring.Arena
	Caps() *Caps
	Steering
	Close() error
}

// Steering tells the device which packets are ours; all others stay the
// kernel's. Entries are counted: each Add wants its Remove. local's zero
// Addr (the invalid one) means any address of either family; 0.0.0.0 and ::
// any of that family.
type Steering interface {
	// AddPort takes packets of proto (6 or 17) to local.
	AddPort(proto uint8, local netip.AddrPort) error
	RemovePort(proto uint8, local netip.AddrPort) error
	// AddFlow decides for one flow before any port does: ours, or the
	// kernel's although its port is ours.
	AddFlow(proto uint8, local, remote netip.AddrPort, ours bool) error
	RemoveFlow(proto uint8, local, remote netip.AddrPort) error
}

// Caps are the capabilities of a Queue.
type Caps struct {
	Driver   string // kernel driver or own name: "veth", "sim", "virtio"
	Mode     string // "native", "generic", "sim", "vfio"
	ZeroCopy bool
	// EdgesFree reports whether edges that nobody waits for cost nothing worth
	// mention.
	EdgesFree bool
	// CopyReason is why a device that might be in zero-copy mode is not.
	CopyReason string
	NAPI       string // settings of the kernel's polling, empty where nothing was asked for
	Virtual    bool   // no wire: a checksum that is only the pseudo-header's is valid

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

// Stats are a Queue's counters.
type Stats struct {
	RxPackets, RxBytes     uint64
	TxPackets, TxBytes     uint64
	Kicks, KickErrors      uint64
	RxDropped              uint64 // ring full
	RxFillEmpty            uint64 // no free frame to receive into
	RxInvalid, TxInvalid   uint64 // descriptors that the kernel refused
	TxRingFull, TxRingNone uint64 // TxBatch took less than offered; nothing to send at a kick
	BadDesc                uint64 // descriptors from the device that were out of range or not ours
}
