package control

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/ip"
)

// solicitor sends neighbour solicitations that the kernel does not send.
//
// Asked by netlink, the kernel has no packet whose source it could use, and
// takes the link-local address of the interface (Linux's ndisc_solicit and
// ndisc_send_ns). Where there is none (addr_gen_mode 1, an address that was
// deleted, duplicate address detection under way) it sends nothing, and its
// entry fails. RFC 4861 section 7.2.2 allows every address of the interface.
// The answer is the kernel's to read: it has the entry.
type solicitor struct {
	fd int // a raw ICMPv6 socket, -1 where there is none
}

// retransTimer is the time between solicitations (RFC 4861 section 10).
const retransTimer = time.Second

// open makes the socket, inside the namespace. Without the right to do so, or
// without IPv6, the solicitor sends nothing.
func (s *solicitor) open() {
	s.fd = -1
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_ICMPV6)
	if err != nil {
		return
	}
	var none unix.ICMPv6Filter // a set bit blocks a type
	for i := range none.Data {
		none.Data[i] = ^uint32(0)
	}
	if unix.SetsockoptICMPv6Filter(fd, unix.IPPROTO_ICMPV6, unix.ICMPV6_FILTER, &none) != nil ||
		unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS, 255) != nil || // RFC 4861 section 4.3
		unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_LOOP, 0) != nil {
		_ = unix.Close(fd)
		return
	}
	s.fd = fd
}

func (s *solicitor) close() {
	if s.fd >= 0 {
		_ = unix.Close(s.fd)
		s.fd = -1
	}
}

// solicit asks for the neighbour if the kernel does not. It reports whether it
// did.
func (s *solicitor) solicit(v *view, key neighborKey) (sent bool, err error) {
	l := v.links[key.link]
	if s.fd < 0 || l == nil || !key.addr.Is6() || l.linkLocal() {
		return false, nil
	}
	src := v.source6(key.addr, key.link)
	if !l.has(src) {
		return false, nil
	}
	group := ip.SolicitedNode(key.addr)
	m := ip.NDP{Type: ip.NeighborSolicitation, Target: key.addr, MAC: l.MAC, HasMAC: true}
	var b [32]byte
	n := m.Put(b[:], src, group)
	from := unix.PktInfo6(&unix.Inet6Pktinfo{Addr: src.As16(), Ifindex: uint32(key.link)})
	to := &unix.SockaddrInet6{Addr: group.As16(), ZoneId: uint32(key.link)}
	if _, err := unix.SendmsgN(s.fd, b[:n], from, to, 0); err != nil {
		return false, fmt.Errorf("neighbour solicitation: %w", os.NewSyscallError("sendmsg", err))
	}
	return true, nil
}
