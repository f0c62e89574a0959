package vfio

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// OnRemoval has call run in a goroutine of its own, once, when the kernel wants the
// device back: it is unplugged, or to be unbound from vfio-pci (VFIO_PCI_REQ_IRQ_INDEX
// of include/uapi/linux/vfio.h). The kernel waits until Close. It may be called once.
func (d *Device) OnRemoval(call func()) error {
	n, err := interrupts(d.fd, requestIndex)
	if err != nil || n == 0 {
		return err
	}
	fd, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		return fmt.Errorf("vfio: eventfd: %w", err)
	}
	d.removal = os.NewFile(uintptr(fd), "vfio-removal")
	if err := setIRQ(d.fd, requestIndex, irqDataEventFD|irqActionTrigger, uint32(fd)); err != nil {
		return err
	}
	go func(f *os.File) {
		var count [8]byte
		if _, err := f.Read(count[:]); err == nil { // else Close was first
			call()
		}
	}(d.removal)
	return nil
}
