package engine

import (
	"errors"
	"fmt"
	"os"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/driver/exception"
	"github.com/onload-go/onload/driver/vfio"
	"github.com/onload-go/onload/driver/vfio/e1000e"
	"github.com/onload-go/onload/driver/vfio/igb"
	vfionic "github.com/onload-go/onload/driver/vfio/nic"
	"github.com/onload-go/onload/driver/vfio/virtio"
	"github.com/onload-go/onload/driver/vfio/vmxnet3"
	"github.com/onload-go/onload/internal/stack"
	"github.com/onload-go/onload/ring"
)

// pciDrivers open the device at a PCI address, by the names of vfio.Drivers. arena is
// that of the device with which it is to share it, nil for one of its own.
var pciDrivers = map[string]func(c *Config, address string, arena *ring.Arena) (nic, error){
	"virtio": openVirtio,
	"e1000e": func(c *Config, address string, arena *ring.Arena) (nic, error) {
		return e1000e.Open(nicConfig(c, address, arena))
	},
	"igb": func(c *Config, address string, arena *ring.Arena) (nic, error) {
		return igb.Open(nicConfig(c, address, arena))
	},
	"vmxnet3": func(c *Config, address string, arena *ring.Arena) (nic, error) {
		return vmxnet3.Open(nicConfig(c, address, arena))
	},
}

// openPCI opens the device at a PCI address, which vfio-pci has.
func (e *Engine) openPCI(address string, arena *ring.Arena) (nic, error) {
	id, err := vfio.Identify(address)
	if err != nil {
		return nil, err
	}
	open := pciDrivers[vfio.Drivers[id]]
	if open == nil {
		return nil, fmt.Errorf("%s is a %v, which no driver of ours knows: see docs/vfio.md", address, id)
	}
	return open(&e.cfg, address, arena)
}

// withTAP puts a TAP device of the kernel's beside dev, which it closes where that fails.
func (e *Engine) withTAP(dev nic, name string) (d driver.Device, index int, err error) {
	var tap *os.File
	err = e.ns.Do(func() (err error) {
		tap, index, err = exception.OpenTAP(name, dev.MAC(), exception.MTU(dev))
		return err
	})
	if err != nil {
		return nil, 0, errors.Join(err, dev.Close())
	}
	d, err = exception.New(dev, tap)
	return d, index, err
}

func openVirtio(c *Config, address string, arena *ring.Arena) (nic, error) {
	return virtio.Open(virtio.Config{
		Address: address, Arena: arena, TakeAll: true,
		Frames: c.Frames, FrameSize: c.FrameSize, RxRing: c.RingSize, TxRing: c.RingSize,
		Queues: max(len(c.Queues), c.teamOf(stack.MaxQueues)),
		Offloads: [...]virtio.Offloads{OffloadsAuto: virtio.OffloadsAuto, OffloadsOff: virtio.OffloadsOff,
			OffloadsChecksum: virtio.OffloadsChecksum}[c.Offloads],
	})
}

// nicConfig says the same to the other drivers.
func nicConfig(c *Config, address string, arena *ring.Arena) vfionic.Config {
	return vfionic.Config{
		Address: address, Arena: arena, TakeAll: true,
		Frames: c.Frames, FrameSize: c.FrameSize, RxRing: c.RingSize, TxRing: c.RingSize,
		Offloads: [...]vfionic.Offloads{OffloadsAuto: vfionic.OffloadsAuto, OffloadsOff: vfionic.OffloadsOff,
			OffloadsChecksum: vfionic.OffloadsChecksum}[c.Offloads],
	}
}
