package control

import (
	"fmt"
	"net/netip"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/netns"
)

// Ports lends ports, so that the kernel gives them to nobody else.
type Ports interface {
	// Hold takes the port of addr, any free one if that is 0, until Close of
	// what it returns. The zero Addr means all addresses of both families;
	// 0.0.0.0 and :: mean those of one. proto is the IP protocol, TCP or UDP.
	// The errors are bind(2)'s: EADDRINUSE, EADDRNOTAVAIL, EACCES.
	Hold(proto uint8, addr netip.AddrPort) (Held, error)
	// HoldShared is Hold for a port that still has connections. A socket with
	// SO_REUSEADDR can bind the port, others cannot, as after a listener of the
	// kernel's has closed.
	HoldShared(proto uint8, addr netip.AddrPort) (Held, error)
	// Ephemeral is the range that the kernel chooses from where nobody asks for a
	// port, both ends included.
	Ephemeral() (low, high uint16, err error)
}

// Held is a port on loan. The zero value holds none. A copy is the same loan:
// only one of them is to be closed.
type Held struct {
	Port uint16
	file int32 // descriptor + 1
}

// Close gives the port back. Further calls do nothing.
func (h *Held) Close() {
	if h.file != 0 {
		unix.Close(int(h.file - 1))
	}
	*h = Held{}
}

// FD is the descriptor of the socket that holds the port, -1 where there is none. It
// belongs to h.
func (h Held) FD() int { return int(h.file) - 1 }

// Sharing says which sockets may bind a port although it is held.
type Sharing struct {
	Addr bool // those with SO_REUSEADDR, as long as nobody listens on it
	Port bool // those with SO_REUSEPORT, of the same user
}

// Share lets the sockets of with bind the port too, from now on.
func (h Held) Share(with Sharing) error {
	if h.file == 0 {
		return nil
	}
	for option, wanted := range map[int]bool{unix.SO_REUSEADDR: with.Addr, unix.SO_REUSEPORT: with.Port} {
		if wanted {
			if err := unix.SetsockoptInt(int(h.file-1), unix.SOL_SOCKET, option, 1); err != nil {
				return os.NewSyscallError("setsockopt", err)
			}
		}
	}
	return nil
}

// KernelPorts holds ports by kernel sockets that are only bound, neither listening
// nor connected.
type KernelPorts struct {
	ns netns.Handle
	// Free, if set before first use, reports whether an address is ours although the
	// kernel does not have it. Its ports are held all the same: sockets on all
	// addresses share them.
	Free func(netip.Addr) bool
}

var _ Ports = (*KernelPorts)(nil)

// NewKernelPorts returns the ports of a namespace, which may be the zero
// Handle and need not stay open.
func NewKernelPorts(ns netns.Handle) (*KernelPorts, error) {
	self, err := netns.Open("/proc/self/ns/net")
	if err != nil {
		return nil, err
	}
	defer self.Close()
	if ns.Equal(self) {
		return &KernelPorts{}, nil // no thread needs to be moved
	}
	own, err := ns.Dup()
	return &KernelPorts{ns: own}, err
}

// Close lets the namespace go. Ports that are held stay so.
func (p *KernelPorts) Close() error { return p.ns.Close() }

// Hold implements Ports.
func (p *KernelPorts) Hold(proto uint8, addr netip.AddrPort) (h Held, err error) {
	return p.hold(proto, addr, false)
}

// HoldShared implements Ports.
func (p *KernelPorts) HoldShared(proto uint8, addr netip.AddrPort) (h Held, err error) {
	return p.hold(proto, addr, true)
}

// Ephemeral implements Ports: net.ipv4.ip_local_port_range, which counts for
// IPv6 too. A socket's own range (IP_LOCAL_PORT_RANGE) is within it.
func (p *KernelPorts) Ephemeral() (low, high uint16, err error) {
	err = p.ns.Do(func() error {
		text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
		if err != nil {
			return err
		}
		_, err = fmt.Sscan(string(text), &low, &high)
		return err
	})
	return low, high, err
}

func (p *KernelPorts) hold(proto uint8, addr netip.AddrPort, shared bool) (h Held, err error) {
	free := p.Free != nil && p.Free(addr.Addr())
	err = p.ns.Do(func() error {
		h, err = hold(proto, addr, shared, free)
		return err
	})
	return h, err
}

func hold(proto uint8, addr netip.AddrPort, shared, free bool) (Held, error) {
	if addr.Addr().IsValid() {
		return holdOne(proto, addr, false, shared, free)
	}
	h, err := holdOne(proto, netip.AddrPortFrom(netip.IPv6Unspecified(), addr.Port()), true, shared, false)
	if err == unix.EAFNOSUPPORT || err == unix.EADDRNOTAVAIL {
		// A kernel or a namespace without IPv6.
		return holdOne(proto, netip.AddrPortFrom(netip.IPv4Unspecified(), addr.Port()), false, shared, false)
	}
	return h, err
}

func holdOne(proto uint8, addr netip.AddrPort, dual, shared, free bool) (Held, error) {
	typ := unix.SOCK_STREAM
	switch proto {
	case unix.IPPROTO_TCP:
	case unix.IPPROTO_UDP:
		typ = unix.SOCK_DGRAM
	default:
		return Held{}, unix.EPROTONOSUPPORT
	}
	sa, af, err := sockaddr(addr)
	if err != nil {
		return Held{}, err
	}
	fd, err := unix.Socket(af, typ|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, int(proto))
	if err != nil {
		return Held{}, err
	}
	if shared {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	}
	if err == nil && free {
		level, option := unix.IPPROTO_IP, unix.IP_FREEBIND
		if af == unix.AF_INET6 {
			level, option = unix.IPPROTO_IPV6, unix.IPV6_FREEBIND
		}
		err = unix.SetsockoptInt(fd, level, option, 1)
	}
	var port uint16
	if err == nil {
		port, err = bind(fd, proto, sa, dual, shared)
	}
	if err != nil {
		unix.Close(fd)
		return Held{}, err
	}
	return Held{port, int32(fd) + 1}, nil
}

// dropAll is a socket filter that keeps nothing of any packet.
var dropAll = unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: 0}

func bind(fd int, proto uint8, sa unix.Sockaddr, dual, shared bool) (port uint16, err error) {
	if _, ok := sa.(*unix.SockaddrInet6); ok {
		only := 1
		if dual {
			only = 0
		}
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, only); err != nil {
			return 0, err
		}
	}
	if proto == unix.IPPROTO_UDP {
		// Before bind, so that no datagram gets in.
		prog := unix.SockFprog{Len: 1, Filter: &dropAll}
		if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &prog); err != nil {
			return 0, err
		}
	}
	err = unix.Bind(fd, sa)
	if err == unix.EADDRINUSE && proto == unix.IPPROTO_TCP && !shared {
		err = bindReuse(fd, sa)
	}
	if err != nil {
		return 0, err
	}
	bound, err := unix.Getsockname(fd)
	if err != nil {
		return 0, err
	}
	switch sa := bound.(type) {
	case *unix.SockaddrInet4:
		port = uint16(sa.Port)
	case *unix.SockaddrInet6:
		port = uint16(sa.Port)
	}
	return port, nil
}

// bindReuse binds although the port has connections of the kernel's in
// TIME-WAIT, as a restarted server does with SO_REUSEADDR. It clears the option
// once the socket is bound, so that the next socket with it is refused.
func bindReuse(fd int, sa unix.Sockaddr) error {
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return err
	}
	err := unix.Bind(fd, sa)
	if e := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 0); err == nil {
		err = e
	}
	return err
}

// sockaddr converts addr, in the namespace of the thread.
func sockaddr(addr netip.AddrPort) (sa unix.Sockaddr, af int, err error) {
	a := addr.Addr()
	if a.Is4() {
		return &unix.SockaddrInet4{Port: int(addr.Port()), Addr: a.As4()}, unix.AF_INET, nil
	}
	s := &unix.SockaddrInet6{Port: int(addr.Port()), Addr: a.As16()}
	if z := a.Zone(); z != "" {
		index, err := ifIndex(z)
		if err != nil {
			return nil, 0, err
		}
		s.ZoneId = index
	}
	return s, unix.AF_INET6, nil
}

// ifIndex finds an interface by name or number, in the namespace of the
// thread.
func ifIndex(zone string) (uint32, error) {
	if n, err := strconv.ParseUint(zone, 10, 32); err == nil {
		return uint32(n), nil
	}
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq(zone)
	if err != nil {
		return 0, err
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, ifr); err != nil {
		return 0, err
	}
	return ifr.Uint32(), nil
}
