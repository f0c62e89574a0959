package engine_test

import (
	"testing"

	"github.com/onload-go/onload/internal/vmrun"
)

func TestInGuest(t *testing.T) {
	vmrun.Test(t, vmrun.Guest{Links: []string{"virtio/vfio+virtio"}, CPUs: 2})
}
