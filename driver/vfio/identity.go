package vfio

import (
	"fmt"
	"os"
	"path/filepath"
)

// ID says which device it is (PCI Local Bus 3.0 section 6.2.1).
type ID struct{ Vendor, Device uint16 }

// String is as lspci writes it.
func (i ID) String() string { return fmt.Sprintf("%04x:%04x", i.Vendor, i.Device) }

// Drivers names our driver of each device that we have one for. A driver's folder in
// driver/vfio has that name.
var Drivers = map[ID]string{
	{0x1af4, 0x1000}: "virtio", // transitional
	{0x1af4, 0x1041}: "virtio",
	{0x8086, 0x10d3}: "e1000e", // 82574L
	{0x8086, 0x10f6}: "e1000e", // 82574LA
	{0x8086, 0x10c9}: "igb",    // 82576, copper
	{0x15ad, 0x07b0}: "vmxnet3",
}

// Identify asks the kernel which device is at a PCI address.
func Identify(address string) (id ID, err error) {
	for name, to := range map[string]*uint16{"vendor": &id.Vendor, "device": &id.Device} {
		b, err := os.ReadFile(filepath.Join("/sys/bus/pci/devices", address, name))
		if err != nil {
			return ID{}, fmt.Errorf("vfio: %s: no such PCI device: %w", address, err)
		}
		if _, err := fmt.Sscanf(string(b), "0x%x", to); err != nil {
			return ID{}, fmt.Errorf("vfio: %s: the kernel says that the %s is %q", address, name, b)
		}
	}
	return id, nil
}
