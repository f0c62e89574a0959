package lab

import (
	"os"

	"github.com/vishvananda/netlink"
)

// Adopt moves a NIC of the process's own namespace into ns, and brings it up.
// GiveBack undoes it.
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

// GiveBack moves a NIC that was adopted to the process's own namespace again. The kernel
// does so too when ns vanishes, but a closed connection that is still to send its FIN
// keeps a namespace for minutes.
func (l *Link) GiveBack() error {
	own, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return err
	}
	defer own.Close()
	nl := l.NS.Netlink()
	k, err := nl.LinkByName(l.If)
	if err != nil {
		return err
	}
	return nl.LinkSetNsFd(k, int(own.Fd()))
}
