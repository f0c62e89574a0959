package nic

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// memory is where what was before is remembered, until the next boot, which undoes
// all by itself.
const memory = "run/onload/nic"

// before is what Unbind puts back.
type before struct {
	Driver     string   // empty: none
	Override   string   // empty: none
	Interfaces []string // for whoever reads the file
}

// Bind gives the NIC to vfio-pci.
func (m Machine) Bind(n NIC) error {
	if n.Driver == Driver {
		return fmt.Errorf("%s is bound to %s already", n.Address, Driver)
	}
	if n.Group == "" {
		return fmt.Errorf("%s is in no IOMMU group: is the IOMMU on (intel_iommu=on, amd_iommu=on)?", n.Address)
	}
	if _, err := os.Stat(m.path("sys/bus/pci/drivers", Driver)); err != nil {
		if out, err := exec.Command("modprobe", Driver).CombinedOutput(); err != nil {
			return fmt.Errorf("the kernel's driver %s is not there: modprobe: %w %s", Driver, err, out)
		}
	}
	override, err := os.ReadFile(m.path(pciDevices, n.Address, "driver_override"))
	if err != nil {
		return err
	}
	b := before{Driver: n.Driver, Override: strings.TrimSpace(string(override)), Interfaces: n.Interfaces}
	if b.Override == "(null)" { // the kernel's word for none
		b.Override = ""
	}
	if err := m.remember(n.Address, b); err != nil {
		return err
	}
	if err := m.move(n.Address, Driver, Driver); err != nil {
		return errors.Join(err, m.undo(n.Address, b)) // as it was
	}
	return nil
}

// Unbind gives the NIC back to the driver that had it.
func (m Machine) Unbind(n NIC) error {
	if n.Driver != Driver {
		return fmt.Errorf("%s is not bound to %s, but to %q", n.Address, Driver, n.Driver)
	}
	// The kernel would wait for the process that has it, for ever.
	fd, err := unix.Open(m.path("dev/vfio", n.Group), unix.O_RDWR|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("%s is in use: a process has /dev/vfio/%s open", n.Address, n.Group)
	}
	if err == nil {
		unix.Close(fd)
	}
	var b before // bound by others: the kernel chooses the driver
	text, err := os.ReadFile(m.path(memory, n.Address))
	if err == nil {
		err = json.Unmarshal(text, &b)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return m.undo(n.Address, b)
}

func (m Machine) undo(address string, b before) error {
	if err := m.move(address, b.Override, b.Driver); err != nil {
		return err
	}
	if err := os.Remove(m.path(memory, address)); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// move has the kernel choose the driver anew, by an override if there is one (the
// kernel's sysfs-bus-pci). The driver is to be the one that is wanted, if one is.
func (m Machine) move(address, override, want string) error {
	dir := m.path(pciDevices, address)
	write := func(path, text string) error {
		err := os.WriteFile(path, []byte(text), 0)
		if errors.Is(err, os.ErrPermission) {
			return fmt.Errorf("%w: this is for root", err)
		}
		return err
	}
	if err := write(filepath.Join(dir, "driver_override"), override+"\n"); err != nil {
		return err
	}
	if link(filepath.Join(dir, "driver")) != "" {
		if err := write(filepath.Join(dir, "driver/unbind"), address); err != nil {
			return err
		}
	}
	if err := write(m.path("sys/bus/pci/drivers_probe"), address); err != nil {
		return err
	}
	if got := link(filepath.Join(dir, "driver")); got != want && want != "" {
		return fmt.Errorf("%s: driver %s does not take it, it has %q: the kernel's log (dmesg) may say why", address, want, got)
	}
	return nil
}

func (m Machine) remember(address string, b before) error {
	text, err := json.Marshal(b)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(m.path(memory), 0o755); err != nil {
		return err
	}
	return os.WriteFile(m.path(memory, address), append(text, '\n'), 0o644)
}
