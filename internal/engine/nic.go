package engine

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/internal/control"
	"github.com/onload-go/onload/ring"
)

// nic is a device that no kernel stands behind.
type nic interface {
	driver.Device
	MAC() [6]byte
}

// openStatic opens the device of i, a PCI address, and makes its host.
func (o *opener) openStatic(i *Interface) error {
	err := o.openAs(i, func(arena *ring.Arena, _ int) (driver.Device, error) { return o.e.openNIC(i.Name, arena) })
	if err != nil {
		return err
	}
	o.e.addHost(i, i.Device.(nic))
	return nil
}

// addHost makes the host of i, whose device is dev, and makes the link known, with its
// routes. It has no addresses yet.
func (e *Engine) addHost(i *Interface, dev nic) {
	caps := dev.Caps()
	link := control.Link{
		Index: i.Index, Name: i.Name, MAC: dev.MAC(), MTU: caps.MTU, Up: true, Carrier: true,
		Kind: "device", Driver: caps.Driver, Static: true,
	}
	l := e.cfg.staticOf(i.Name)
	i.host = newLinkHost(link, &l, e.static, e.log)
	e.static.SetLink(link)
	for _, r := range l.routes {
		e.static.AddRoute(control.StaticRoute{Dst: r.dst, Link: i.Index, Gateway: r.via})
	}
}

// settle starts the hosts of links that no kernel stands behind, and waits until their
// addresses are theirs. An interface that has none of its addresses carries nothing: Err
// says who has them.
func (e *Engine) settle() {
	for _, i := range e.ifs {
		if i.host != nil && i.first() != nil {
			var gateways []netip.Addr
			for _, r := range e.cfg.staticOf(i.Name).routes {
				gateways = append(gateways, r.via)
			}
			i.host.run(gateways, i.Stacks)
		}
	}
	for _, i := range e.ifs {
		if i.host == nil || i.first() == nil {
			continue
		}
		if taken := i.host.wait(); len(taken) > 0 {
			i.Err = fmt.Errorf("address in use: %w", errors.Join(taken...))
		}
	}
}

// hostOf returns the host of a link, or nil.
func (e *Engine) hostOf(link int) *linkHost {
	for _, i := range e.ifs {
		if i.Index == link {
			return i.host
		}
	}
	return nil
}

// askHost and confirmHost are control.Static's questions and news.
func (e *Engine) askHost(link int, addr netip.Addr) {
	if h := e.hostOf(link); h != nil {
		h.ask(addr)
	}
}

func (e *Engine) confirmHost(link int, addr netip.Addr) {
	if h := e.hostOf(link); h != nil {
		h.confirm(addr)
	}
}
