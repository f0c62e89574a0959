package neigh

import (
	"encoding/binary"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/onload-go/onload/ip"
)

// Ports of DHCP (RFC 2131, 4.1).
const (
	dhcpServerPort = 67
	dhcpClientPort = 68
)

const (
	udpLen = 8
	// dhcpMost is the largest message that servers may send, bytes (RFC 2132, 9.10): an
	// Ethernet frame holds it.
	dhcpMost = 1472
)

// Offsets of a message's fields in which an option may have more options (RFC 2132, 9.3).
const (
	snameAt, snameEnd = 44, 108
	fileAt, fileEnd   = 108, 236
)

// send sends a message. While no address is ours it comes from 0.0.0.0 and goes to all
// (RFC 2131, 4.1); the options are those of its table 5.
func (d *dhcp) send(t dhcpv4.MessageType, now int64) {
	d.tries++
	m := &dhcpv4.DHCPv4{
		OpCode: dhcpv4.OpcodeBootRequest, HWType: 1, TransactionID: d.xid, ClientHWAddr: d.h.mac[:],
		NumSeconds: uint16(min((now-d.began)/int64(time.Second), 0xffff)),
		Options:    dhcpv4.Options{},
	}
	m.UpdateOption(dhcpv4.OptMessageType(t))
	m.UpdateOption(dhcpv4.OptClientIdentifier(append([]byte{1}, d.h.mac[:]...))) // RFC 2132, 9.14
	ours, server := d.lease.addr.Addr(), d.lease.server
	src, dst, to := netip.IPv4Unspecified(), ip.Broadcast, broadcast
	named := d.state == dhcpRequesting || t == dhcpv4.MessageTypeDecline
	reboot := d.state == dhcpRebooting && t == dhcpv4.MessageTypeRequest // RFC 2131, 4.3.2: no server is named
	if named || reboot {
		m.UpdateOption(dhcpv4.OptRequestedIPAddress(ours.AsSlice()))
	}
	if named || t == dhcpv4.MessageTypeRelease {
		m.UpdateOption(dhcpv4.OptServerIdentifier(server.AsSlice()))
	}
	if d.holds && !reboot {
		m.ClientIPAddr, src = ours.AsSlice(), ours
		if d.state != dhcpRebinding {
			dst, to = server, d.lease.via
		}
	}
	if t == dhcpv4.MessageTypeDiscover || t == dhcpv4.MessageTypeRequest {
		m.UpdateOption(dhcpv4.OptMaxMessageSize(dhcpMost))
		m.UpdateOption(dhcpv4.OptParameterRequestList( // RFC 3442: 121 before 3
			dhcpv4.OptionSubnetMask, dhcpv4.OptionClasslessStaticRoute, dhcpv4.OptionRouter,
			dhcpv4.OptionDomainNameServer, dhcpv4.OptionInterfaceMTU,
			dhcpv4.OptionRenewTimeValue, dhcpv4.OptionRebindingTimeValue))
	}
	d.h.sendUDP(to, netip.AddrPortFrom(src, dhcpClientPort), netip.AddrPortFrom(dst, dhcpServerPort), m.ToBytes())
}

// sendUDP sends a datagram of IPv4 to the host with address to.
func (h *Host) sendUDP(to [6]byte, src, dst netip.AddrPort, payload []byte) {
	var hdr ip.Header
	hdr.Init(h.mac, to, 0, src.Addr(), dst.Addr(), ip.ProtoUDP, 0, defaultTTL)
	n := udpLen + len(payload)
	u := h.frame[hdr.Len():][:n]
	binary.BigEndian.PutUint16(u, src.Port())
	binary.BigEndian.PutUint16(u[2:], dst.Port())
	binary.BigEndian.PutUint16(u[4:], uint16(n))
	binary.BigEndian.PutUint16(u[6:], 0)
	copy(u[udpLen:], payload)
	sum := ^ip.Add(ip.Sum(u), ip.PseudoSum(src.Addr(), dst.Addr(), ip.ProtoUDP, n))
	if sum == 0 {
		sum = 0xffff // RFC 768
	}
	binary.BigEndian.PutUint16(u[6:], sum)
	hdr.Put(h.frame[:], n, 0, 0)
	h.out.Send(h.frame[:hdr.Len()+n])
}

// inputDHCP takes the datagram of h.packet if it is a DHCP server's, and reports
// whether it is.
func (h *Host) inputDHCP(l4 []byte, now int64) bool {
	p := &h.packet
	if p.V6 || len(l4) < udpLen || h.dhcp == nil || binary.BigEndian.Uint16(l4[2:]) != dhcpClientPort {
		return false
	}
	n := int(binary.BigEndian.Uint16(l4[4:]))
	if n < udpLen || n > len(l4) || !udpSumOK(p, l4[:n]) {
		h.counters.Malformed++
		return true
	}
	m, err := readDHCP(l4[udpLen:n])
	if err != nil {
		h.counters.Malformed++
		return true
	}
	if m.OpCode == dhcpv4.OpcodeBootReply && m.TransactionID == h.dhcp.xid && string(m.ClientHWAddr) == string(h.mac[:]) {
		h.dhcp.input(m, p.SrcMAC, now)
	}
	return true
}

// udpSumOK reports whether the checksum of a datagram is right, or there is none. A
// kernel that sends over a virtual link leaves it to the device to complete the
// pseudo-header's (servers on the same machine do).
func udpSumOK(p *ip.Packet, b []byte) bool {
	field := binary.BigEndian.Uint16(b[6:])
	pseudo := ip.PseudoSum(p.Src, p.Dst, ip.ProtoUDP, len(b))
	return field == 0 || field == pseudo || ip.Add(ip.Sum(b), pseudo) == 0xffff
}

// readDHCP reads a message, with the options for which other fields have room.
func readDHCP(b []byte) (*dhcpv4.DHCPv4, error) {
	m, err := dhcpv4.FromBytes(b)
	if err != nil {
		return nil, err
	}
	over := m.Options.Get(dhcpv4.OptionOptionOverload)
	if len(over) != 1 {
		return m, nil
	}
	for i, field := range [...][]byte{b[fileAt:fileEnd], b[snameAt:snameEnd]} {
		if over[0]>>i&1 == 0 {
			continue
		}
		if err := m.Options.FromBytes(field); err != nil {
			return nil, err
		}
	}
	return m, nil
}
