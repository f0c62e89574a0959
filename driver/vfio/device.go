package vfio

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Device is a PCI device that the process has to itself.
type Device struct {
	address   string
	group, fd int
	config    int64 // offset of the configuration space in fd
	regions   [bars]regionInfo
	mapped    [bars]Regs
	vectors   int
	wire      bool     // the device has INTx
	reset     bool     // the kernel can
	removal   *os.File // eventfd of OnRemoval
}

// Open takes the device at a PCI address such as 0000:01:00.0 into c.
func Open(c *Container, address string) (_ *Device, err error) {
	d := &Device{address: address, group: -1, fd: -1}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("vfio: %s: %w", address, err), d.Close())
		}
	}()
	group, err := groupOf(address)
	if err != nil {
		return nil, err
	}
	file := "/dev/vfio/" + group
	if d.group, err = unix.Open(file, unix.O_RDWR|unix.O_CLOEXEC, 0); err != nil {
		switch err {
		case unix.EBUSY:
			return nil, fmt.Errorf("%s: %w: another process has the IOMMU group", file, err)
		case unix.EACCES, unix.EPERM:
			return nil, fmt.Errorf("%s: %w: give this user the file (chown)", file, err)
		}
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	var st groupStatus
	st.argsz = uint32(unsafe.Sizeof(st))
	if _, err := ioctl(d.group, "VFIO_GROUP_GET_STATUS", groupGetStatus, unsafe.Pointer(&st)); err != nil {
		return nil, err
	}
	if st.flags&groupViable == 0 {
		return nil, fmt.Errorf("IOMMU group %s has devices (%v) that other drivers than vfio-pci have: bind them all, or none", group, members(group))
	}
	if err := c.add(d.group); err != nil {
		return nil, err
	}
	if d.fd, err = deviceOf(d.group, address); err != nil {
		return nil, err
	}
	return d, d.describe()
}

// groupOf is the IOMMU group of a device that vfio-pci has.
func groupOf(address string) (string, error) {
	dir := filepath.Join("/sys/bus/pci/devices", address)
	if _, err := os.Stat(dir); err != nil {
		return "", fmt.Errorf("no such PCI device: %w", err)
	}
	group, err := os.Readlink(filepath.Join(dir, "iommu_group"))
	if err != nil {
		return "", errors.New("the device is in no IOMMU group: is the IOMMU on (intel_iommu=on, amd_iommu=on)?")
	}
	driver, err := os.Readlink(filepath.Join(dir, "driver"))
	if err != nil || filepath.Base(driver) != "vfio-pci" {
		return "", fmt.Errorf("the device is not bound to vfio-pci, but to %q", filepath.Base(driver))
	}
	return filepath.Base(group), nil
}

// members are the devices of a group.
func members(group string) (all []string) {
	found, _ := filepath.Glob("/sys/kernel/iommu_groups/" + group + "/devices/*") // the pattern is sound
	for _, f := range found {
		all = append(all, filepath.Base(f))
	}
	return all
}

// describe asks for regions and interrupts.
func (d *Device) describe() error {
	var info deviceInfo
	info.argsz = uint32(unsafe.Sizeof(info))
	if _, err := ioctl(d.fd, "VFIO_DEVICE_GET_INFO", deviceGetInfo, unsafe.Pointer(&info)); err != nil {
		return err
	}
	d.reset = info.flags&deviceCanReset != 0
	for i := range uint32(configRegion + 1) {
		r := regionInfo{index: i}
		r.argsz = uint32(unsafe.Sizeof(r))
		if _, err := ioctl(d.fd, "VFIO_DEVICE_GET_REGION_INFO", deviceGetRegion, unsafe.Pointer(&r)); err != nil {
			return err
		}
		switch {
		case i < bars:
			d.regions[i] = r
		case i == configRegion:
			d.config = int64(r.offset)
		}
	}
	vectors, err := interrupts(d.fd, msixIndex)
	if err != nil {
		return err
	}
	wires, err := interrupts(d.fd, intxIndex)
	d.vectors, d.wire = vectors, wires > 0
	return err
}

// Address is the device's PCI address.
func (d *Device) Address() string { return d.address }

// Vectors is how many interrupts MSI-X has; 0 where the device has no MSI-X.
func (d *Device) Vectors() int { return d.vectors }

// Reset resets the function if the kernel can.
func (d *Device) Reset() error {
	if !d.reset {
		return nil
	}
	_, err := ioctl(d.fd, "VFIO_DEVICE_RESET", deviceReset, nil)
	return err
}

// BAR maps a base address register, once.
func (d *Device) BAR(i int) (Regs, error) {
	if i < 0 || i >= bars {
		return nil, fmt.Errorf("vfio: %s has no BAR %d", d.address, i)
	}
	r := &d.regions[i]
	if d.mapped[i] == nil {
		if r.size == 0 || r.flags&regionCanMmap == 0 {
			return nil, fmt.Errorf("vfio: BAR %d of %s cannot be mapped", i, d.address)
		}
		b, err := unix.Mmap(d.fd, int64(r.offset), int(r.size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		if err != nil {
			return nil, fmt.Errorf("vfio: BAR %d of %s: %w", i, d.address, err)
		}
		d.mapped[i] = b
	}
	return d.mapped[i], nil
}

// ReadConfig reads the configuration space at off.
func (d *Device) ReadConfig(b []byte, off int) error {
	if n, err := unix.Pread(d.fd, b, d.config+int64(off)); err != nil || n != len(b) {
		return fmt.Errorf("vfio: configuration space of %s at %#x: %d bytes, %w", d.address, off, n, err)
	}
	return nil
}

// Offsets and bits of the configuration space (PCI Local Bus 3.0 section 6.1).
const (
	commandOffset = 4
	commandMemory = 1 << 1
	commandMaster = 1 << 2
)

// Answer lets the device answer in its BARs.
func (d *Device) Answer() error { return d.command(commandMemory) }

// Master lets the device read and write memory, and answer in its BARs. One that
// another process has left in the middle of its work is reset first.
func (d *Device) Master() error { return d.command(commandMemory | commandMaster) }

func (d *Device) command(bits uint16) error {
	var b [2]byte
	if err := d.ReadConfig(b[:], commandOffset); err != nil {
		return err
	}
	binary.LittleEndian.PutUint16(b[:], binary.LittleEndian.Uint16(b[:])|bits)
	if _, err := unix.Pwrite(d.fd, b[:], d.config+commandOffset); err != nil {
		return fmt.Errorf("vfio: command register of %s: %w", d.address, err)
	}
	return nil
}

// Interrupts has each of the first vectors of MSI-X add one to an eventfd. It is
// called once.
func (d *Device) Interrupts(eventfds []int) error {
	if len(eventfds) > d.vectors {
		return fmt.Errorf("vfio: %s has %d interrupts, want %d", d.address, d.vectors, len(eventfds))
	}
	return setIRQs(d.fd, eventfds)
}

// Wire has the device's INTx add one to an eventfd. The kernel masks it each time,
// until Unmask: other devices may be on the same wire, and it interrupts for as long
// as the device asserts it (PCI Local Bus 3.0 section 2.2.6).
func (d *Device) Wire(eventfd int) error {
	if !d.wire {
		return fmt.Errorf("vfio: %s has no INTx", d.address)
	}
	return setIRQ(d.fd, intxIndex, irqDataEventFD|irqActionTrigger, uint32(eventfd))
}

// Unmask lets INTx interrupt again, after the device was told that it was heard.
func (d *Device) Unmask() error {
	return setIRQ(d.fd, intxIndex, irqDataNone|irqActionUnmask)
}

// Close gives the device back: the kernel resets it. Registers must not be used
// any more.
func (d *Device) Close() error {
	var errs []error
	for i, m := range d.mapped {
		if m != nil {
			errs = append(errs, unix.Munmap(m))
			d.mapped[i] = nil
		}
	}
	if d.removal != nil {
		errs = append(errs, d.removal.Close())
		d.removal = nil
	}
	for _, fd := range []*int{&d.fd, &d.group} {
		if *fd >= 0 {
			errs = append(errs, unix.Close(*fd))
			*fd = -1
		}
	}
	return errors.Join(errs...)
}
