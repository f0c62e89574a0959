package afxdp

import (
	"slices"
	"testing"

	"github.com/onload-go/onload/internal/testlong"
	"github.com/onload-go/onload/internal/vmrun"
)

// TestInGuest runs the tests on NICs. No NIC has all, so each guest skips some. A test
// that all guests skip tests nothing. What vmxnet3 has, others have too.
func TestInGuest(t *testing.T) {
	var passed, skipped []string
	links := []string{"virtio+virtio", "e1000e+virtio"}
	for _, link := range testlong.Pick(links, append(links, "vmxnet3+virtio")) {
		t.Run(link, func(t *testing.T) {
			r := vmrun.Test(t, vmrun.Guest{
				Links: []string{link}, CPUs: 2, Suite: vmrun.Backports,
				Programs: []string{"sh", "cat", "sleep"}, // the restorer
			})
			passed, skipped = append(passed, r.Passed...), append(skipped, r.Skipped...)
		})
	}
	for _, name := range skipped {
		if !slices.Contains(passed, name) {
			t.Errorf("%s passed in no guest", name)
		}
	}
}
