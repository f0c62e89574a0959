package vmxnet3

import (
	"fmt"
)

// watch follows events: it runs until the eventfd is closed.
func (d *Device) watch() {
	var b [8]byte
	for {
		if _, err := d.events.Read(b[:]); err != nil {
			return
		}
		open := false
		d.Registers(func() { open = true; d.event() })
		if !open {
			return
		}
		d.linkMu.Lock()
		call := d.onLink
		d.linkMu.Unlock()
		if call != nil {
			call()
		}
	}
}

// event looks at what has happened, and acknowledges it.
func (d *Device) event() {
	if err := d.lost(); err != nil {
		d.queue.Fail(err)
		d.queue.Wake()
		return
	}
	events := d.shared.Load32(sharedEvents)
	d.slow.Write32(regEvents, events)
	if events&eventLink != 0 {
		d.readLink()
	}
	if events&(eventReceiveError|eventSendError) == 0 {
		return
	}
	d.command(cmdQueueStatus)
	for at, what := range map[int]string{rxQueue: "receives", txQueue: "sends"} {
		if d.shared.Read8(at+queueStopped) != 0 {
			d.queue.Fail(fmt.Errorf("vmxnet3: %s: the device %s nothing more: error %#x", d.PCI.Address(), what, d.shared.Load32(at+queueError)))
			d.queue.Wake()
		}
	}
}

// readLink asks whether the link is up.
func (d *Device) readLink() { d.up.Store(d.command(cmdLink)&linkUp != 0) }

// LinkUp implements driver.Linked.
func (d *Device) LinkUp() bool { return d.up.Load() }

// OnLink implements driver.Linked.
func (d *Device) OnLink(call func()) {
	d.linkMu.Lock()
	defer d.linkMu.Unlock()
	d.onLink = call
}
