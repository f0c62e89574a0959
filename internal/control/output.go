package control

import (
	"encoding/binary"
	"errors"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/netns"
	"github.com/onload-go/onload/ip"
)

// Output sends IP packets by the kernel, through raw sockets (raw(7),
// IP_HDRINCL): the kernel finds the neighbour, and the packet passes its
// filters and the link's queueing discipline. It takes CAP_NET_RAW.
type Output struct {
	fd4, fd6 int // -1: the kernel has not got the family
	direct   int // a packet socket, for gateways that no raw socket reaches
	net      Network
}

// OpenOutput opens the sockets in a namespace, which need not stay open and whose
// mirror is net.
func OpenOutput(ns netns.Handle, net Network) (*Output, error) {
	o := &Output{-1, -1, -1, net}
	err := ns.Do(func() error {
		for af, fd := range map[int]*int{unix.AF_INET: &o.fd4, unix.AF_INET6: &o.fd6} {
			var err error
			*fd, err = unix.Socket(af, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_RAW)
			if err != nil && err != unix.EAFNOSUPPORT {
				return err
			}
		}
		var err error // protocol 0: it receives nothing
		o.direct, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err == unix.EAFNOSUPPORT {
			err = nil
		}
		return err
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
	v4 := packet[0]>>4 == 4
	hop := nextHop.WithZone("")
	src, dst := addresses(packet)
	to := hop
	if v4 && !hop.Is4() { // a gateway with an IPv6 address: the route tells the kernel
		to = dst
	}
	if !o.leads(link, to, hop, packet) {
		if mac, ok := o.net.Neighbor(link, hop); ok {
			o.net.Confirm(link, hop)
			return o.sendDirect(link, mac, packet)
		}
		o.net.Resolve(link, hop)
		to = dst // meanwhile by the kernel's choice among the link's gateways
	}
	// Rules may ask for the source, which the kernel does not read from the packet.
	if v4 {
		info := unix.Inet4Pktinfo{Ifindex: int32(link), Spec_dst: src.As4()}
		return send(o.fd4, packet, unix.PktInfo4(&info), &unix.SockaddrInet4{Addr: to.As4()})
	}
	info := unix.Inet6Pktinfo{Ifindex: uint32(link), Addr: src.As16()}
	return send(o.fd6, packet, unix.PktInfo6(&info), &unix.SockaddrInet6{Addr: to.As16(), ZoneId: uint32(link)})
}

// addresses returns those in the header of an IP packet.
func addresses(packet []byte) (src, dst netip.Addr) {
	if packet[0]>>4 == 4 {
		return netip.AddrFrom4([4]byte(packet[12:16])), netip.AddrFrom4([4]byte(packet[16:20]))
	}
	return netip.AddrFrom16([16]byte(packet[8:24])), netip.AddrFrom16([16]byte(packet[24:40]))
}

func send(fd int, packet, oob []byte, to unix.Sockaddr) error {
	if fd < 0 {
		return unix.EAFNOSUPPORT
	}
	_, err := unix.SendmsgN(fd, packet, oob, to, unix.MSG_DONTWAIT)
	return err
}

// leads reports whether a raw socket's packet to an address, by a link, comes to hop.
// No route leads to gateways outside all subnets (ip-route(8), onlink), or one by
// another gateway. Where the kernel only assumes that the link leads there, it looks for
// the packet's destination on it (rt_set_nexthop, ip_finish_output2). Rules and
// multipath routes to the destination may ask for ports, which such a packet has not.
func (o *Output) leads(link int, to, hop netip.Addr, packet []byte) bool {
	src, dst := addresses(packet)
	r, err := o.net.Route(Flow{Dst: to, Src: src, Link: link})
	switch {
	case dst.IsMulticast(), dst == ip.Broadcast:
		return true
	case err != nil, r.Link != link, r.NextHop != hop:
		return false
	case to == dst:
		return r.Broadcast || !o.net.PortsMatter(dst)
	}
	return !r.Assumed
}

// sendDirect sends a packet to a neighbour without a look at routes, so that the
// kernel's filters do not see it; the queueing discipline does.
func (o *Output) sendDirect(link int, mac [6]byte, packet []byte) error {
	typ := [2]byte{unix.ETH_P_IPV6 >> 8, unix.ETH_P_IPV6 & 0xff} // as on the wire
	if packet[0]>>4 == 4 {
		typ = [2]byte{unix.ETH_P_IP >> 8, unix.ETH_P_IP & 0xff}
	}
	to := &unix.SockaddrLinklayer{Protocol: binary.NativeEndian.Uint16(typ[:]), Ifindex: link, Halen: uint8(len(mac))}
	copy(to.Addr[:], mac[:])
	return unix.Sendto(o.direct, packet, unix.MSG_DONTWAIT, to)
}

// Close closes the sockets.
func (o *Output) Close() error {
	for _, fd := range []*int{&o.fd4, &o.fd6, &o.direct} {
		if *fd >= 0 {
			_ = unix.Close(*fd)
		}
		*fd = -1
	}
	return nil
}
