package virtio

import "errors"

// interrupts passes the eventfds of the configuration and of the receive queues
// (4.1.5.1.2): MSI-X has one vector for each, in that order. Without MSI-X there is
// INTx, whose eventfd is that of the configuration. It returns the vector of each
// receive queue.
func (d *Device) interrupts(fds []int) (rxVector func(queue int) uint16, err error) {
	if d.wired() {
		if len(d.regs.isr) == 0 {
			return nil, errors.New("virtio: the device has neither MSI-X nor an ISR status")
		}
		return func(int) uint16 { return noVector }, d.pci.Wire(fds[0])
	}
	if err := d.pci.Interrupts(fds); err != nil {
		return nil, err
	}
	r := d.regs.common
	if r.Write16(regConfigVector, 0); r.Read16(regConfigVector) != 0 {
		return nil, errors.New("virtio: the device refuses interrupt 0")
	}
	return func(i int) uint16 { return uint16(1 + i) }, nil
}

// wired reports whether the device has no MSI-X.
func (d *Device) wired() bool { return d.pci.Vectors() == 0 }

// Bits of the ISR status (4.1.4.5).
const (
	isrQueue  = 1 << 0
	isrConfig = 1 << 1
)

// hear reports whether an interrupt is about the configuration. That of MSI-X always
// is. INTx may be about packets too, which it passes on. To read the ISR status clears
// it, and the device asserts the wire no more; then the next interrupt may come
// (4.1.5.3, 4.1.5.4).
func (d *Device) hear() (changed bool, err error) {
	if !d.wired() {
		return true, nil
	}
	isr := d.regs.isr.Read8(0)
	if isr&isrQueue != 0 {
		d.queues[0].wake()
	}
	return isr&isrConfig != 0, d.pci.Unmask()
}
