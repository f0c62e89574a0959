package lab

import "github.com/vishvananda/netlink"

// Adopt moves a NIC of the process's own namespace into ns, and brings it up. The kernel
// moves it back when the namespace vanishes.
func (ns *NS) Adopt(name string) (*Link, error) {
	k, err := netlink.LinkByName(name)
	if err != nil {
		return nil, err
	}
	if err := ns.h.WithFD(func(fd int) error { return netlink.LinkSetNsFd(k, fd) }); err != nil {
		return nil, err
	}
	l := &Link{NS: ns, If: name, Index: k.Attrs().Index, MAC: [6]byte(k.Attrs().HardwareAddr)}
	ns.Link = l
	if err := l.SetUp(); err != nil {
		return nil, err
	}
	return l, l.waitReady()
}
