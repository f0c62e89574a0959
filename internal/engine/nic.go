package engine

import (
	"context"
	"net/netip"
	"time"

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
	i.host.linked, _ = dev.(driver.Linked)
	i.host.down = e.lookAgain
	e.static.SetLink(link)
	i.host.setRoutes(nil)
}

// settleFor is how long an engine waits for servers of its links at the start: two
// messages to a DHCP server may be lost.
const settleFor = 15 * time.Second

// settle starts the hosts of links that no kernel stands behind, and waits until their
// addresses are theirs. Err says which hosts have them instead, or that no server gave
// any.
func (e *Engine) settle() {
	for _, i := range e.ifs {
		if i.host != nil && i.first() != nil {
			i.host.run(i.Stacks)
		}
	}
	limit, stop := context.WithTimeout(context.Background(), settleFor)
	defer stop()
	for _, i := range e.ifs {
		if i.host != nil && i.first() != nil {
			i.Err = i.host.wait(limit.Done())
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

// askHost, confirmHost and doubtHost are control.Static's questions and news.
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

func (e *Engine) doubtHost(link int, addr netip.Addr) {
	if h := e.hostOf(link); h != nil {
		h.doubt(addr)
	}
}
