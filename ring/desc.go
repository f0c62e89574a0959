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
	// FlagMore: the packet goes on in the next Desc of the batch.
	FlagMore DescFlags = 1 << iota
	// FlagCsumGood (RX): the device verified the transport checksum.
	FlagCsumGood
	// FlagCsumPartial: the transport checksum field holds only the sum of the
	// pseudo-header. On TX the device completes it from CsumStart and
	// CsumOff; on RX no wire was crossed and nothing is left to verify.
	FlagCsumPartial
	// FlagGSO: a packet larger than the MTU; SegSize is the payload of each
	// segment that it stands for (on RX 0 where the device did not tell). On TX
	// it comes with FlagCsumPartial: who cuts it sums the segments.
	FlagGSO
)

// A Desc is one piece of a packet in a frame. It is pointer-free. A packet of
// several frames is a run of Descs of which all but the last carry FlagMore;
// all of the packet's properties stand in the first.
type Desc struct {
	Frame     Frame
	Off, Len  uint16 // of the data inside the frame, bytes
	Flags     DescFlags
	CsumStart uint16 // offset of the transport header from the start of data
	CsumOff   uint16 // offset of the checksum field from CsumStart
	SegSize   uint16
	Hash      uint32 // RSS hash where the device gives one, else 0
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
