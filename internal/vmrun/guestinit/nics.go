package main

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/onload-go/onload/internal/vmrun/protocol"
)

// giveNICs gives NICs to vfio-pci and the others to the kernel's drivers, and returns
// the environment that names them.
func giveNICs(c *protocol.Config) ([]string, error) {
	addresses := make([]string, len(c.NICs))
	for i, n := range c.NICs {
		a, err := address(n)
		if err != nil {
			return nil, err
		}
		addresses[i] = a
		dev := "/sys/bus/pci/devices/" + a
		switch n.Driver {
		case "vfio":
			if err := bindVFIO(dev, a); err != nil {
				return nil, fmt.Errorf("%s (%s): %w", a, n.Model, err)
			}
		case "none":
			if err := os.WriteFile(dev+"/driver_override", []byte("none"), 0); err != nil {
				return nil, err
			}
		}
	}
	if err := loadModules(c.Late, c.Remapping); err != nil {
		return nil, err
	}
	env := []string{fmt.Sprintf("VMRUN_NICS=%d", len(c.NICs))}
	for i, n := range c.NICs {
		set := func(key, value string) { env = append(env, fmt.Sprintf("VMRUN_NIC%d_%s=%s", i, key, value)) }
		set("MODEL", n.Model)
		set("DRIVER", n.Driver)
		set("PCI", addresses[i])
		set("MAC", n.MAC)
		dev := "/sys/bus/pci/devices/" + addresses[i]
		if group, err := os.Readlink(dev + "/iommu_group"); err == nil {
			set("GROUP", filepath.Base(group))
		}
		if n.Driver == "kernel" {
			name, err := interfaceOf(dev)
			if err != nil {
				return nil, fmt.Errorf("%s (%s): %w", addresses[i], n.Model, err)
			}
			set("IF", name)
		}
	}
	return env, nil
}

// address is the PCI address of the NIC, behind its port.
func address(n protocol.NIC) (string, error) {
	if !n.Port {
		return n.Slot, nil
	}
	m, err := filepath.Glob("/sys/bus/pci/devices/" + n.Slot + "/????:??:??.?")
	if err != nil {
		return "", err
	}
	if len(m) != 1 {
		return "", fmt.Errorf("behind port %s of %s are the PCI devices %q", n.Slot, n.Model, m)
	}
	return filepath.Base(m[0]), nil
}

func bindVFIO(dev, address string) error {
	if err := os.WriteFile(dev+"/driver_override", []byte("vfio-pci"), 0); err != nil {
		return err
	}
	if _, err := os.Lstat(dev + "/driver"); err == nil { // built into the kernel
		if err := os.WriteFile(dev+"/driver/unbind", []byte(address), 0); err != nil {
			return err
		}
	}
	if err := os.WriteFile("/sys/bus/pci/drivers_probe", []byte(address), 0); err != nil {
		return err
	}
	if d, err := os.Readlink(dev + "/driver"); err != nil || filepath.Base(d) != "vfio-pci" {
		return fmt.Errorf("vfio-pci does not take it: its driver is %q, %v", d, err)
	}
	return nil
}

// interfaceOf waits for the interface: a driver may look at its devices later.
func interfaceOf(dev string) (string, error) {
	for range 3000 {
		for _, pattern := range []string{"/net/*", "/virtio*/net/*"} {
			m, err := filepath.Glob(dev + pattern)
			if err != nil {
				return "", err
			}
			if len(m) > 0 {
				return filepath.Base(m[0]), nil
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	return "", fmt.Errorf("no driver of the kernel makes an interface of it")
}
