package virtio

import (
	"encoding/binary"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/ring"
)

// The header in front of each packet (5.1.6) with VERSION_1.
const (
	headerLen = 12

	headerFlags   = 0
	headerGSO     = 1
	headerHdrLen  = 2
	headerSegSize = 4
	headerStart   = 6
	headerOffset  = 8
	headerMerged  = 10 // number of buffers

	needsCsum = 1 // only the pseudo-header's sum is in the field
	dataValid = 2 // the device verified the checksum

	gsoNone  = 0
	gsoTCP4  = 1
	gsoTCP6  = 4
	gsoUDPL4 = 5
	gsoECN   = 0x80
)

var le = binary.LittleEndian

// putHeader describes a packet to the device (5.1.6.2), in the headerLen bytes h.
func putHeader(h []byte, d *ring.Desc) {
	le.PutUint64(h, 0)
	le.PutUint32(h[8:], 0)
	if d.Flags&ring.FlagCsumPartial == 0 {
		return
	}
	h[headerFlags] = needsCsum
	le.PutUint16(h[headerStart:], d.CsumStart)
	le.PutUint16(h[headerOffset:], d.CsumOff)
	if d.Flags&ring.FlagGSO == 0 {
		return
	}
	gso := byte(gsoTCP4)
	switch {
	case d.CsumOff == driver.UDPChecksum:
		gso = gsoUDPL4
	case d.Flags&ring.FlagV6 != 0:
		gso = gsoTCP6
	}
	if d.Flags&ring.FlagCWR != 0 {
		gso |= gsoECN // of the first segment only
	}
	h[headerGSO] = gso
	le.PutUint16(h[headerHdrLen:], d.HdrLen)
	le.PutUint16(h[headerSegSize:], d.SegSize)
}

// readHeader puts what the device says of a packet into its first Desc (5.1.6.4). It
// reports whether that is among the features.
func readHeader(h []byte, features uint64, d *ring.Desc) bool {
	flags, gso := h[headerFlags], h[headerGSO]
	if flags|gso == 0 {
		return true
	}
	switch {
	case features&featGuestCsum == 0:
		// 5.1.6.4.1: neither flag, and so no segments.
		return flags&(needsCsum|dataValid) == 0 && gso == gsoNone
	case flags&needsCsum != 0:
		d.Flags |= ring.FlagCsumPartial
		d.CsumStart, d.CsumOff = le.Uint16(h[headerStart:]), le.Uint16(h[headerOffset:])
	case flags&dataValid != 0:
		d.Flags |= ring.FlagCsumGood
	}
	switch gso &^ gsoECN {
	case gsoNone:
		return true
	case gsoTCP4:
		features &= featGuestTSO4
	case gsoTCP6:
		features &= featGuestTSO6
	default:
		return false
	}
	d.Flags |= ring.FlagGSO
	d.SegSize = le.Uint16(h[headerSegSize:])
	return features != 0
}
