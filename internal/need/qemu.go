package need

import (
	"fmt"
	"os"
)

// QEMUSegments reports whether the QEMU that this guest runs in cuts TCP segments for
// NICs other than virtio: one before 8.1 makes IP fragments of them. Elsewhere it
// returns true.
func QEMUSegments() bool {
	b, err := os.ReadFile("/sys/class/dmi/id/product_version")
	var major, minor int
	if _, bad := fmt.Sscanf(string(b), "pc-q35-%d.%d", &major, &minor); err != nil || bad != nil {
		return true
	}
	return major > 8 || major == 8 && minor >= 1
}
