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

// PutPortUnreachable writes to b the ICMP message that tells the sender of p that
// nobody listens, and returns its length in bytes. quote holds as much of p as
// there is, from its IP header on. The caller writes the IP header in front, from
// p.Dst to p.Src (Header.InitReply). b has room for at least 8 bytes; the quote is
// cut to fit.
func PutPortUnreachable(b []byte, p *Packet, quote []byte) int {
	typ, code, limit := uint8(icmpUnreachable), uint8(icmpPortUnreachable), maxQuote4
	if p.V6 {
		typ, code, limit = icmp6Unreachable, icmp6PortUnreachable, maxQuote6
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
