package nic

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/onload-go/onload/driver/vfio"
)

// A NIC is a network controller, or an interface of hardware that is on no PCI bus.
type NIC struct {
	// Address is that on the PCI bus, such as 0000:01:00.0; empty if it is on none.
	Address string
	ID      ID
	// Driver is the kernel's, empty if none has it.
	Driver string
	// Interfaces are those that its driver makes of it.
	Interfaces []string
	// Group is the number of the IOMMU group, empty if there is none, and Others the
	// other devices in it that matter: all but bridges.
	Group  string
	Others []Device
}

// A Device is one of an IOMMU group.
type Device struct {
	Address, Driver string
	Interfaces      []string
}

// ID says which device it is (PCI Local Bus 3.0 section 6.2.1).
type ID = vfio.ID

// Classes of PCI devices (PCI Code and ID Assignment 1.11 section 1): the first of the
// three bytes.
const (
	classNetwork = 0x02
	classBridge  = 0x06
)

// A Machine is what the files below a folder say of it.
type Machine struct {
	root string
}

// Host is the machine that this process runs on.
func Host() Machine { return Machine{"/"} }

func (m Machine) path(elem ...string) string {
	return filepath.Join(append([]string{m.root}, elem...)...)
}

const pciDevices = "sys/bus/pci/devices"

// List returns the machine's NICs: by their PCI addresses, then those without.
func (m Machine) List() ([]NIC, error) {
	entries, err := os.ReadDir(m.path(pciDevices))
	if err != nil && !errors.Is(err, os.ErrNotExist) { // a machine need not have the bus
		return nil, err
	}
	var all []NIC
	taken := map[string]bool{}
	for _, e := range entries {
		class, err := m.class(e.Name())
		if err != nil {
			return nil, err
		}
		if class != classNetwork {
			continue
		}
		n, err := m.At(e.Name())
		if err != nil {
			return nil, err
		}
		all = append(all, n)
		for _, name := range n.Interfaces {
			taken[name] = true
		}
	}
	others, err := filepath.Glob(m.path("sys/class/net/*/device")) // virtual links have none
	if err != nil {
		return nil, err
	}
	for _, dev := range others {
		name := filepath.Base(filepath.Dir(dev))
		if !taken[name] {
			all = append(all, NIC{Driver: link(filepath.Join(dev, "driver")), Interfaces: []string{name}})
		}
	}
	return all, nil
}

// Find returns the NIC with that PCI address, or with an interface of that name.
func (m Machine) Find(name string) (NIC, error) {
	if _, err := os.Stat(m.path(pciDevices, name)); err == nil && !strings.Contains(name, "/") {
		n, err := m.At(name)
		if err != nil {
			return NIC{}, err
		}
		if class, err := m.class(name); err != nil || class != classNetwork {
			return NIC{}, errors.Join(fmt.Errorf("%s is no network controller", name), err)
		}
		return n, nil
	}
	all, err := m.List()
	if err != nil {
		return NIC{}, err
	}
	for _, n := range all {
		if slices.Contains(n.Interfaces, name) {
			if n.Address == "" {
				return NIC{}, fmt.Errorf("%s is on no PCI bus", name)
			}
			return n, nil
		}
	}
	return NIC{}, fmt.Errorf("%s: no such PCI address and no such interface: see `onload nic list`", name)
}

// At reads what there is of the device at a PCI address.
func (m Machine) At(address string) (NIC, error) {
	n := NIC{Address: address}
	for name, to := range map[string]*uint16{"vendor": &n.ID.Vendor, "device": &n.ID.Device} {
		if err := m.hex(address, name, to); err != nil {
			return NIC{}, err
		}
	}
	d := m.device(address)
	n.Driver, n.Interfaces = d.Driver, d.Interfaces
	n.Group = link(m.path(pciDevices, address, "iommu_group"))
	if n.Group == "" {
		return n, nil
	}
	members, err := os.ReadDir(m.path("sys/kernel/iommu_groups", n.Group, "devices"))
	if err != nil {
		return NIC{}, err
	}
	for _, e := range members {
		class, err := m.class(e.Name())
		if err != nil {
			return NIC{}, err
		}
		// The kernel's own drivers of bridges leave a group viable.
		if e.Name() != address && class != classBridge {
			n.Others = append(n.Others, m.device(e.Name()))
		}
	}
	return n, nil
}

func (m Machine) device(address string) Device {
	d := Device{Address: address, Driver: link(m.path(pciDevices, address, "driver"))}
	for _, pattern := range []string{"net/*", "virtio*/net/*"} {
		found, _ := filepath.Glob(m.path(pciDevices, address, pattern)) // the pattern is sound
		for _, f := range found {
			d.Interfaces = append(d.Interfaces, filepath.Base(f))
		}
	}
	return d
}

// class is the first byte of a device's class.
func (m Machine) class(address string) (byte, error) {
	var c uint32
	err := m.hex(address, "class", &c)
	return byte(c >> 16), err
}

func (m Machine) hex(address, file string, to any) error {
	b, err := os.ReadFile(m.path(pciDevices, address, file))
	if err != nil {
		return err
	}
	if _, err := fmt.Sscanf(string(b), "0x%x", to); err != nil {
		return fmt.Errorf("%s: %s is %q", address, file, b)
	}
	return nil
}

// link is the last element of a symbolic link's target, empty if there is no such link.
func link(path string) string {
	target, err := os.Readlink(path)
	if err != nil {
		return ""
	}
	return filepath.Base(target)
}
