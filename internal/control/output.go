package control

import (
	"errors"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/netns"
)

// Output sends IP packets by the kernel, through raw sockets (raw(7),
// IP_HDRINCL): the kernel finds the neighbour, and the packet passes its
// filters and the link's queueing discipline. It takes CAP_NET_RAW.
type Output struct {
	fd4, fd6 int // -1: the kernel has not got the family
}

// OpenOutput opens the sockets in a namespace, which need not stay open.
func OpenOutput(ns netns.Handle) (*Output, error) {
	o := &Output{-1, -1}
	err := ns.Do(func() error {
		for af, fd := range map[int]*int{unix.AF_INET: &o.fd4, unix.AF_INET6: &o.fd6} {
			var err error
			*fd, err = unix.Socket(af, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_RAW)
			if err != nil && err != unix.EAFNOSUPPORT {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, errors.Join(err, o.Close())
	}
	return o, nil
}

// Send sends an IP packet with its header by a link to a next hop, which the
// caller has from Network.Route. The kernel is not asked for a route again: it
// would not know the ports, which rules may ask for. Send does not block. Its
// errors are those of sendmsg(2): EAGAIN where the socket's buffer is full,
// EMSGSIZE where the packet is larger than the link's MTU.
func (o *Output) Send(link int, nextHop netip.Addr, packet []byte) error {
	dst := nextHop.WithZone("")
	fd, to, oob := o.fd6, unix.Sockaddr(&unix.SockaddrInet6{Addr: dst.As16(), ZoneId: uint32(link)}), unix.PktInfo6(&unix.Inet6Pktinfo{Ifindex: uint32(link)})
	if packet[0]>>4 == 4 {
		if !dst.Is4() { // a gateway with an IPv6 address: the route tells the kernel
			dst = netip.AddrFrom4([4]byte(packet[16:20]))
		}
		fd, to, oob = o.fd4, &unix.SockaddrInet4{Addr: dst.As4()}, unix.PktInfo4(&unix.Inet4Pktinfo{Ifindex: int32(link)})
	}
	if fd < 0 {
		return unix.EAFNOSUPPORT
	}
	_, err := unix.SendmsgN(fd, packet, oob, to, unix.MSG_DONTWAIT)
	return err
}

// Close closes the sockets.
func (o *Output) Close() error {
	for _, fd := range []*int{&o.fd4, &o.fd6} {
		if *fd >= 0 {
			_ = unix.Close(*fd)
		}
		*fd = -1
	}
	return nil
}
