package engine_test

import (
	"testing"

	"github.com/onload-go/onload/internal/vmrun"
)

func TestInGuest(t *testing.T) {
	t.Run("virtio by VFIO", func(t *testing.T) {
		vmrun.Test(t, vmrun.Guest{Links: []string{"virtio/vfio+virtio"}, CPUs: 2, Skip: "^TestGuestXDP"})
	})
	for _, model := range []string{"virtio", "igb"} {
		t.Run(model+" by AF_XDP", func(t *testing.T) {
			vmrun.Test(t, vmrun.Guest{
				Links: []string{model + "+virtio"}, CPUs: 2, Suite: vmrun.Backports, Run: "^TestGuestXDP",
				Programs: []string{"sh", "cat", "sleep"}, // the guardian
			})
		})
	}
}
