//go:build guest

// Package nictest runs the driver's contract over NICs mapped by VFIO, in a guest.
package nictest

import (
	"encoding/hex"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/driver/drivertest"
	"github.com/onload-go/onload/driver/vfio/nic"
	"github.com/onload-go/onload/internal/need"
	"github.com/onload-go/onload/internal/testlong"
	"github.com/onload-go/onload/internal/vmrun/monitor"
)

// Device is a NIC of one of the drivers that are built on package nic.
type Device interface {
	driver.Device
	monitor.Linked
	MAC() [6]byte
}

// Contract runs drivertest over two NICs of one kind, back to back, that vfio-pci has:
// VMRUN_NIC0_PCI and VMRUN_NIC1_PCI name them. stray says that the device may
// interrupt without a reason.
func Contract(t *testing.T, stray bool, open func(nic.Config) (Device, error)) {
	all := map[string]nic.Config{
		"default": {MTU: 9000},
		"off":     {Offloads: nic.OffloadsOff},
		"small":   {RxRing: 64, TxRing: 64, Frames: 512, Offloads: nic.OffloadsChecksum},
		"MTU1500": {},
	}
	for name, c := range testlong.Pick(map[string]nic.Config{"default": all["default"]}, all) {
		if c.Offloads == nic.OffloadsAuto && !need.QEMUSegments() {
			c.Offloads = nic.OffloadsChecksum
		}
		without := []string{"Broken"}
		if c.Offloads == nic.OffloadsOff {
			without = append(without, "Checksum")
		}
		if c.Offloads != nic.OffloadsAuto {
			without = append(without, "Segment")
		}
		t.Run(name, func(t *testing.T) {
			drivertest.Run(t, func(t *testing.T) *drivertest.Ends {
				a := end(t, "NIC0", 1, c, open)
				return &drivertest.Ends{
					A: a, B: end(t, "NIC1", 2, c, open), Without: without, Stray: stray,
					SetLink: func(t *testing.T, up bool) { monitor.SetLink(t, 0, up, a.Device.(Device)) },
				}
			})
		})
	}
}

func end(t *testing.T, name string, host byte, c nic.Config, open func(nic.Config) (Device, error)) drivertest.End {
	t.Helper()
	if c.Address = os.Getenv("VMRUN_" + name + "_PCI"); c.Address == "" {
		t.Fatal("the tag guest needs a virtual machine with two NICs: see TESTING.md")
	}
	d, err := open(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	mac, err := hex.DecodeString(strings.ReplaceAll(os.Getenv("VMRUN_"+name+"_MAC"), ":", ""))
	if err != nil || [6]byte(mac) != d.MAC() {
		t.Errorf("the MAC is %x, want %x, %v", d.MAC(), mac, err)
	}
	return drivertest.End{
		Device: d, MAC: d.MAC(),
		Addr4: netip.AddrFrom4([4]byte{10, 9, 0, host}), Addr6: netip.AddrFrom16([16]byte{0: 0xfd, 15: host}),
	}
}
