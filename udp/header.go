// Package udp is UDP (RFC 768) as a state machine: headers and receive queue. It
// has no I/O, no goroutine and no clock.
package udp

import (
	"encoding/binary"
	"errors"

	"github.com/onload-go/onload/ip"
)

// HeaderLen is the length of a UDP header in bytes.
const HeaderLen = 8

// Errors of Parse.
var (
	ErrShort    = errors.New("udp: datagram is shorter than its header says")
	ErrChecksum = errors.New("udp: checksum is missing, which IPv6 does not allow")
)

// Header is a UDP header.
type Header struct {
	SrcPort, DstPort uint16
	Len              int    // header and payload, bytes
	Sum              uint16 // as on the wire; 0: none, nothing to verify
}

// Parse reads the header at b of a datagram for which the IP header leaves l4len
// bytes. Bytes behind Len are padding. ErrShort means that the lengths are not
// possible, ErrChecksum that an IPv6 datagram has no checksum.
func Parse(b []byte, l4len int, v6 bool, h *Header) error {
	if len(b) < HeaderLen {
		return ErrShort
	}
	h.SrcPort = binary.BigEndian.Uint16(b[0:])
	h.DstPort = binary.BigEndian.Uint16(b[2:])
	h.Len = int(binary.BigEndian.Uint16(b[4:]))
	h.Sum = binary.BigEndian.Uint16(b[6:])
	if h.Len < HeaderLen || h.Len > l4len {
		return ErrShort
	}
	// RFC 8200, 8.1: unlike in IPv4, the checksum is not optional. (RFC 6935's
	// exception is for tunnels that ask for it.)
	if h.Sum == 0 && v6 {
		return ErrChecksum
	}
	return nil
}

// ChecksumOff is the offset of the checksum in the header.
const ChecksumOff = 6

// Put writes the header of a datagram of l4len bytes, itself included. sum is
// the sum of pseudo-header and payload; the checksum written is complete.
func Put(b []byte, src, dst uint16, l4len int, sum uint16) {
	c := ^ip.Fold(uint64(sum) + uint64(src) + uint64(dst) + uint64(uint16(l4len)))
	if c == 0 {
		c = 0xffff // RFC 768: zero means no checksum
	}
	PutPartial(b, src, dst, l4len, c)
}

// PutPartial is Put for a device that completes the checksum
// (ring.FlagCsumPartial): the field holds pseudo, the pseudo-header's sum.
func PutPartial(b []byte, src, dst uint16, l4len int, pseudo uint16) {
	binary.BigEndian.PutUint16(b[0:], src)
	binary.BigEndian.PutUint16(b[2:], dst)
	binary.BigEndian.PutUint16(b[4:], uint16(l4len))
	binary.BigEndian.PutUint16(b[6:], pseudo)
}
