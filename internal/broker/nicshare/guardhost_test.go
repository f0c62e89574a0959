package nicshare

import (
	"testing"

	"github.com/onload-go/onload/internal/vmrun"
)

// TestInGuest runs the guard on a kernel of Debian's, since not every machine's lets programs
// be attached to its functions.
func TestInGuest(t *testing.T) {
	vmrun.Test(t, vmrun.Guest{Run: "^TestGuestGuard$"})
}
