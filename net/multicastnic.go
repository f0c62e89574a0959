package onload

import (
	"context"
	"fmt"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// listenNICGroup is listenGroup for a link that no kernel stands behind. The options are
// those that net.ListenMulticastUDP sets: the port may be others' too, and sockets of this
// host do not hear what this one sends to the group.
func (e *Engine) listenNICGroup(network string, link int, gaddr *net.UDPAddr) (*UDPConn, error) {
	fail := func(err error) (*UDPConn, error) {
		return nil, &net.OpError{Op: "listen", Net: network, Addr: udpOrNil(gaddr), Err: err}
	}
	if !isUDP(network) {
		return fail(net.UnknownNetworkError(network))
	}
	if gaddr == nil || gaddr.IP == nil {
		return fail(errMissingAddress)
	}
	at := addrPort(gaddr.IP, gaddr.Port, "")
	all := net.UDPAddr{IP: net.IPv6unspecified, Port: gaddr.Port}
	family := "udp6"
	if at.Addr().Is4() {
		family, all.IP = "udp4", net.IPv4zero
	}
	if !at.Addr().IsMulticast() || network != "udp" && network != family {
		return fail(cause("setsockopt", syscall.EINVAL))
	}
	lc := ListenConfig{Engine: e, Control: groupOptions}
	c, err := lc.listenUDP(context.Background(), e, optioned, family, &all)
	if err != nil {
		return nil, err
	}
	on, ok := c.via().(*boundUDP)
	if !ok {
		_ = c.Close()
		return fail(fmt.Errorf("%s: %w", PathOf(c).Reason, syscall.ENODEV))
	}
	if err := on.on.Join(link, at.Addr()); err != nil {
		_ = c.Close()
		return fail(cause("setsockopt", err))
	}
	return c, nil
}

// groupOptions is the Control hook of a group's socket.
func groupOptions(network, _ string, c syscall.RawConn) (err error) {
	level, loop := unix.IPPROTO_IP, unix.IP_MULTICAST_LOOP
	if network == "udp6" {
		level, loop = unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_LOOP
	}
	cerr := c.Control(func(fd uintptr) {
		if err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err == nil {
			err = unix.SetsockoptInt(int(fd), level, loop, 0)
		}
	})
	if err == nil {
		err = cerr
	}
	return os.NewSyscallError("setsockopt", err)
}
