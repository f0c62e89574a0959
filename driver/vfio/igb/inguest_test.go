package igb

import (
	"testing"

	"github.com/onload-go/onload/internal/testlong"
	"github.com/onload-go/onload/internal/vmrun"
)

// TestInGuest: opening a device takes a second or two, so all tests run with -long only.
func TestInGuest(t *testing.T) {
	vmrun.Test(t, vmrun.Guest{
		Links: []string{"igb/vfio+igb/vfio"}, CPUs: 2,
		Run: testlong.Pick("^TestGuestContract$/default/(Exchange|RingFull|Invalid|Checksum|Segment|Arm|Edges|LinkDown)", "^TestGuest"),
	})
}
