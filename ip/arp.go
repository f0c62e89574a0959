package ip

import (
	"encoding/binary"
	"net/netip"
)

// ARP operations.
const (
	ARPRequest = 1
	ARPReply   = 2
)

const arpLen = 28

// ARP is an ARP message for IPv4 over Ethernet (RFC 826).
type ARP struct {
	Op                   uint16
	SenderMAC, TargetMAC [6]byte
	Sender, Target       netip.Addr
}

// ParseARP reads the ARP message in an Ethernet frame. Of p it sets the link layer.
// The error is ErrNotIP if the frame is no ARP. It refuses a message that no host
// sends: one with a multicast or broadcast address as the sender's, or another
// operation than request and reply. A sender of 0.0.0.0 is a probe (RFC 5227,
// 2.1.1).
func ParseARP(frame []byte, p *Packet, a *ARP) error {
	off, typ, err := parseEther(frame, p)
	if err != nil {
		return err
	}
	if typ != typeARP {
		return ErrNotIP
	}
	b := frame[off:]
	if len(b) < arpLen {
		return ErrShort
	}
	// Ethernet, IPv4, and their address lengths.
	if binary.BigEndian.Uint64(b)>>16 != 0x0001_0800_0604 {
		return ErrHeader
	}
	a.Op = binary.BigEndian.Uint16(b[6:])
	a.SenderMAC, a.TargetMAC = [6]byte(b[8:14]), [6]byte(b[18:24])
	a.Sender = netip.AddrFrom4([4]byte(b[14:18]))
	a.Target = netip.AddrFrom4([4]byte(b[24:28]))
	if a.Op != ARPRequest && a.Op != ARPReply || !unicastMAC(a.SenderMAC) {
		return ErrHeader
	}
	if !Unicast(a.Sender) && !a.Sender.IsUnspecified() {
		return ErrHeader
	}
	return nil
}

// unicastMAC reports whether m may be a host's.
func unicastMAC(m [6]byte) bool { return m[0]&1 == 0 && m != [6]byte{} }

// Put writes the message as an Ethernet frame to b, from a.SenderMAC to dst,
// and returns its length: 46 bytes at most, to be padded by the device.
func (a *ARP) Put(b []byte, dst [6]byte, vlan uint16) int {
	copy(b, dst[:])
	copy(b[6:], a.SenderMAC[:])
	off := 12
	if vlan != 0 {
		binary.BigEndian.PutUint16(b[off:], typeVLAN)
		binary.BigEndian.PutUint16(b[off+2:], vlan)
		off += vlanLen
	}
	binary.BigEndian.PutUint16(b[off:], typeARP)
	b = b[:off+2+arpLen]
	m := b[off+2:]
	binary.BigEndian.PutUint64(m, 0x0001_0800_0604<<16|uint64(a.Op))
	s, t := a.Sender.As4(), a.Target.As4()
	copy(m[8:], a.SenderMAC[:])
	copy(m[14:], s[:])
	copy(m[18:], a.TargetMAC[:])
	copy(m[24:], t[:])
	return len(b)
}
