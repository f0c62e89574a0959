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

	icmp6Unreachable  = 1
	icmp6PacketTooBig = 2
	icmp6TimeExceed   = 3
	icmp6ParamProb    = 4

	icmp6PortUnreachable = 4

	icmpLen = 8
)

// ICMPError is an ICMP or ICMPv6 error message and what the quoted packet
// tells: which of our flows it is about.
type ICMPError struct {
	Type, Code    uint8
	V6            bool
	MTU           int   // of the next hop, where the message says so
	Proto         uint8 // of the quoted packet
	Local, Remote netip.AddrPort
	Seq           uint32 // quoted TCP sequence number
	HasSeq        bool
}

// ParseICMPError reads the message l4 that arrived in p. false: it is no
// error, or too short to tell whose. The quoted packet's source is us.
func ParseICMPError(p *Packet, l4 []byte, e *ICMPError) bool {
	if len(l4) < icmpLen {
		return false
	}
	*e = ICMPError{Type: l4[0], Code: l4[1], V6: p.V6}
	quote := l4[icmpLen:]
	if p.V6 {
		switch e.Type {
		case icmp6Unreachable, icmp6TimeExceed, icmp6ParamProb:
		case icmp6PacketTooBig:
			e.MTU = int(min(binary.BigEndian.Uint32(l4[4:]), 1<<16))
		default:
			return false
		}
		return e.quoted6(quote)
	}
	switch e.Type {
	case icmpUnreachable:
		if e.Code == icmpFragNeeded {
			e.MTU = int(binary.BigEndian.Uint16(l4[6:])) // RFC 1191, 4; 0 from old routers
		}
	case icmpTimeExceed, icmpParamProb:
	default:
		return false
	}
	return e.quoted4(quote)
}

func (e *ICMPError) quoted4(b []byte) bool {
	if len(b) < ipv4Len || b[0]>>4 != 4 {
		return false
	}
	hl := int(b[0]&15) * 4
	if hl < ipv4Len || len(b) < hl || binary.BigEndian.Uint16(b[6:])&0x1fff != 0 {
		return false
	}
	e.Proto = b[9]
	return e.ports(netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20])), b[hl:])
}

func (e *ICMPError) quoted6(b []byte) bool {
	if len(b) < ipv6Len || b[0]>>4 != 6 {
		return false
	}
	src, dst := netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40]))
	next, off := b[6], ipv6Len
	for range maxExts {
		switch next {
		case extHopByHop, extRouting, extDest, extFragment:
			if len(b) < off+8 {
				return false
			}
			n := 8 + int(b[off+1])*8
			if next == extFragment {
				if binary.BigEndian.Uint16(b[off+2:])&^7 != 0 {
					return false
				}
				n = fragHdrLen
			}
			next, off = b[off], off+n
			if len(b) < off {
				return false
			}
		default:
			e.Proto = next
			return e.ports(src, dst, b[off:])
		}
	}
	return false
}

// ports reads the first 8 bytes of the quoted transport header.
func (e *ICMPError) ports(src, dst netip.Addr, b []byte) bool {
	if e.Proto != ProtoTCP && e.Proto != ProtoUDP || len(b) < 4 {
		return false
	}
	e.Local = netip.AddrPortFrom(src, binary.BigEndian.Uint16(b))
	e.Remote = netip.AddrPortFrom(dst, binary.BigEndian.Uint16(b[2:]))
	if e.Proto == ProtoTCP && len(b) >= 8 {
		e.Seq, e.HasSeq = binary.BigEndian.Uint32(b[4:]), true
	}
	return true
}

// IsPTB tells whether e says that a packet was too large for its path.
func (e *ICMPError) IsPTB() bool {
	return e.V6 && e.Type == icmp6PacketTooBig || !e.V6 && e.Type == icmpUnreachable && e.Code == icmpFragNeeded
}

// Linux's errnos for the codes of ICMP destination unreachable
// (icmp_err_convert), and which of them end a connection attempt.
var unreachable4 = [...]struct {
	errno syscall.Errno
	hard  bool
}{
	{syscall.ENETUNREACH, false}, {syscall.EHOSTUNREACH, false}, {syscall.ENOPROTOOPT, true},
	{syscall.ECONNREFUSED, true}, {syscall.EMSGSIZE, false}, {syscall.EOPNOTSUPP, false},
	{syscall.ENETUNREACH, true}, {syscall.EHOSTDOWN, true}, {syscall.ENONET, true},
	{syscall.ENETUNREACH, true}, {syscall.EHOSTUNREACH, true}, {syscall.ENETUNREACH, false},
	{syscall.EHOSTUNREACH, false}, {syscall.EHOSTUNREACH, true}, {syscall.EHOSTUNREACH, true},
	{syscall.EHOSTUNREACH, true},
}

// ICMPv6's (icmpv6_err_convert).
var unreachable6 = [...]struct {
	errno syscall.Errno
	hard  bool
}{
	{syscall.ENETUNREACH, false}, {syscall.EACCES, true}, {syscall.EHOSTUNREACH, false},
	{syscall.EHOSTUNREACH, false}, {syscall.ECONNREFUSED, true}, {syscall.EACCES, true},
	{syscall.EACCES, true},
}

// Errno is the error that Linux makes of e, and whether it is final.
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
