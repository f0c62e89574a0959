package main

import (
	"testing"

	"github.com/onload-go/onload/internal/vmrun"
)

func TestInGuest(t *testing.T) {
	vmrun.Test(t, vmrun.Guest{Links: []string{"virtio+virtio"}, Modules: []string{"vfio_iommu_type1", "vfio_pci"}})
}
