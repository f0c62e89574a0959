// Package ip holds the codecs of the link and network layers: Ethernet, VLAN,
// IPv4, IPv6, ICMP, fragments, and the Internet checksum.
package ip

// Protocol numbers (IANA).
const (
	ProtoICMP   = 1
	ProtoTCP    = 6
	ProtoUDP    = 17
	ProtoICMPv6 = 58
)
