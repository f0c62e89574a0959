//go:build guest

package igb

import (
	"testing"

	"github.com/onload-go/onload/driver/vfio/nic"
	"github.com/onload-go/onload/driver/vfio/nic/nictest"
)

func TestGuestContract(t *testing.T) {
	nictest.Contract(t, false, func(c nic.Config) (nictest.Device, error) { return Open(c) })
}

func TestGuestMillion(t *testing.T) {
	nictest.MillionOverGuest(t, func(c nic.Config) (nictest.Device, error) { return Open(c) })
}
