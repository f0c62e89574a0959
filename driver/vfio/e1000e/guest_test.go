//go:build guest

package e1000e

import (
	"testing"

	"github.com/onload-go/onload/driver/vfio/nic"
	"github.com/onload-go/onload/driver/vfio/nic/nictest"
)

func TestGuestContract(t *testing.T) {
	// QEMU interrupts once more when the time of throttling is over, which is never 0.
	nictest.Contract(t, true, func(c nic.Config) (nictest.Device, error) { return Open(c) })
}

func TestGuestMillion(t *testing.T) {
	nictest.MillionOverGuest(t, func(c nic.Config) (nictest.Device, error) { return Open(c) })
}
