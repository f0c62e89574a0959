package ip

import "net/netip"

// Bogus reports whether no honest host sends a packet from src to dst over a wire:
// the source is no host's address, the destination never leaves a host, or both are
// the same (LAND). Such a packet is dropped without an answer. See RFC 1122,
// 3.2.1.3; RFC 6890; RFC 4291, 2.5 and 2.7. Multicast addresses and 255.255.255.255
// are good destinations.
func Bogus(src, dst netip.Addr) bool {
	if loop && src.IsLoopback() && dst.IsLoopback() {
		return false
	}
	if src == dst || !Unicast(src) {
		return true
	}
	return !Unicast(dst) && !dst.IsMulticast() && dst != Broadcast
}

// Broadcast is the limited broadcast address (RFC 919, 7).
var Broadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})

// Unicast reports whether a is an address that one host may have on a link.
func Unicast(a netip.Addr) bool {
	if loop && a.IsLoopback() {
		return true
	}
	if a.Is4() {
		// 0/8 this network, 127/8 loopback, 224/4 multicast. 240/4 is reserved
		// (RFC 1112, 4), but clouds number their hosts from it, and Linux does
		// not refuse it.
		b := a.As4()
		return b[0] != 0 && b[0] != 127 && b[0]>>4 != 14 && a != Broadcast
	}
	// RFC 4291, 2.5.5: addresses with an IPv4 one inside are not for the wire.
	return a.IsValid() && !a.IsUnspecified() && !a.IsLoopback() && !a.IsMulticast() && !a.Is4In6()
}

// MinPathMTU4 is the least MTU, in bytes, that a router may report for an IPv4
// path: Linux's min_pmtu. A smaller one serves attackers only (RFC 5927, 7).
const MinPathMTU4 = 552

// MulticastMAC is the Ethernet address of a multicast group, or that of
// broadcast (RFC 1112, 6.4; RFC 2464, 7). ok is false for other addresses.
func MulticastMAC(a netip.Addr) (mac [6]byte, ok bool) {
	switch {
	case a == Broadcast:
		return [6]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, true
	case !a.IsMulticast():
		return mac, false
	case a.Is4():
		b := a.As4()
		return [6]byte{0x01, 0x00, 0x5e, b[1] & 0x7f, b[2], b[3]}, true
	}
	b := a.As16()
	return [6]byte{0x33, 0x33, b[12], b[13], b[14], b[15]}, true
}

// SolicitedNode is the multicast group in which the owner of the IPv6 address
// a hears neighbour solicitations (RFC 4291, 2.7.1).
func SolicitedNode(a netip.Addr) netip.Addr {
	b := a.As16()
	return netip.AddrFrom16([16]byte{0: 0xff, 1: 0x02, 11: 0x01, 12: 0xff, 13: b[13], 14: b[14], 15: b[15]})
}
