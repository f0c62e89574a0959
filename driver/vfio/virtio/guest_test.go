//go:build guest

package virtio

import (
	"encoding/hex"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/onload-go/onload/driver/drivertest"
)

// The tests here run in a guest with two virtio devices back to back that
// vfio-pci has, named by VMRUN_NIC0_PCI and VMRUN_NIC1_PCI: see TestInGuest.

func anyPort(port uint16) netip.AddrPort { return netip.AddrPortFrom(netip.Addr{}, port) }

func open(t *testing.T, nic string, host byte, c Config) drivertest.End {
	t.Helper()
	if c.Address = os.Getenv("VMRUN_" + nic + "_PCI"); c.Address == "" {
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
	mac, err := hex.DecodeString(strings.ReplaceAll(os.Getenv("VMRUN_"+nic+"_MAC"), ":", ""))
	if err != nil || [6]byte(mac) != d.MAC() {
		t.Errorf("the MAC is %x, want %x, %v", d.MAC(), mac, err)
	}
	return drivertest.End{
		Device: d, MAC: d.MAC(),
		Addr4: netip.AddrFrom4([4]byte{10, 9, 0, host}), Addr6: netip.AddrFrom16([16]byte{0: 0xfd, 15: host}),
	}
}

func TestGuestContract(t *testing.T) {
	for name, c := range map[string]Config{"default": {}, "small": {RxRing: 64, TxRing: 64, Frames: 512}} {
		t.Run(name, func(t *testing.T) {
			drivertest.Run(t, func(t *testing.T) *drivertest.Ends {
				return &drivertest.Ends{
					A: open(t, "NIC0", 1, c), B: open(t, "NIC1", 2, c),
					Without: []string{"Checksum", "Segment", "LinkDown", "Broken"},
				}
			})
		})
	}
}
