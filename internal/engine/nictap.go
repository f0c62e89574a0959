package engine

import (
	"fmt"
	"time"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/ring"
)

// forwarder is a NIC's device with a TAP device of the kernel's beside it
// (driver/exception).
type forwarder interface {
	Forward(send func(frame []byte), down func())
	Stop()
}

// openWithTAP opens the device of i, a PCI address, with a TAP device beside it: the
// kernel is the host on that link, and has its addresses and routes.
func (o *opener) openWithTAP(i *Interface, tap string) error {
	err := o.openAs(i, func(arena *ring.Arena, _ int) (driver.Device, error) {
		dev, err := o.e.openNIC(i.Name, arena)
		if err != nil {
			return nil, err
		}
		d, index, err := o.e.withTAP(dev, tap)
		i.Index = index
		return d, err
	})
	if err != nil {
		return err
	}
	// The mirror hears of the interface in a moment.
	for deadline := time.Now().Add(settleFor); ; time.Sleep(time.Millisecond) {
		if _, ok := o.e.net.Link(i.Index); ok {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the kernel does not tell of the TAP device %s", tap)
		}
	}
}

// forward begins to send what the kernel sends by the TAP devices.
func (e *Engine) forward() {
	for _, i := range e.ifs {
		if f, ok := i.Device.(forwarder); ok && i.first() != nil {
			s, link := i.first(), i.Index
			f.Forward(func(frame []byte) { s.SendFrame(link, frame) }, e.lookAgain)
		}
	}
}

// stopForwarding is called before the stacks close, which send.
func (e *Engine) stopForwarding() {
	for _, i := range e.ifs {
		if f, ok := i.Device.(forwarder); ok {
			f.Stop()
		}
	}
}
