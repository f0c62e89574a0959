package nicshare

import (
	"errors"

	"golang.org/x/sys/unix"
)

// LinkConfig describes the link of one process.
type LinkConfig struct {
	// Token names the link to a later Links: the broker's own key of the client.
	Token [16]byte
	// RateBytes and RatePackets are the most that the process may send in a second,
	// on the wire after segmentation; 0 is no limit. A tenth of a second's worth may
	// leave at once.
	RateBytes, RatePackets uint64
	// GroupPriority is the SO_PRIORITY of the kernel sockets that the process binds to
	// ports of multicast groups (driver/afxdp.GroupPriority). A group's datagram goes
	// to the link only if the kernel has no other socket for it.
	GroupPriority uint32
}

// GrantConfig is the memory and the rings of a process.
type GrantConfig struct {
	// UMEM is a memfd that is sealed against shrinking and growing, whose size is a
	// multiple of FrameSize. The descriptor stays the caller's.
	UMEM      int
	MaxBytes  int64 // most that UMEM may have; it is pinned memory
	FrameSize int   // 2048 or 4096
	// Rings of the sockets, entries: powers of two, 16 to 65536. The fill ring has
	// twice RxRing's, the completion ring TxRing's.
	RxRing, TxRing int
	// Segments asks for the packet socket, too. There is none where the kernel could
	// not keep the process from allocating rings for it (PACKET_RX_RING), which no limit
	// counts, unless the process is Trusted, or every process may.
	Segments, Trusted bool
}

// Grant is what a process needs to use a link. The descriptors are the caller's: it
// passes them on, and closes them. The link lives as long as one of them is open
// anywhere, so nothing may map or keep them.
type Grant struct {
	// RX is an AF_XDP socket with the UMEM, fill, completion and receive ring, bound
	// to queue 0 of vp in copy mode with multi-buffer. TX shares its UMEM and has the
	// transmit ring.
	RX, TX int
	// Packet is a packet socket of vp with PACKET_VNET_HDR, which receives nothing;
	// -1 if none was asked for.
	Packet int
	MTU    int // of the interface
	// SegmentMax is the largest IP packet that Packet takes to be segmented, bytes.
	SegmentMax int
	// LargeRx says that received packets may be larger than MTU: joined segments, whose
	// size a mark in the place of the sender's MAC address may tell (steer.c).
	LargeRx bool
	// Virtual says that the interface is a virtual link: packets may have only the
	// pseudo-header's sum for a checksum.
	Virtual bool
	MAC     [6]byte // source address of all that is sent: the interface's
}

// Close closes the descriptors.
func (g *Grant) Close() error {
	var errs []error
	for _, fd := range []*int{&g.RX, &g.TX, &g.Packet} {
		if *fd >= 0 {
			errs = append(errs, unix.Close(*fd))
			*fd = -1
		}
	}
	return errors.Join(errs...)
}
