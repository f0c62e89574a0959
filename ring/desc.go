// Package ring holds the parts that every room of the stack shares: the frame
// arena, descriptors, lock-free queues, the timer wheel and the stack lock.
// Nothing here knows about packets or protocols.
package ring

// Frame names one chunk of an Arena.
type Frame uint32

// NoFrame is the nil of Frame.
const NoFrame = ^Frame(0)

// Headroom is the room, in bytes, that a sender leaves before the payload of
// a frame: driver metadata (32), Ethernet with two VLAN tags (22), IPv6 (40),
// TCP with all options (60), rounded up to cache lines.
const Headroom = 192

// DescFlags qualify a Desc.
type DescFlags uint16

const (
	// FlagMore: the packet continues in the next Desc of the batch.
	FlagMore DescFlags = 1 << iota
	// FlagCsumGood (RX): the device verified the transport checksum.
	FlagCsumGood
	// FlagCsumPartial: the transport checksum field holds only the sum of the
	// pseudo-header. On TX the device completes it, using CsumStart and CsumOff. On
	// RX the packet crossed no wire, so there is nothing to verify.
	FlagCsumPartial
	// FlagGSO: a packet larger than the MTU, which stands for segments of SegSize
	// bytes of payload (on RX 0 if the device does not say). On TX it comes with
	// FlagCsumPartial: the device that cuts the packet sums the segments.
	FlagGSO
	// FlagV6 (TX, with FlagCsumPartial): the packet is IPv6, else IPv4.
	FlagV6
	// FlagCWR (TX, with FlagGSO): the TCP header carries CWR, which only the
	// first segment may repeat (RFC 3168 section 6.1.2).
	FlagCWR
	// FlagKernels (RX): the first fragment of a datagram that is the kernel's. It
	// came because others, without ports, came before it (driver.Returner).
	FlagKernels
)

// A Desc is one piece of a packet in a frame. It is pointer-free. A packet of
// several frames is a run of Descs of which all but the last carry FlagMore;
// the properties of the packet are in the first. Offsets and lengths are in
// bytes; those of headers count from the start of the data.
//
// On TX, CsumStart, CsumOff, NetOff and HdrLen are set with FlagCsumPartial.
// A device that completes checksums or segments packets needs no more, so no
// driver parses a packet.
type Desc struct {
	Frame     Frame
	Off, Len  uint16 // of the data inside the frame
	Flags     DescFlags
	CsumStart uint16 // of the transport header
	CsumOff   uint16 // of the checksum field, from CsumStart (driver.TCPChecksum)
	SegSize   uint16
	NetOff    uint16 // of the IP header
	HdrLen    uint16 // link, network and transport headers: the payload's offset
}

// PacketLen returns the number of Descs and the bytes of the packet that
// starts at ds[0].
func PacketLen(ds []Desc) (n, bytes int) {
	for n < len(ds) {
		bytes += int(ds[n].Len)
		n++
		if ds[n-1].Flags&FlagMore == 0 {
			break
		}
	}
	return n, bytes
}
