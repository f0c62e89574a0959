package ip

import "encoding/binary"

// Answerable reports whether an ICMP error may answer p (RFC 1122, 3.2.2; RFC 4443,
// 2.4(e)): p is whole or a first fragment, was sent to us alone, and by one host.
// Nor may p be an ICMP error; the caller asks for TCP and UDP only.
func (p *Packet) Answerable() bool {
	const group = 1 // bit of a MAC: multicast or broadcast
	return p.FragOff == 0 && p.DstMAC[0]&group == 0 && Unicast(p.Dst) && !Bogus(p.Src, p.Dst)
}

// An error quotes so much of a packet that the whole message fits an IP packet of
// 576 bytes (RFC 1812, 4.3.2.3) or the least IPv6 MTU (RFC 4443, 2.4(c)).
const (
	maxQuote4 = 576 - ipv4Len - icmpLen
	maxQuote6 = minMTU6 - ipv6Len - icmpLen
)

// An ICMPReply is an error that we answer a packet with.
type ICMPReply uint8

const (
	// PortUnreachable says that nobody listens (RFC 792; RFC 4443, 3.1).
	PortUnreachable ICMPReply = iota
	// ReassemblyTimeout says that the rest of a datagram did not come (RFC 792; RFC
	// 8200, 4.5).
	ReassemblyTimeout
)

// message is the error's type and code.
func (e ICMPReply) message(v6 bool) (typ, code uint8) {
	switch {
	case e == ReassemblyTimeout && v6:
		return icmp6TimeExceed, icmpReassembly
	case e == ReassemblyTimeout:
		return icmpTimeExceed, icmpReassembly
	case v6:
		return icmp6Unreachable, icmp6PortUnreachable
	}
	return icmpUnreachable, icmpPortUnreachable
}

// PutICMPReply writes to b the ICMP message that answers p with an error, and returns
// its length in bytes. quote holds as much of p as there is, from its IP header on.
// The caller writes the IP header in front, from p.Dst to p.Src (Header.InitReply). b
// has room for at least 8 bytes; the quote is cut to fit.
func PutICMPReply(b []byte, e ICMPReply, p *Packet, quote []byte) int {
	typ, code := e.message(p.V6)
	limit := maxQuote4
	if p.V6 {
		limit = maxQuote6
	}
	clear(b[:icmpLen])
	b[0], b[1] = typ, code
	quote = quote[:min(len(quote), limit)]
	n := icmpLen + len(quote[:min(len(quote), len(b)-icmpLen)])
	sum := SumCopy(b[icmpLen:n], quote)
	sum = Add(sum, uint16(typ)<<8|uint16(code))
	if p.V6 {
		sum = Add(sum, PseudoSum(p.Dst, p.Src, ProtoICMPv6, n))
	}
	binary.BigEndian.PutUint16(b[2:], ^sum)
	return n
}

// EchoReply turns the echo request that starts with msg into its reply, in place.
// It does not touch the payload, which may go on elsewhere. It returns false for
// other messages. The checksum stays as good or bad as it was (RFC 1624, 3). The
// caller exchanges source and destination of the packet.
func EchoReply(msg []byte, v6 bool) bool {
	if len(msg) < icmpLen || msg[1] != 0 {
		return false
	}
	from, to := uint8(icmpEcho), uint8(icmpEchoReply)
	if v6 {
		from, to = icmp6Echo, icmp6EchoReply
	}
	if msg[0] != from {
		return false
	}
	msg[0] = to
	sum := ^binary.BigEndian.Uint16(msg[2:])
	sum = Add(Add(sum, ^(uint16(from)<<8)), uint16(to)<<8)
	binary.BigEndian.PutUint16(msg[2:], ^sum)
	return true
}
