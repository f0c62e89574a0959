package sim

import (
	"encoding/binary"
	"net/netip"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/ip"
)

const (
	protoTCP = ip.ProtoTCP
	protoUDP = ip.ProtoUDP
)

// headers holds the fields of a packet that the NIC looks at to steer and check
// it.
type headers struct {
	ip.Packet
	sport, dport uint16 // TCP and UDP; not in a fragment that is not the first
}

// parse fills h from a frame. It returns false when the frame is no whole IP
// packet.
func (h *headers) parse(b []byte) bool {
	h.sport, h.dport = 0, 0
	if ip.Parse(b, len(b), &h.Packet) != nil {
		return false
	}
	if h.proto() == 0 || h.FragOff != 0 {
		return true
	}
	if h.L4Len < driver.UDPHeaderLen {
		return false
	}
	l4 := b[h.L4Off:]
	h.sport, h.dport = binary.BigEndian.Uint16(l4), binary.BigEndian.Uint16(l4[2:])
	return true
}

func (h *headers) source() netip.AddrPort { return netip.AddrPortFrom(h.Src, h.sport) }

func (h *headers) destination() netip.AddrPort { return netip.AddrPortFrom(h.Dst, h.dport) }

// proto is the transport protocol if that has ports, else 0.
func (h *headers) proto() uint8 {
	if h.Proto == protoTCP || h.Proto == protoUDP {
		return h.Proto
	}
	return 0
}

// rss returns the hash that the NIC computes.
func (h *headers) rss(t *driver.Toeplitz) uint32 {
	if !h.Fragment && h.proto() != 0 {
		return t.Flow(h.source(), h.destination())
	}
	return t.Addrs(h.Src, h.Dst)
}

// verify reports whether the transport checksum is there and right.
func (h *headers) verify(b []byte) bool {
	if h.Fragment || h.proto() == 0 {
		return false
	}
	l4 := b[h.L4Off : h.L4Off+h.L4Len]
	if h.Proto == protoUDP && binary.BigEndian.Uint16(l4[driver.UDPChecksum:]) == 0 {
		return false // RFC 768: no checksum
	}
	return ip.Add(ip.PseudoSum(h.Src, h.Dst, h.Proto, len(l4)), ip.Sum(l4)) == 0xffff
}

// markCE sets congestion experienced (RFC 3168 section 5) on a packet whose
// sender can hear it. It reports whether it did.
func markCE(b []byte) bool {
	var h headers
	if !h.parse(b) || h.TOS&3 == 0 {
		return false
	}
	p := b[h.NetOff:]
	if h.V6 {
		p[1] |= 3 << 4
		return true
	}
	p[1] |= 3
	putIPv4Sum(p[:h.L4Off-h.NetOff])
	return true
}

// putIPv4Sum completes an IPv4 header.
func putIPv4Sum(hdr []byte) {
	hdr[10], hdr[11] = 0, 0
	binary.BigEndian.PutUint16(hdr[10:], ^ip.Sum(hdr))
}
