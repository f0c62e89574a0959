// Package ip holds the codecs of the link and network layers: Ethernet, VLAN,
// ARP, IPv4, IPv6, ICMP and neighbour discovery, fragments, and the Internet
// checksum. It has no goroutine and no clock, and parsing and building
// allocate nothing.
package ip

// Protocol numbers (IANA).
const (
	ProtoICMP   = 1
	ProtoTCP    = 6
	ProtoUDP    = 17
	ProtoICMPv6 = 58
)
