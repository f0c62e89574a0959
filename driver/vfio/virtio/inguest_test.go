package virtio

import (
	"testing"

	"github.com/onload-go/onload/internal/vmrun"
)

func TestInGuest(t *testing.T) {
	vmrun.Test(t, vmrun.Guest{Links: []string{"virtio/vfio,host_mtu=9000,packed=on+virtio/vfio,host_mtu=9000,packed=on"}, CPUs: 2})
}

// TestInGuestOffloads is the contract between devices that checksum and segment.
func TestInGuestOffloads(t *testing.T) {
	vmrun.Test(t, vmrun.Guest{Links: []string{"virtio/vfio,packed=on+virtio/vfio,packed=on"}, TAP: true, CPUs: 2, Run: "^TestGuestContract$"})
}
