package engine_test

import (
	"testing"

	"github.com/onload-go/onload/internal/testlong"
	"github.com/onload-go/onload/internal/vmrun"
)

// TestInGuestNICs runs the tests in which the driver counts over NICs that are not
// virtio. Of two drivers that differ in registers the one is for -long.
func TestInGuestNICs(t *testing.T) {
	for _, nic := range testlong.Pick([]string{"igb", "vmxnet3"}, []string{"e1000e", "igb", "vmxnet3"}) {
		t.Run(nic, func(t *testing.T) {
			vmrun.Test(t, vmrun.Guest{
				Links: []string{nic + "/vfio+virtio"}, CPUs: 2,
				Run: testlong.Pick("^TestGuestStack$/^10/(client|server)$", "^TestGuestStack$|^TestGuestKilled$"),
			})
		})
	}
}
