package e1000e

import (
	"testing"

	"github.com/onload-go/onload/internal/vmrun"
)

func TestInGuest(t *testing.T) {
	vmrun.Test(t, vmrun.Guest{Links: []string{"e1000e/vfio+e1000e/vfio"}, CPUs: 2})
}
