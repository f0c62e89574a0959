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
	// Segments asks for the packet socket, too. Who has it can have the kernel
	// allocate rings for it (PACKET_RX_RING), which no limit counts.
	Segments bool
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
	// LargeRx says that received packets may be larger than MTU: joined segments.
	LargeRx bool
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

// LinkCounters says what became of a link's packets.
type LinkCounters struct {
	Received     uint64 // to the process: packets of the interface
	Sent         uint64 // left by the interface, packets before segmentation; of these:
	SentFragment uint64 // fragments
	// Dropped by the filter, because of:
	DropMAC       uint64 // another source address, or a destination that does not fit the IP address
	DropVLAN      uint64 // a tag
	DropProto     uint64 // neither TCP nor UDP over IPv4 or IPv6
	DropHeader    uint64 // IP options, extension headers, impossible lengths
	DropFragment  uint64 // no first fragment is known, or one that hides the ports
	DropSource    uint64 // an address or a port that is not the process's
	DropChecksum  uint64 // a request to write a checksum where none is
	DropSize      uint64 // larger than the MTU and not to be segmented, or in segments larger than it
	DropRate      uint64 // more than RateBytes or RatePackets
	DropInterface uint64 // interface went away
}
