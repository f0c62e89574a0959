package vfio

import (
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Numbers of include/uapi/linux/vfio.h: _IO(';', 100+n).
const (
	base = ';'<<8 + 100

	getAPIVersion   = base + 0
	checkExtension  = base + 1
	setIOMMU        = base + 2
	groupGetStatus  = base + 3
	groupSetCont    = base + 4
	groupGetDevice  = base + 6
	deviceGetInfo   = base + 7
	deviceGetRegion = base + 8
	deviceGetIRQ    = base + 9
	deviceSetIRQs   = base + 10
	deviceReset     = base + 11
	iommuMapDMA     = base + 13

	apiVersion = 0
	type1v2    = 3 // VFIO_TYPE1v2_IOMMU

	groupViable    = 1 << 0
	deviceCanReset = 1 << 0
	regionCanMmap  = 1 << 2

	dmaRead, dmaWrite = 1 << 0, 1 << 1

	irqDataNone, irqDataEventFD       = 1 << 0, 1 << 2
	irqActionUnmask, irqActionTrigger = 1 << 4, 1 << 5

	configRegion = 7 // VFIO_PCI_CONFIG_REGION_INDEX
	bars         = 6
	intxIndex    = 0 // VFIO_PCI_INTX_IRQ_INDEX
	msixIndex    = 2 // VFIO_PCI_MSIX_IRQ_INDEX
	requestIndex = 4 // VFIO_PCI_REQ_IRQ_INDEX
)

type groupStatus struct{ argsz, flags uint32 }

type deviceInfo struct{ argsz, flags, regions, irqs, capOffset, pad uint32 }

type regionInfo struct {
	argsz, flags, index, capOffset uint32
	size, offset                   uint64
}

type irqInfo struct{ argsz, flags, index, count uint32 }

type dmaMap struct {
	argsz, flags      uint32
	vaddr, iova, size uint64
}

// ioctl calls the kernel with a pointer to arg, or nil.
func ioctl(fd int, name string, number uintptr, arg unsafe.Pointer) (int, error) {
	return ioctlValue(fd, name, number, uintptr(arg))
}

func ioctlValue(fd int, name string, number, arg uintptr) (int, error) {
	for {
		r, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), number, arg)
		switch e {
		case 0:
			return int(r), nil
		case unix.EINTR:
		default:
			return 0, os.NewSyscallError(name, e)
		}
	}
}

// interrupts is how many interrupts of a kind the device has.
func interrupts(fd int, index uint32) (int, error) {
	irq := irqInfo{index: index}
	irq.argsz = uint32(unsafe.Sizeof(irq))
	_, err := ioctl(fd, "VFIO_DEVICE_GET_IRQ_INFO", deviceGetIRQ, unsafe.Pointer(&irq))
	return int(irq.count), err
}

// setIRQs passes eventfds for the first vectors of MSI-X; none disables them.
func setIRQs(fd int, eventfds []int) error {
	b := []uint32{0, irqDataEventFD | irqActionTrigger, msixIndex, 0, uint32(len(eventfds))}
	if len(eventfds) == 0 {
		b[1] = irqDataNone | irqActionTrigger
	}
	for _, e := range eventfds {
		b = append(b, uint32(e))
	}
	return irqs(fd, b)
}

// setIRQ does one thing with the first interrupt of a kind.
func setIRQ(fd int, index, flags uint32, data ...uint32) error {
	return irqs(fd, append([]uint32{0, flags, index, 0, 1}, data...))
}

// irqs passes struct vfio_irq_set: its own size, flags, the kind, which is the first
// and how many, and the data.
func irqs(fd int, set []uint32) error {
	set[0] = uint32(4 * len(set))
	_, err := ioctl(fd, "VFIO_DEVICE_SET_IRQS", deviceSetIRQs, unsafe.Pointer(&set[0]))
	return err
}

// deviceOf returns the descriptor of the device called name of a group.
func deviceOf(group int, name string) (int, error) {
	b := append([]byte(name), 0)
	fd, err := ioctl(group, "VFIO_GROUP_GET_DEVICE_FD", groupGetDevice, unsafe.Pointer(&b[0]))
	if err != nil {
		return -1, fmt.Errorf("%s: %w", name, err)
	}
	return fd, nil
}

func address(b []byte) uint64 { return uint64(uintptr(unsafe.Pointer(&b[0]))) }
