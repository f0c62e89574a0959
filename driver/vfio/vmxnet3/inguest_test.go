package vmxnet3

import (
	"testing"

	"github.com/onload-go/onload/internal/testlong"
	"github.com/onload-go/onload/internal/vmrun"
)

func TestInGuest(t *testing.T) {
	vmrun.Test(t, vmrun.Guest{
		Links: []string{"vmxnet3/vfio+vmxnet3/vfio"}, CPUs: 2,
		Run: testlong.Pick("^TestGuestContract$/default/(Exchange|RingFull|Invalid|Checksum|Segment|Arm|Edges|LinkDown)", "^TestGuest"),
	})
}
