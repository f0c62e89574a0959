package ip

import "net/netip"

// Bogus tells whether a unicast packet from src to dst cannot be honest: no
// answer is due to it, nor any thought (RFC 1122, 3.2.1.3; RFC 6890; LAND).
func Bogus(src, dst netip.Addr) bool {
	return src == dst || !unicast(src) || !unicast(dst)
}

func unicast(a netip.Addr) bool {
	if a.Is4() {
		b := a.As4()
		// 0/8 this network, 127/8 loopback, 224/3 multicast, reserved, broadcast.
		return b[0] != 0 && b[0] != 127 && b[0] < 224
	}
	return !a.IsUnspecified() && !a.IsLoopback() && !a.IsMulticast() && !a.Is4In6()
}
