package engine

import (
	"testing"

	"github.com/onload-go/onload/driver/vfio"
)

// Each device that a driver is named for can be opened, and by one that is there.
func TestPCIDrivers(t *testing.T) {
	named := map[string]bool{}
	for id, name := range vfio.Drivers {
		if named[name] = true; pciDrivers[name] == nil {
			t.Errorf("%v is %s's, which the engine does not know", id, name)
		}
	}
	for name := range pciDrivers {
		if !named[name] {
			t.Errorf("no device is %s's", name)
		}
	}
}
