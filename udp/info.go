package udp

import (
	"encoding/binary"
	"net/netip"
)

// Info is what is known of a received datagram besides its payload.
type Info struct {
	Src, Dst netip.AddrPort // where it came from, what it was sent to; its address may be unknown
	At       int64          // when it was received, ns of the clock of Push's caller
	Link     uint32         // index of the interface that received it; 0: unknown
	Seg      int            // payload bytes of each of the datagrams that came as one; 0: it is one
	TTL, TOS uint8          // TTL or hop limit; TOS or traffic class
}

// A queued datagram carries its Info in front of the payload, where the headers
// were: the room of Ethernet, IP and UDP headers is enough. Offsets are counted
// back from the payload, in bytes.
const (
	offFamily = 1
	offTOS    = 2
	offTTL    = 3
	offSeg    = 5
	offLink   = 9
	offAt     = 17
	offPorts  = 21 // source, destination
	offAddrs  = offPorts

	room4 = offAddrs + 2*4
	room6 = offAddrs + 2*16
)

// MinRoom4 and MinRoom6 are the room, in bytes, that Push wants in front of the
// payload of an IPv4 and of an IPv6 datagram.
const (
	MinRoom4 = room4
	MinRoom6 = room6
)

// room returns the bytes that the Info takes.
func (i *Info) room() int {
	if i.Src.Addr().Is4() {
		return room4
	}
	return room6
}

// put writes i in front of the payload at off.
func (i *Info) put(b []byte, off int) {
	be := binary.BigEndian
	h := b[off-i.room() : off]
	n := len(h)
	if src := i.Src.Addr(); src.Is4() {
		s := src.As4()
		var d [4]byte
		if i.Dst.Addr().Is4() {
			d = i.Dst.Addr().As4()
		}
		copy(h[0:], s[:])
		copy(h[4:], d[:])
		h[n-offFamily] = 4
	} else {
		s, d := src.As16(), i.Dst.Addr().As16() // zero where it is unknown
		copy(h[0:], s[:])
		copy(h[16:], d[:])
		h[n-offFamily] = 6
	}
	be.PutUint16(h[n-offPorts:], i.Src.Port())
	be.PutUint16(h[n-offPorts+2:], i.Dst.Port())
	be.PutUint64(h[n-offAt:], uint64(i.At))
	be.PutUint32(h[n-offLink:], i.Link)
	be.PutUint16(h[n-offSeg:], uint16(i.Seg))
	h[n-offTTL], h[n-offTOS] = i.TTL, i.TOS
}

// roomAt returns the bytes of the Info in front of the payload at off.
func roomAt(b []byte, off int) int {
	if b[off-offFamily] == 4 {
		return room4
	}
	return room6
}

// get reads what put wrote.
func (i *Info) get(b []byte, off int) {
	be := binary.BigEndian
	h := b[off-roomAt(b, off) : off]
	n := len(h)
	src, dst := be.Uint16(h[n-offPorts:]), be.Uint16(h[n-offPorts+2:])
	if n == room4 {
		i.Src = netip.AddrPortFrom(netip.AddrFrom4([4]byte(h[0:])), src)
		i.Dst = netip.AddrPortFrom(netip.AddrFrom4([4]byte(h[4:])), dst)
	} else {
		i.Src = netip.AddrPortFrom(netip.AddrFrom16([16]byte(h[0:])), src)
		i.Dst = netip.AddrPortFrom(netip.AddrFrom16([16]byte(h[16:])), dst)
	}
	i.At = int64(be.Uint64(h[n-offAt:]))
	i.Link = be.Uint32(h[n-offLink:])
	i.Seg = int(be.Uint16(h[n-offSeg:]))
	i.TTL, i.TOS = h[n-offTTL], h[n-offTOS]
}
