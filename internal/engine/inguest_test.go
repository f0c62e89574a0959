package engine_test

import (
	"testing"

	"github.com/onload-go/onload/internal/testlong"
	"github.com/onload-go/onload/internal/vmrun"
)

func TestInGuest(t *testing.T) {
	t.Run("virtio by VFIO", func(t *testing.T) {
		vmrun.Test(t, vmrun.Guest{
			Links: []string{"virtio/vfio+virtio"}, CPUs: 2, Skip: "^TestGuest(XDP|Instructions|Pair)",
			Programs: []string{"dnsmasq", "radvd"}, Modules: []string{"tun", "veth"},
		})
	})
	t.Run("virtio by VFIO at both ends", func(t *testing.T) {
		vmrun.Test(t, vmrun.Guest{Links: []string{"virtio/vfio+virtio/vfio"}, CPUs: 2, Run: "^TestGuestPair$"})
	})
	for _, model := range testlong.Pick([]string{"virtio"}, []string{"virtio", "igb"}) {
		t.Run(model+" by AF_XDP", func(t *testing.T) {
			vmrun.Test(t, vmrun.Guest{
				Links: []string{model + "+virtio"}, CPUs: 2, Suite: vmrun.Backports, Run: "^TestGuestXDP",
				Programs: []string{"sh", "cat", "sleep"}, // the restorer
			})
		})
	}
}

// TestInGuestInstructions counts instructions: its clock goes on by one nanosecond for
// each.
func TestInGuestInstructions(t *testing.T) {
	if !testlong.Enabled() {
		t.Skip("SKIPPED without -long")
	}
	vmrun.Test(t, vmrun.Guest{
		Links: []string{"virtio/vfio,packed=on+virtio/vfio,packed=on"}, TAP: true, CPUs: 1,
		QEMU: []string{"-icount", "shift=0"}, Run: "^TestGuestInstructions$",
	})
}
