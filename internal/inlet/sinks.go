package inlet

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// sinkAddr4 and sinkAddr6 are addresses that no host has: the dummy address of IPv4 (RFC 7600,
// 4.8) and one of IPv6's discard prefix (RFC 6666). Nobody connects to a sink.
var (
	sinkAddr4 = [4]byte{192, 0, 0, 8}
	sinkAddr6 = [16]byte{0: 1, 15: 8}
)

// openSinks makes the sockets that the program gives packets to, of each protocol
// and each family that the kernel has. They need a port, which a socket on all
// addresses cannot have then.
func (in *Inlet) openSinks() error {
	low, high, err := portRange()
	if err != nil {
		return err
	}
	for _, port := range sinkPorts(low, high) {
		err := in.openSinksAt(port)
		if err == nil {
			return nil
		}
		if err = errors.Join(err, in.closeSinks()); !errors.Is(err, unix.EADDRINUSE) {
			return err
		}
	}
	return fmt.Errorf("sinks: no port is free: %w", unix.EADDRINUSE)
}

// portRange is net.ipv4.ip_local_port_range, which counts for IPv6 too.
func portRange() (low, high int, err error) {
	text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err != nil {
		return 0, 0, err
	}
	_, err = fmt.Sscan(string(text), &low, &high)
	return low, high, err
}

// sinkPorts are the ports that a sink may have, the best first: those that the kernel
// gives to no client, from the last on. Services have low ones.
func sinkPorts(low, high int) []int {
	const first, last = 1024, 65535
	var outside, inside []int
	for port := last; port >= first; port-- {
		if port < low || port > high {
			outside = append(outside, port)
		} else {
			inside = append(inside, port)
		}
	}
	return append(outside, inside...)
}

func (in *Inlet) openSinksAt(port int) error {
	for n, kind := range [...]struct{ typ, filter int }{
		{unix.SOCK_STREAM, in.objs.OnloadTcp.FD()}, {unix.SOCK_DGRAM, in.objs.OnloadUdp.FD()},
	} {
		for six, family := range [...]int{unix.AF_INET, unix.AF_INET6} {
			fd, err := unix.Socket(family, kind.typ|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
			if err == unix.EAFNOSUPPORT {
				continue
			}
			if err != nil {
				return os.NewSyscallError("socket", err)
			}
			in.sinks = append(in.sinks, fd)
			err = openSink(fd, family, port, kind.typ, kind.filter)
			if err == unix.EADDRNOTAVAIL && six == 1 {
				continue // net.ipv6.conf.all.disable_ipv6
			}
			if err != nil {
				return fmt.Errorf("sink: %w", err)
			}
			if err := in.objs.Sinks.Put(uint32(2*n+six), uint64(fd)); err != nil {
				return fmt.Errorf("sink: %w", err)
			}
		}
	}
	return nil
}

// openSink binds fd. A filter takes all that it is to receive, from the first packet
// on.
func openSink(fd, family, port, typ, filter int) error {
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ATTACH_BPF, filter); err != nil {
		return os.NewSyscallError("setsockopt", err)
	}
	level, opt := unix.IPPROTO_IP, unix.IP_FREEBIND
	var addr unix.Sockaddr = &unix.SockaddrInet4{Addr: sinkAddr4, Port: port}
	if family == unix.AF_INET6 {
		level, opt = unix.IPPROTO_IPV6, unix.IPV6_FREEBIND
		addr = &unix.SockaddrInet6{Addr: sinkAddr6, Port: port}
	}
	if err := unix.SetsockoptInt(fd, level, opt, 1); err != nil {
		return os.NewSyscallError("setsockopt", err)
	}
	if err := unix.Bind(fd, addr); err != nil {
		return err
	}
	if typ == unix.SOCK_STREAM { // the program may choose no other
		return os.NewSyscallError("listen", unix.Listen(fd, 1))
	}
	return nil
}

func (in *Inlet) closeSinks() error {
	var errs []error
	for _, fd := range in.sinks {
		errs = append(errs, unix.Close(fd))
	}
	in.sinks = nil
	return errors.Join(errs...)
}
