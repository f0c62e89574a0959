package sim

import (
	"encoding/binary"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/driver/steer"
	"github.com/onload-go/onload/ip"
)

const (
	protoTCP = ip.ProtoTCP
	protoUDP = ip.ProtoUDP
)

// rss returns the hash that the NIC computes.
func rss(t *driver.Toeplitz, h *steer.Headers) uint32 {
	if !h.Fragment && h.HasPorts() {
		return t.Flow(h.Source(), h.Destination())
	}
	return t.Addrs(h.Src, h.Dst)
}

// verify reports whether the transport checksum is there and right.
func verify(b []byte, h *steer.Headers) bool {
	if h.Fragment || !h.HasPorts() {
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
	var h steer.Headers
	if !h.Parse(b, len(b)) || h.TOS&3 == 0 {
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
