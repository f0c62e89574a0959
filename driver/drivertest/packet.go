package drivertest

import (
	"encoding/binary"
	"net/netip"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/ip"
	"github.com/onload-go/onload/ring"
)

const (
	tcp  = ip.ProtoTCP
	udp  = ip.ProtoUDP
	port = 7 // that ready steers to B
	from = 1000

	ack, cwr = 0x10, 0x80 // TCP's flags
)

// flow is what packets from A to B have in common.
type flow struct {
	proto     uint8
	v6        bool
	from, to  End
	src, dest uint16
}

func (l *Ends) flow(proto uint8, v6 bool) flow { return flow{proto, v6, l.A, l.B, from, port} }

func (f *flow) addrs() (src, dst netip.Addr) {
	if f.v6 {
		return f.from.Addr6, f.to.Addr6
	}
	return f.from.Addr4, f.to.Addr4
}

// packet builds a frame with payload, and the Desc that describes its headers.
// With partial the checksum is the pseudo-header's sum.
func (f *flow) packet(payload []byte, partial bool) (b []byte, d ring.Desc) {
	src, dst := f.addrs()
	var h ip.Header
	h.Init(f.from.MAC, f.to.MAC, 0, src, dst, f.proto, 0, 64)
	n, sum := driver.UDPHeaderLen, driver.UDPChecksum
	if f.proto == tcp {
		n, sum = driver.TCPHeaderLen, driver.TCPChecksum
	}
	b = make([]byte, h.Len()+n, h.Len()+n+len(payload))
	b = append(b, payload...)
	h.Put(b, n+len(payload), 0, 0)
	l4 := b[h.Len():]
	binary.BigEndian.PutUint16(l4[0:], f.src)
	binary.BigEndian.PutUint16(l4[2:], f.dest)
	if f.proto == tcp {
		l4[12], l4[driver.TCPFlags] = driver.TCPHeaderLen/4<<4, ack
	} else {
		binary.BigEndian.PutUint16(l4[4:], uint16(len(l4)))
	}
	d = ring.Desc{CsumStart: uint16(h.Len()), CsumOff: uint16(sum), HdrLen: uint16(h.Len() + n)}
	h.Describe(&d)
	s := ip.PseudoSum(src, dst, f.proto, len(l4))
	if partial {
		d.Flags |= ring.FlagCsumPartial
	} else {
		s = ^ip.Add(s, ip.Sum(l4))
	}
	binary.BigEndian.PutUint16(l4[sum:], s)
	return b, d
}

// datagram builds a UDP packet over IPv4 with n bytes that differ with seed.
func (l *Ends) datagram(n int, seed byte) []byte {
	f := l.flow(udp, false)
	b, _ := f.packet(pattern(n, seed), false)
	return b
}

// sound reports whether the transport checksum of a received packet is right or, if
// the link has no wire, left partial.
func sound(b []byte, virtual bool) bool {
	var p ip.Packet
	if ip.Parse(b, len(b), &p) != nil {
		return false
	}
	l4 := b[p.L4Off:][:p.L4Len]
	pseudo := ip.PseudoSum(p.Src, p.Dst, p.Proto, len(l4))
	at := driver.UDPChecksum
	if p.Proto == tcp {
		at = driver.TCPChecksum
	}
	return ip.Add(pseudo, ip.Sum(l4)) == 0xffff || virtual && binary.BigEndian.Uint16(l4[at:]) == pseudo
}

// unpadded is a received packet without what a sender has to append to reach the
// smallest frame of Ethernet.
func unpadded(b []byte) []byte {
	var p ip.Packet
	if ip.Parse(b, len(b), &p) != nil {
		return b
	}
	return b[:p.L4Off+p.L4Len]
}

// describe gives the first Desc of a packet the properties of d.
func describe(first *ring.Desc, d ring.Desc) {
	first.Flags |= d.Flags
	first.CsumStart, first.CsumOff, first.SegSize = d.CsumStart, d.CsumOff, d.SegSize
	first.NetOff, first.HdrLen = d.NetOff, d.HdrLen
}

// pattern returns n bytes that show an error in place or order.
func pattern(n int, seed byte) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i) ^ byte(i>>8)*3 ^ seed
	}
	return b
}
