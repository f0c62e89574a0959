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

	protocol4 bool // the kernel reads which protocol an IPv4 packet is of (IP_PROTOCOL, Linux 6.4)
}

// OpenOutput opens the sockets in a namespace, which need not stay open and whose
// mirror is net.
func OpenOutput(ns netns.Handle, net Network) (*Output, error) {
	o := &Output{fd4: -1, fd6: -1, direct: -1, net: net}
	err := ns.Do(func() error {
		for af, fd := range map[int]*int{unix.AF_INET: &o.fd4, unix.AF_INET6: &o.fd6} {
			var err error
			*fd, err = unix.Socket(af, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_RAW)
			if err != nil && err != unix.EAFNOSUPPORT {
				return err
			}
		}
		_, err := unix.GetsockoptInt(o.fd4, unix.IPPROTO_IP, unix.IP_PROTOCOL)
		o.protocol4 = err == nil
		// Protocol 0: it receives nothing.
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
	f := o.lookup(link, packet)
	dst := f.Dst
	to := hop
	if v4 && !hop.Is4() { // a gateway with an IPv6 address: the route tells the kernel
		to = dst
	}
	if !o.leads(f, to, hop) {
		if mac, ok := o.net.Neighbor(link, hop); ok {
			o.net.Confirm(link, hop)
			return o.sendDirect(link, mac, packet)
		}
		o.net.Resolve(link, hop)
		to = dst // meanwhile by the kernel's choice among the link's gateways
	}
	// Rules may ask for source and protocol, which the kernel does not read from the packet.
	if v4 {
		oob := unix.PktInfo4(&unix.Inet4Pktinfo{Ifindex: int32(link), Spec_dst: f.Src.As4()})
		if o.protocol4 {
			oob = appendProtocol(oob, f.Proto)
		}
		return send(o.fd4, packet, oob, &unix.SockaddrInet4{Addr: to.As4()})
	}
	info := unix.Inet6Pktinfo{Ifindex: uint32(link), Addr: f.Src.As16()}
	// The port is the protocol (rawv6_sendmsg).
	return send(o.fd6, packet, unix.PktInfo6(&info), &unix.SockaddrInet6{Addr: to.As16(), ZoneId: uint32(link), Port: int(f.Proto)})
}

// appendProtocol appends a control message (cmsg(3)): the protocol of a packet.
func appendProtocol(oob []byte, proto uint8) []byte {
	at := len(oob)
	oob = append(oob, make([]byte, unix.CmsgSpace(4))...)
	h, order := oob[at:], binary.NativeEndian
	if unix.SizeofCmsghdr == 16 { // the length is a size_t
		order.PutUint64(h, uint64(unix.CmsgLen(4)))
	} else {
		order.PutUint32(h, uint32(unix.CmsgLen(4)))
	}
	order.PutUint32(h[unix.SizeofCmsghdr-8:], unix.IPPROTO_IP)
	order.PutUint32(h[unix.SizeofCmsghdr-4:], unix.IP_PROTOCOL)
	order.PutUint32(h[unix.CmsgLen(0):], uint32(proto))
	return oob
}

// lookup returns what the kernel looks at when it finds the route of a packet from a
// raw socket to a link. It is told so.
func (o *Output) lookup(link int, packet []byte) Flow {
	f := Flow{Link: link}
	f.Src, f.Dst = addresses(packet)
	switch {
	case f.Dst.Is6():
		const fragment, header = 44, 40
		if f.Proto = packet[6]; f.Proto == fragment && len(packet) > header {
			f.Proto = packet[header]
		}
	case o.protocol4:
		f.Proto = packet[9]
	}
	return f
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

// leads reports whether a raw socket's packet of f, sent to an address, comes to hop.
// No route leads to gateways outside all subnets (ip-route(8), onlink), or one by
// another gateway. Where the kernel only assumes that the link leads there, it looks for
// the packet's destination on it (rt_set_nexthop, ip_finish_output2). Rules and
// multipath routes to the destination may ask for ports, which such a packet has not.
func (o *Output) leads(f Flow, to, hop netip.Addr) bool {
	link, dst := f.Link, f.Dst
	f.Dst = to
	r, err := o.net.Route(f)
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
