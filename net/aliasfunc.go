package onload

import (
	"net"
	"net/netip"
)

// The functions of net that carry no TCP or UDP.

// CIDRMask is net.CIDRMask.
func CIDRMask(ones int, bits int) IPMask { return net.CIDRMask(ones, bits) }

// DialIP is net.DialIP.
func DialIP(network string, laddr *IPAddr, raddr *IPAddr) (*IPConn, error) {
	return net.DialIP(network, laddr, raddr)
}

// DialUnix is net.DialUnix.
func DialUnix(network string, laddr *UnixAddr, raddr *UnixAddr) (*UnixConn, error) {
	return net.DialUnix(network, laddr, raddr)
}

// IPv4 is net.IPv4.
func IPv4(a byte, b byte, c byte, d byte) IP { return net.IPv4(a, b, c, d) }

// IPv4Mask is net.IPv4Mask.
func IPv4Mask(a byte, b byte, c byte, d byte) IPMask { return net.IPv4Mask(a, b, c, d) }

// InterfaceAddrs is net.InterfaceAddrs.
func InterfaceAddrs() ([]Addr, error) { return net.InterfaceAddrs() }

// InterfaceByIndex is net.InterfaceByIndex.
func InterfaceByIndex(index int) (*Interface, error) { return net.InterfaceByIndex(index) }

// InterfaceByName is net.InterfaceByName.
func InterfaceByName(name string) (*Interface, error) { return net.InterfaceByName(name) }

// Interfaces is net.Interfaces.
func Interfaces() ([]Interface, error) { return net.Interfaces() }

// JoinHostPort is net.JoinHostPort.
func JoinHostPort(host string, port string) string { return net.JoinHostPort(host, port) }

// ListenIP is net.ListenIP.
func ListenIP(network string, laddr *IPAddr) (*IPConn, error) { return net.ListenIP(network, laddr) }

// ListenUnix is net.ListenUnix.
func ListenUnix(network string, laddr *UnixAddr) (*UnixListener, error) {
	return net.ListenUnix(network, laddr)
}

// ListenUnixgram is net.ListenUnixgram.
func ListenUnixgram(network string, laddr *UnixAddr) (*UnixConn, error) {
	return net.ListenUnixgram(network, laddr)
}

// LookupAddr is net.LookupAddr.
func LookupAddr(addr string) (names []string, err error) { return net.LookupAddr(addr) }

// LookupCNAME is net.LookupCNAME.
func LookupCNAME(host string) (cname string, err error) { return net.LookupCNAME(host) }

// LookupHost is net.LookupHost.
func LookupHost(host string) (addrs []string, err error) { return net.LookupHost(host) }

// LookupIP is net.LookupIP.
func LookupIP(host string) ([]IP, error) { return net.LookupIP(host) }

// LookupMX is net.LookupMX.
func LookupMX(name string) ([]*MX, error) { return net.LookupMX(name) }

// LookupNS is net.LookupNS.
func LookupNS(name string) ([]*NS, error) { return net.LookupNS(name) }

// LookupPort is net.LookupPort.
func LookupPort(network string, service string) (port int, err error) {
	return net.LookupPort(network, service)
}

// LookupSRV is net.LookupSRV.
func LookupSRV(service string, proto string, name string) (cname string, addrs []*SRV, err error) {
	return net.LookupSRV(service, proto, name)
}

// LookupTXT is net.LookupTXT.
func LookupTXT(name string) ([]string, error) { return net.LookupTXT(name) }

// ParseCIDR is net.ParseCIDR.
func ParseCIDR(s string) (IP, *IPNet, error) { return net.ParseCIDR(s) }

// ParseIP is net.ParseIP.
func ParseIP(s string) IP { return net.ParseIP(s) }

// ParseMAC is net.ParseMAC.
func ParseMAC(s string) (hw HardwareAddr, err error) { return net.ParseMAC(s) }

// Pipe is net.Pipe.
func Pipe() (Conn, Conn) { return net.Pipe() }

// ResolveIPAddr is net.ResolveIPAddr.
func ResolveIPAddr(network string, address string) (*IPAddr, error) {
	return net.ResolveIPAddr(network, address)
}

// ResolveTCPAddr is net.ResolveTCPAddr.
func ResolveTCPAddr(network string, address string) (*TCPAddr, error) {
	return net.ResolveTCPAddr(network, address)
}

// ResolveUDPAddr is net.ResolveUDPAddr.
func ResolveUDPAddr(network string, address string) (*UDPAddr, error) {
	return net.ResolveUDPAddr(network, address)
}

// ResolveUnixAddr is net.ResolveUnixAddr.
func ResolveUnixAddr(network string, address string) (*UnixAddr, error) {
	return net.ResolveUnixAddr(network, address)
}

// SplitHostPort is net.SplitHostPort.
func SplitHostPort(hostport string) (host string, port string, err error) {
	return net.SplitHostPort(hostport)
}

// TCPAddrFromAddrPort is net.TCPAddrFromAddrPort.
func TCPAddrFromAddrPort(addr netip.AddrPort) *TCPAddr { return net.TCPAddrFromAddrPort(addr) }

// UDPAddrFromAddrPort is net.UDPAddrFromAddrPort.
func UDPAddrFromAddrPort(addr netip.AddrPort) *UDPAddr { return net.UDPAddrFromAddrPort(addr) }
