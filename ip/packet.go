package ip

import (
	"encoding/binary"
	"errors"
	"net/netip"
)

// Errors of the parsers. They say why a packet is not for us.
var (
	ErrNotIP    = errors.New("ip: not an IP packet")
	ErrShort    = errors.New("ip: packet is shorter than its headers say")
	ErrHeader   = errors.New("ip: bad header")
	ErrChecksum = errors.New("ip: bad header checksum")
)

// Link layer.
const (
	etherLen = 14
	vlanLen  = 4
	typeIPv4 = 0x0800
	typeARP  = 0x0806
	typeIPv6 = 0x86dd
	typeVLAN = 0x8100
	typeQinQ = 0x88a8
	maxVLANs = 2
)

// Packet has the content of the link and network headers of a received packet.
type Packet struct {
	DstMAC, SrcMAC [6]byte
	VLAN           uint16 // VID of the outer tag, 0: untagged
	Tags           uint8  // VLAN tags
	V6             bool
	Src, Dst       netip.Addr
	Proto          uint8 // transport protocol, extension headers skipped
	TTL, TOS       uint8
	NetOff         int // of the IP header from the start of the data
	L4Off          int // of the transport header
	L4Len          int // transport header and payload, padding not counted

	// Of a fragment, L4Off and L4Len are its part of the datagram. In an IPv6
	// datagram, Proto may then be one more extension header, which Reassembler
	// skips.
	Fragment  bool
	MoreFrags bool
	FragID    uint32
	FragOff   int // bytes
}

// Parse reads the headers of a packet of total bytes. first is its beginning, with
// all headers up to the transport's. It allocates nothing. p is valid only if it
// returns nil.
func Parse(first []byte, total int, p *Packet) error {
	off, typ, err := parseEther(first, p)
	if err != nil {
		return err
	}
	if total < len(first) {
		return ErrShort
	}
	switch typ {
	case typeIPv4:
		return parse4(first[off:], total-off, p)
	case typeIPv6:
		return parse6(first[off:], total-off, p)
	}
	return ErrNotIP
}

// NetOffset returns the offset of the network header in an Ethernet frame, in
// bytes. If the frame has none, that is its length.
func NetOffset(frame []byte) int {
	var p Packet
	if _, _, err := parseEther(frame, &p); err != nil {
		return len(frame)
	}
	return p.NetOff
}

// parseEther reads the link header, and skips up to two VLAN tags.
func parseEther(b []byte, p *Packet) (off int, typ uint16, err error) {
	if len(b) < etherLen {
		return 0, 0, ErrShort
	}
	p.DstMAC = [6]byte(b[0:6])
	p.SrcMAC = [6]byte(b[6:12])
	p.VLAN, p.Tags = 0, 0
	off = etherLen
	typ = binary.BigEndian.Uint16(b[12:])
	for n := 0; (typ == typeVLAN || typ == typeQinQ) && n < maxVLANs; n++ {
		if len(b) < off+vlanLen {
			return 0, 0, ErrShort
		}
		if n == 0 {
			p.VLAN = binary.BigEndian.Uint16(b[off:]) & 0xfff
		}
		typ = binary.BigEndian.Uint16(b[off+2:])
		off += vlanLen
		p.Tags++
	}
	p.NetOff = off
	return off, typ, nil
}
