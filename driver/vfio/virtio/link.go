package virtio

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/driver"
)

// watch follows changes of the device's configuration (2.1.1, 4.1.5.4): it runs until
// the eventfd is closed. At each interrupt hear reports whether it is about that.
func (d *Device) watch(hear func() (changed bool, err error)) {
	var b [8]byte
	for {
		if _, err := d.changes.Read(b[:]); err != nil {
			return
		}
		d.mu.Lock()
		if d.halted {
			d.mu.Unlock()
			return
		}
		changed, err := hear()
		if err == nil && changed {
			err = d.lost()
		}
		if err != nil {
			d.end(err)
		} else if changed {
			d.readLink()
		}
		call := d.onLink
		d.mu.Unlock()
		if call != nil && (changed || err != nil) {
			call()
		}
	}
}

// end breaks the queues, and wakes whoever sleeps on them. mu is held.
func (d *Device) end(err error) {
	d.up.Store(false)
	for _, q := range d.queues {
		q.fail(err)
		q.wake()
	}
}

// removed is called when the kernel wants the device back.
func (d *Device) removed() {
	d.mu.Lock()
	if d.halted {
		d.mu.Unlock()
		return
	}
	d.end(fmt.Errorf("virtio: %s: %w: it is unplugged or unbound", d.pci.Address(), driver.ErrGone))
	call := d.onLink
	d.mu.Unlock()
	if call != nil {
		call()
	}
}

// readLink reads whether the link is up (5.1.4.2). Without STATUS it always is. When it
// comes up the device is notified, whatever it wants: QEMU (to 10.0) forgets that it wants
// notifications when it drops what a packed ring held while the link was down.
func (d *Device) readLink() {
	up := d.features&featStatus == 0 || d.regs.device.Read16(netStatus)&statusLinkUp != 0
	if d.up.Swap(up) || !up {
		return
	}
	for _, q := range d.queues {
		p := q.tx.where()
		p.bell.Write16(0, p.index)
	}
}

// LinkUp implements driver.Linked.
func (d *Device) LinkUp() bool { return d.up.Load() }

// OnLink implements driver.Linked.
func (d *Device) OnLink(call func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.onLink = call
}

// lost returns the fault of a device that is gone, or wants a reset (2.1.1).
func (d *Device) lost() error {
	switch s := d.regs.common.Read8(regStatus); {
	case s == statusGone:
		return fmt.Errorf("virtio: %s: %w", d.pci.Address(), driver.ErrGone)
	case s&statusNeedsReset != 0:
		return fmt.Errorf("virtio: %s: the device met an error and wants a reset", d.pci.Address())
	}
	return nil
}

// newEvent makes an eventfd that the runtime polls.
func newEvent(name string) (*os.File, int, error) {
	fd, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		return nil, -1, fmt.Errorf("virtio: eventfd: %w", err)
	}
	return os.NewFile(uintptr(fd), name), fd, nil
}

// closeChanges ends watch.
func (d *Device) closeChanges() error {
	if d.changes == nil {
		return nil
	}
	if err := d.changes.Close(); !errors.Is(err, os.ErrClosed) {
		return err
	}
	return nil
}
