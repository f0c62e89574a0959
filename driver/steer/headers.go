package steer

import (
	"encoding/binary"
	"net/netip"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/ip"
)

// Headers are the fields of a packet that a NIC looks at to steer it.
type Headers struct {
	ip.Packet
	SrcPort, DstPort uint16 // TCP and UDP; not in a fragment that is not the first
}

// Parse fills h from a packet of total bytes, of which first is the beginning,
// with all headers. It reports whether the packet is a whole IP packet.
func (h *Headers) Parse(first []byte, total int) bool {
	h.SrcPort, h.DstPort = 0, 0
	if ip.Parse(first, total, &h.Packet) != nil {
		return false
	}
	if !h.HasPorts() || h.FragOff != 0 {
		return true
	}
	if h.L4Len < driver.UDPHeaderLen || len(first) < h.L4Off+4 {
		return false
	}
	l4 := first[h.L4Off:]
	h.SrcPort, h.DstPort = binary.BigEndian.Uint16(l4), binary.BigEndian.Uint16(l4[2:])
	return true
}

// Source is the sender.
func (h *Headers) Source() netip.AddrPort { return netip.AddrPortFrom(h.Src, h.SrcPort) }

// Destination is the receiver.
func (h *Headers) Destination() netip.AddrPort { return netip.AddrPortFrom(h.Dst, h.DstPort) }

// HasPorts reports whether the transport protocol has ports: TCP and UDP.
func (h *Headers) HasPorts() bool { return h.Proto == ip.ProtoTCP || h.Proto == ip.ProtoUDP }
