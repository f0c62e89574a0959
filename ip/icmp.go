package ip

import (
	"encoding/binary"
	"net/netip"
	"syscall"
)

// ICMP types and codes (RFC 792, RFC 4443).
const (
	icmpEchoReply   = 0
	icmpUnreachable = 3
	icmpEcho        = 8
	icmpTimeExceed  = 11
	icmpParamProb   = 12

	icmpPortUnreachable = 3
	icmpFragNeeded      = 4
	icmpReassembly      = 1 // of time exceeded, IPv6 too

	icmp6Unreachable  = 1
	icmp6PacketTooBig = 2
	icmp6TimeExceed   = 3
	icmp6ParamProb    = 4
	icmp6Echo         = 128
	icmp6EchoReply    = 129

	icmp6PortUnreachable = 4

	icmpLen = 8

	minMTU6 = 1280 // RFC 8200, 5
)

// ICMPError is an ICMP or ICMPv6 error message. The packet that it quotes names the
// flow of ours that it concerns. Anybody can forge one, so a connection accepts it
// only if Seq is in flight (RFC 5927, 4.1).
type ICMPError struct {
	Type, Code    uint8
	V6            bool
	MTU           int   // of the next hop, where the message says so, else 0
	Proto         uint8 // of the quoted packet: ProtoTCP or ProtoUDP
	Local, Remote netip.AddrPort
	Seq           uint32 // quoted TCP sequence number
	HasSeq        bool   // Proto is ProtoTCP
}

// protoIGMP is the protocol of IGMP (RFC 3376, 4); mldFirst and mldReport2 are MLD's types
// in front of neighbour discovery's, and the one that came later (RFC 3810, 5).
const (
	protoIGMP  = 2
	mldFirst   = 130
	mldReport2 = 143
)

// fromDHCPServer is how a datagram from port 67 to port 68 begins.
const fromDHCPServer = "\x00\x43\x00\x44"

// AsksHost reports whether p, which frame begins with, concerns the host rather than a
// flow: it is a ping, neighbour discovery (RFC 4861, 4), IGMP, MLD (RFC 3810, 5), or from a DHCP server (RFC 2131,
// 4.1). Fragments do not say.
func (p *Packet) AsksHost(frame []byte) bool {
	if p.Fragment || p.L4Len == 0 || len(frame) <= p.L4Off {
		return false
	}
	switch t := frame[p.L4Off]; p.Proto {
	case protoIGMP:
		return !p.V6
	case ProtoICMP:
		return !p.V6 && t == icmpEcho
	case ProtoICMPv6:
		return p.V6 && (t == icmp6Echo || t >= mldFirst && t <= NeighborAdvertisement || t == mldReport2)
	case ProtoUDP:
		return !p.V6 && p.L4Len >= 4 && len(frame) >= p.L4Off+4 && string(frame[p.L4Off:p.L4Off+4]) == fromDHCPServer
	}
	return false
}

// ParseICMPError reads the message l4 that arrived in p; its checksum has been
// verified. It returns false if the message is no error, if it neither ends nor
// hinders a flow (source quench, RFC 6633; redirect), or if it is too short to name
// a flow. We sent the quoted packet.
func ParseICMPError(p *Packet, l4 []byte, e *ICMPError) bool {
	if len(l4) < icmpLen {
		return false
	}
	*e = ICMPError{Type: l4[0], Code: l4[1], V6: p.V6}
	var ok bool
	if p.V6 {
		ok = e.kind6(l4) && e.quoted6(l4[icmpLen:])
	} else {
		ok = e.kind4(l4) && e.quoted4(l4[icmpLen:])
	}
	// An error goes to the sender of the packet that it quotes.
	return ok && e.Local.Addr() == p.Dst
}

func (e *ICMPError) kind4(l4 []byte) bool {
	switch e.Type {
	case icmpUnreachable:
		if e.Code == icmpFragNeeded {
			e.MTU = int(binary.BigEndian.Uint16(l4[6:])) // RFC 1191, 4; 0 from old routers
		}
		return int(e.Code) < len(unreachable4)
	case icmpTimeExceed, icmpParamProb:
		return true
	}
	return false
}

func (e *ICMPError) kind6(l4 []byte) bool {
	switch e.Type {
	case icmp6Unreachable, icmp6TimeExceed, icmp6ParamProb:
		return true
	case icmp6PacketTooBig:
		e.MTU = int(min(binary.BigEndian.Uint32(l4[4:]), 1<<16))
		return e.MTU >= minMTU6 // RFC 8201, 4: else discard
	}
	return false
}

func (e *ICMPError) quoted4(b []byte) bool {
	if len(b) < ipv4Len || b[0]>>4 != 4 {
		return false
	}
	hl := int(b[0]&15) * 4
	if hl < ipv4Len || len(b) < hl || binary.BigEndian.Uint16(b[6:])&fragOffset != 0 {
		return false
	}
	e.Proto = b[9]
	return e.ports(netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20])), b[hl:])
}

func (e *ICMPError) quoted6(b []byte) bool {
	if len(b) < ipv6Len || b[0]>>4 != 6 {
		return false
	}
	var frag Packet
	x := extChain{b: b, next: b[6], off: ipv6Len}
	if x.walk(&frag) != nil || frag.FragOff != 0 {
		return false
	}
	e.Proto = x.next
	return e.ports(netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40])), b[x.off:])
}

// ports reads the first 8 bytes of the quoted transport header, which every
// honest error has (RFC 792).
func (e *ICMPError) ports(src, dst netip.Addr, b []byte) bool {
	if e.Proto != ProtoTCP && e.Proto != ProtoUDP || len(b) < 8 {
		return false
	}
	e.Local = netip.AddrPortFrom(src, binary.BigEndian.Uint16(b))
	e.Remote = netip.AddrPortFrom(dst, binary.BigEndian.Uint16(b[2:]))
	if e.Proto == ProtoTCP {
		e.Seq, e.HasSeq = binary.BigEndian.Uint32(b[4:]), true
	}
	return true
}

// IsPTB reports whether e says that a packet was too large for its path.
func (e *ICMPError) IsPTB() bool {
	if e.V6 {
		return e.Type == icmp6PacketTooBig
	}
	return e.Type == icmpUnreachable && e.Code == icmpFragNeeded
}

// icmpErrno is Linux's errno for a code of destination unreachable; final says
// that it ends a connection attempt.
type icmpErrno struct {
	errno syscall.Errno
	hard  bool
}

// ICMP's: icmp_err_convert.
var unreachable4 = [16]icmpErrno{
	{syscall.ENETUNREACH, false},  // network
	{syscall.EHOSTUNREACH, false}, // host
	{syscall.ENOPROTOOPT, true},   // protocol
	{syscall.ECONNREFUSED, true},  // port
	{syscall.EMSGSIZE, false},     // fragmentation needed
	{syscall.EOPNOTSUPP, false},   // source route failed
	{syscall.ENETUNREACH, true},   // network unknown
	{syscall.EHOSTDOWN, true},     // host unknown
	{syscall.ENONET, true},        // host isolated
	{syscall.ENETUNREACH, true},   // network prohibited
	{syscall.EHOSTUNREACH, true},  // host prohibited
	{syscall.ENETUNREACH, false},  // network, for this TOS
	{syscall.EHOSTUNREACH, false}, // host, for this TOS
	{syscall.EHOSTUNREACH, true},  // filtered
	{syscall.EHOSTUNREACH, true},  // precedence violation
	{syscall.EHOSTUNREACH, true},  // precedence cut off
}

// ICMPv6's: tab_unreach.
var unreachable6 = [7]icmpErrno{
	{syscall.ENETUNREACH, false},  // no route
	{syscall.EACCES, true},        // prohibited
	{syscall.EHOSTUNREACH, false}, // beyond scope
	{syscall.EHOSTUNREACH, false}, // address
	{syscall.ECONNREFUSED, true},  // port
	{syscall.EACCES, true},        // source address failed policy
	{syscall.EACCES, true},        // reject route
}

// Errno returns the error that Linux makes of e, and reports whether it is final
// for a connection attempt or a connected UDP socket. Once a TCP connection is
// established, all errors are soft (RFC 5927, 5.2).
func (e *ICMPError) Errno() (err syscall.Errno, hard bool) {
	switch {
	case e.IsPTB():
		return syscall.EMSGSIZE, false
	case e.V6 && e.Type == icmp6Unreachable:
		if int(e.Code) < len(unreachable6) {
			u := unreachable6[e.Code]
			return u.errno, u.hard
		}
		return syscall.EPROTO, true
	case e.V6 && e.Type == icmp6ParamProb, !e.V6 && e.Type == icmpParamProb:
		return syscall.EPROTO, true
	case !e.V6 && e.Type == icmpUnreachable && int(e.Code) < len(unreachable4):
		u := unreachable4[e.Code]
		return u.errno, u.hard
	}
	return syscall.EHOSTUNREACH, false // time exceeded
}
