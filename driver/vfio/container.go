package vfio

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Container is an address space for DMA that its devices share.
type Container struct {
	fd    int
	iommu bool // set, with the first group
	next  uint64
}

const (
	firstIOVA = 1 << 32 // above what platforms reserve for interrupts
	alignIOVA = 2 << 20 // so that huge pages stay huge
)

// NewContainer opens /dev/vfio/vfio.
func NewContainer() (*Container, error) {
	fd, err := unix.Open("/dev/vfio/vfio", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("vfio: /dev/vfio/vfio: %w: is the module vfio-pci loaded, and may this user open the file?", err)
	}
	c := &Container{fd: fd, next: firstIOVA}
	v, err := ioctl(fd, "VFIO_GET_API_VERSION", getAPIVersion, nil)
	if err == nil && v != apiVersion {
		err = fmt.Errorf("the kernel's version is %d, want %d", v, apiVersion)
	}
	if err == nil {
		var has int
		if has, err = ioctlValue(fd, "VFIO_CHECK_EXTENSION", checkExtension, type1v2); err == nil && has == 0 {
			err = errors.New("the kernel has no type 1 IOMMU, version 2: is the IOMMU on (intel_iommu=on, amd_iommu=on)?")
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("vfio: %w", err), unix.Close(fd))
	}
	return c, nil
}

// add makes a group part of c.
func (c *Container) add(group int) error {
	fd := int32(c.fd)
	if _, err := ioctl(group, "VFIO_GROUP_SET_CONTAINER", groupSetCont, unsafe.Pointer(&fd)); err != nil {
		return err
	}
	if c.iommu {
		return nil
	}
	if _, err := ioctlValue(c.fd, "VFIO_SET_IOMMU", setIOMMU, type1v2); err != nil {
		return err
	}
	c.iommu = true
	return nil
}

// Map lets the devices of c read and write mem, at the address that it returns.
// The kernel pins the pages, until the process unmaps them and c is closed. mem
// is whole pages; c must have a device.
func (c *Container) Map(mem []byte) (iova uint64, err error) {
	m := dmaMap{flags: dmaRead | dmaWrite, vaddr: address(mem), iova: c.next, size: uint64(len(mem))}
	m.argsz = uint32(unsafe.Sizeof(m))
	if _, err := ioctl(c.fd, "VFIO_IOMMU_MAP_DMA", iommuMapDMA, unsafe.Pointer(&m)); err != nil {
		if errors.Is(err, unix.ENOMEM) {
			var lim unix.Rlimit
			_ = unix.Getrlimit(unix.RLIMIT_MEMLOCK, &lim)
			return 0, fmt.Errorf("vfio: %d bytes for the device: %w: the limit of locked memory is %d: raise it (ulimit -l, LimitMEMLOCK=) or give CAP_IPC_LOCK",
				len(mem), err, lim.Cur)
		}
		return 0, fmt.Errorf("vfio: %d bytes for the device: %w", len(mem), err)
	}
	c.next = (c.next + uint64(len(mem)) + alignIOVA - 1) &^ (alignIOVA - 1)
	return m.iova, nil
}

// Alloc returns n bytes of zeroed memory in whole pages that is mapped at iova.
func (c *Container) Alloc(n int) (mem Regs, iova uint64, err error) {
	page := os.Getpagesize()
	b, err := unix.Mmap(-1, 0, (n+page-1)/page*page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANONYMOUS|unix.MAP_POPULATE)
	if err != nil {
		return nil, 0, fmt.Errorf("vfio: %d bytes: %w", n, err)
	}
	if iova, err = c.Map(b); err != nil {
		return nil, 0, errors.Join(err, unix.Munmap(b))
	}
	return b, iova, nil
}

// Close ends the mappings, once the devices of c are closed.
func (c *Container) Close() error { return unix.Close(c.fd) }
