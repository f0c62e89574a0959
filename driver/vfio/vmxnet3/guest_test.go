//go:build guest

package vmxnet3

import (
	"testing"

	"github.com/onload-go/onload/driver/vfio/nic"
	"github.com/onload-go/onload/driver/vfio/nic/nictest"
)

func TestGuestContract(t *testing.T) {
	// An interrupt that was due while it was masked comes when it no longer is.
	nictest.Contract(t, true, func(c nic.Config) (nictest.Device, error) { return Open(c) })
}

func TestGuestMillion(t *testing.T) {
	nictest.MillionOverGuest(t, func(c nic.Config) (nictest.Device, error) { return Open(c) })
}
