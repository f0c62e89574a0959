package nic

import (
	"encoding/binary"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/ip"
	"github.com/onload-go/onload/ring"
)

// MaxLink is the most bytes in front of an IP packet: Ethernet and two VLAN tags.
const MaxLink = 22

// Sendable reports whether the device can send a packet of size bytes, as Caps say.
func (q *Queue) Sendable(pkt []ring.Desc, size int) bool {
	c, first := &q.Dev.Traits, &pkt[0]
	gso := first.Flags&ring.FlagGSO != 0
	frags := c.MaxFrags
	if gso {
		frags = c.TSOFrags
	}
	if len(pkt) > frags || size < 14 || pkt[len(pkt)-1].Flags&ring.FlagMore != 0 {
		return false
	}
	for i := range pkt {
		if d := &pkt[i]; d.Len == 0 || int(d.Off)+int(d.Len) > q.Arena.FrameSize() {
			return false
		}
	}
	if first.Flags&(ring.FlagCsumPartial|ring.FlagGSO) == 0 {
		return true
	}
	// Both fields of a context have 8 bits where a device has contexts.
	at := int(first.CsumStart) + int(first.CsumOff)
	if !c.TxCsum || first.Flags&ring.FlagCsumPartial == 0 || at+2 > int(first.Len) || at > 255 || first.NetOff < 14 || first.CsumStart < first.NetOff+20 {
		return false
	}
	return !gso || first.SegSize > 0 && first.CsumOff == driver.TCPChecksum && size-int(first.NetOff) <= c.TSO &&
		int(first.HdrLen) >= int(first.CsumStart)+driver.TCPHeaderLen && first.HdrLen <= min(first.Len, 255) && int(first.HdrLen) < size
}

// TooLarge reports whether a packet is too large for the link.
func (q *Queue) TooLarge(first *ring.Desc, size int) bool {
	return first.Flags&ring.FlagGSO == 0 && size > q.Dev.Traits.MTU+MaxLink
}

// Segmentable prepares the headers of a packet that the device is to cut as the
// datasheets of Intel's controllers want it: the device adds the lengths of each
// segment to IP header and pseudo-header, which have none. Doing so twice changes
// nothing.
func (q *Queue) Segmentable(d *ring.Desc) {
	b := q.Arena.Data(*d)
	h := b[d.NetOff:]
	addrs := h[12:20]
	if d.Flags&ring.FlagV6 != 0 {
		binary.BigEndian.PutUint16(h[4:], 0)
		addrs = h[8:40]
	} else {
		binary.BigEndian.PutUint16(h[2:], 0)
		binary.BigEndian.PutUint16(h[10:], 0)
	}
	binary.BigEndian.PutUint16(b[d.CsumStart+d.CsumOff:], ip.Add(ip.Sum(addrs), ip.ProtoTCP))
}
