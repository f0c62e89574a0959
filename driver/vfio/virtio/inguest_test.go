package virtio

import (
	"testing"

	"github.com/onload-go/onload/internal/vmrun"
)

func TestInGuest(t *testing.T) {
	vmrun.Test(t, vmrun.Guest{Links: []string{"virtio/vfio,host_mtu=9000+virtio/vfio,host_mtu=9000"}, CPUs: 2})
}
