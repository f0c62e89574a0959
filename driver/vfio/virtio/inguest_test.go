package virtio

import (
	"testing"

	"github.com/onload-go/onload/internal/testlong"
	"github.com/onload-go/onload/internal/vmrun"
)

func TestInGuest(t *testing.T) {
	vmrun.Test(t, vmrun.Guest{
		Links: []string{"virtio/vfio,host_mtu=9000,packed=on+virtio/vfio,host_mtu=9000,packed=on"}, CPUs: 2,
		Skip: "^TestGuestUnplugged$",
	})
}

// TestInGuestUnplugged takes a device from the guest for good.
func TestInGuestUnplugged(t *testing.T) {
	if !testlong.Enabled() {
		t.Skip("SKIPPED without -long")
	}
	vmrun.Test(t, vmrun.Guest{Links: []string{"virtio/vfio,packed=on+virtio/vfio,packed=on"}, CPUs: 2, Run: "^TestGuestUnplugged$"})
}

// TestInGuestOffloads is the contract between devices that checksum and segment.
func TestInGuestOffloads(t *testing.T) {
	if !testlong.Enabled() {
		t.Skip("SKIPPED without -long")
	}
	vmrun.Test(t, vmrun.Guest{Links: []string{"virtio/vfio,packed=on+virtio/vfio,packed=on"}, TAP: true, CPUs: 2, Run: "^TestGuestContract$"})
}

// TestInGuestQueues is about devices with several pairs of queues.
func TestInGuestQueues(t *testing.T) {
	nic := "virtio/vfio,packed=on,mq=on,rss=on,vectors=10"
	vmrun.Test(t, vmrun.Guest{Links: []string{nic + "+" + nic}, TAP: true, Queues: 4, CPUs: 2, Run: "^TestGuestQueues$"})
}

// TestInGuestWire is about devices whose one interrupt is INTx.
func TestInGuestWire(t *testing.T) {
	if !testlong.Enabled() {
		t.Skip("SKIPPED without -long")
	}
	nic := "virtio/vfio,vectors=0"
	vmrun.Test(t, vmrun.Guest{Links: []string{nic + "+" + nic}, CPUs: 2, Run: "^TestGuestWire$"})
}
