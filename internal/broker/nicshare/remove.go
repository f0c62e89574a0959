package nicshare

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"

	"github.com/onload-go/onload/driver/afxdp"
)

// Remove ends the links that an earlier process has left, of whichever version, and
// removes all that it has pinned. Of c it takes Interface, PinDir, InNS and Log.
func Remove(c Config) error {
	if err := c.defaults(); err != nil {
		return err
	}
	n := &NIC{c: c, links: map[int]*Link{}}
	return c.InNS(n.removeAll)
}

func (n *NIC) removeAll() (err error) {
	if n.shared, err = afxdp.LookupShared(n.c.Interface); err != nil {
		return err
	}
	if n.pins, err = openPins(n.c.PinDir, n.c.Interface); err != nil {
		return err
	}
	if n.nl, err = netlink.NewHandle(); err != nil {
		n.pins.giveUp()
		return fmt.Errorf("nicshare: netlink: %w", err)
	}
	defer n.nl.Close()
	attached, err := n.leftHere()
	if err != nil {
		n.pins.giveUp()
		return err
	}
	errs := []error{detach(attached), n.pins.remove(), n.sweep()}
	if attached != nil {
		errs = append(errs, attached.Close())
	}
	return errors.Join(errs...)
}
