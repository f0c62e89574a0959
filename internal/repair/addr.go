package repair

import (
	"net/netip"
	"strconv"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// sockaddr is a in the kernel's form. The zone of a link-local address is the name of
// an interface, or its index.
func sockaddr(a netip.AddrPort) (unix.Sockaddr, error) {
	ip := a.Addr().Unmap()
	if ip.Is4() {
		return &unix.SockaddrInet4{Addr: ip.As4(), Port: int(a.Port())}, nil
	}
	scope, err := scopeOf(ip)
	return &unix.SockaddrInet6{Addr: ip.As16(), Port: int(a.Port()), ZoneId: uint32(scope)}, err
}

// scopeOf is the index of the interface that ip's zone names, 0 where there is none.
func scopeOf(ip netip.Addr) (int, error) {
	if ip.Zone() == "" {
		return 0, nil
	}
	if n, err := strconv.Atoi(ip.Zone()); err == nil {
		return n, nil
	}
	l, err := netlink.LinkByName(ip.Zone())
	if err != nil {
		return 0, err
	}
	return l.Attrs().Index, nil
}

// addrPort is a kernel's address in ours, unmapped. The zone of a link-local address is
// the name of its interface.
func addrPort(sa unix.Sockaddr) netip.AddrPort {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		ip := netip.AddrFrom16(sa.Addr).Unmap()
		if sa.ZoneId != 0 && ip.Is6() {
			zone := strconv.Itoa(int(sa.ZoneId))
			if l, err := netlink.LinkByIndex(int(sa.ZoneId)); err == nil {
				zone = l.Attrs().Name
			}
			ip = ip.WithZone(zone)
		}
		return netip.AddrPortFrom(ip, uint16(sa.Port))
	}
	return netip.AddrPort{}
}
