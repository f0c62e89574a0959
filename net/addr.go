package onload

import (
	"net"
	"net/netip"
)

// tcpAddr returns a as net does for a socket of that family: IPv4 addresses
// have 16 bytes on an IPv6 socket.
func tcpAddr(a netip.AddrPort, wide bool) *net.TCPAddr {
	return &net.TCPAddr{IP: ipBytes(a.Addr(), wide), Port: int(a.Port()), Zone: a.Addr().Zone()}
}

func udpAddr(a netip.AddrPort, wide bool) *net.UDPAddr {
	return &net.UDPAddr{IP: ipBytes(a.Addr(), wide), Port: int(a.Port()), Zone: a.Addr().Zone()}
}

func ipBytes(a netip.Addr, wide bool) net.IP {
	if wide && a.IsValid() {
		b := a.As16()
		return b[:]
	}
	return a.AsSlice()
}

// addrPort is the inverse; IPv4 is always plain IPv4, and an unset address
// invalid.
func addrPort(ip net.IP, port int, zone string) netip.AddrPort {
	a, _ := netip.AddrFromSlice(ip)
	return netip.AddrPortFrom(a.Unmap().WithZone(zone), uint16(port))
}

// isSocketAddr reports whether addrPort loses nothing: a socket's address can hold
// ip, which may be empty, and port.
func isSocketAddr(ip net.IP, port int) bool {
	switch len(ip) {
	case 0, net.IPv4len, net.IPv6len:
		return port == int(uint16(port))
	}
	return false
}

// isWide reports whether a kernel socket bound to that address is of IPv6.
func isWide(a net.Addr) bool {
	var ip net.IP
	switch a := a.(type) {
	case *net.TCPAddr:
		ip = a.IP
	case *net.UDPAddr:
		ip = a.IP
	}
	return len(ip) == net.IPv6len && ip.To4() == nil
}

// tcpOrNil and udpOrNil avoid an Addr that is not nil but holds nil.
func tcpOrNil(a *net.TCPAddr) net.Addr {
	if a == nil {
		return nil
	}
	return a
}

func udpOrNil(a *net.UDPAddr) net.Addr {
	if a == nil {
		return nil
	}
	return a
}

// addrPortAddr is the address in errors of methods that were given an
// AddrPort.
type addrPortAddr struct{ netip.AddrPort }

func (addrPortAddr) Network() string { return "udp" }
