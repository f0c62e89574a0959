//go:build guest

package vmxnet3

import (
	"encoding/hex"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/onload-go/onload/driver/drivertest"
	"github.com/onload-go/onload/driver/vfio/nic"
	"github.com/onload-go/onload/internal/need"
	"github.com/onload-go/onload/internal/testlong"
	"github.com/onload-go/onload/internal/vmrun/monitor"
)

// The tests here run in a guest with two vmxnet3 back to back that vfio-pci has,
// named by VMRUN_NIC0_PCI and VMRUN_NIC1_PCI.

func open(t *testing.T, name string, host byte, c nic.Config) drivertest.End {
	t.Helper()
	if c.Address = os.Getenv("VMRUN_" + name + "_PCI"); c.Address == "" {
		t.Fatal("the tag guest needs a virtual machine with two NICs: see TESTING.md")
	}
	d, err := Open(c)
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

func TestGuestContract(t *testing.T) {
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
		t.Run(name, func(t *testing.T) {
			drivertest.Run(t, func(t *testing.T) *drivertest.Ends {
				l := &drivertest.Ends{A: open(t, "NIC0", 1, c), B: open(t, "NIC1", 2, c), Without: []string{"Broken"}}
				l.SetLink = func(t *testing.T, up bool) { monitor.SetLink(t, 0, up, l.A.Device.(*Device)) }
				// An interrupt that was due while it was masked comes when it no longer is.
				l.Stray = true
				if c.Offloads == nic.OffloadsOff {
					l.Without = append(l.Without, "Checksum")
				}
				if c.Offloads != nic.OffloadsAuto {
					l.Without = append(l.Without, "Segment")
				}
				return l
			})
		})
	}
}
