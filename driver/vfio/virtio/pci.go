package virtio

import (
	"encoding/binary"
	"fmt"

	"github.com/onload-go/onload/driver/vfio"
)

const (
	vendorRedHat = 0x1af4
	netModern    = 0x1041
	netTransit   = 0x1000 // transitional: both interfaces

	capPointer  = 0x34
	capVendor   = 9
	capMost     = 48 // capabilities fit into 256 bytes; a device may link them in a circle
	statusCaps  = 1 << 4
	statusAt    = 6
	capMultiply = 16
)

// Types of structures (4.1.4).
const (
	typeCommon = 1
	typeNotify = 2
	typeISR    = 3
	typeDevice = 4
)

// structures are where the device has its registers.
type structures struct {
	common, notify, device vfio.Regs
	isr                    vfio.Regs
	multiplier             int // of a queue's notify offset, bytes
}

// Registers of the common configuration (4.1.4.3).
const (
	regDeviceFeatureSelect = 0x00
	regDeviceFeature       = 0x04
	regDriverFeatureSelect = 0x08
	regDriverFeature       = 0x0c
	regConfigVector        = 0x10
	regNumQueues           = 0x12
	regStatus              = 0x14
	regQueueSelect         = 0x16
	regQueueSize           = 0x18
	regQueueVector         = 0x1a
	regQueueEnable         = 0x1c
	regQueueNotifyOff      = 0x1e
	regQueueDesc           = 0x20
	regQueueDriver         = 0x28
	regQueueDevice         = 0x30
	commonLen              = 0x38

	noVector = 0xffff
)

// find reads the capabilities.
func find(d *vfio.Device) (*structures, error) {
	var cfg [256]byte
	if err := d.ReadConfig(cfg[:], 0); err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	if v, id := le.Uint16(cfg[0:]), le.Uint16(cfg[2:]); v != vendorRedHat || id != netModern && id != netTransit {
		return nil, fmt.Errorf("virtio: %s is %04x:%04x, no virtio network device", d.Address(), v, id)
	}
	if le.Uint16(cfg[statusAt:])&statusCaps == 0 {
		return nil, fmt.Errorf("virtio: %s has no capabilities", d.Address())
	}
	s := new(structures)
	p := int(cfg[capPointer] &^ 3)
	for range capMost {
		if p == 0 || p+capMultiply+4 > len(cfg) {
			break
		}
		c := cfg[p:]
		if c[0] == capVendor {
			if err := s.take(d, c); err != nil {
				return nil, err
			}
		}
		p = int(c[1] &^ 3)
	}
	if len(s.common) < commonLen || s.notify == nil || len(s.device) < netConfigLen {
		return nil, fmt.Errorf("virtio: %s has no modern interface (disable-modern=off)", d.Address())
	}
	return s, nil
}

// take maps the structure of one capability, the first of each type (4.1.4.1).
func (s *structures) take(d *vfio.Device, c []byte) error {
	var to *vfio.Regs
	switch c[3] {
	case typeCommon:
		to = &s.common
	case typeNotify:
		to = &s.notify
	case typeISR:
		to = &s.isr
	case typeDevice:
		to = &s.device
	}
	if to == nil || *to != nil {
		return nil
	}
	bar, err := d.BAR(int(c[4]))
	if err != nil {
		return err
	}
	off, n := uint64(binary.LittleEndian.Uint32(c[8:])), uint64(binary.LittleEndian.Uint32(c[12:]))
	if off+n > uint64(len(bar)) {
		return fmt.Errorf("virtio: %s: a structure of %d bytes at %#x of BAR %d, which has %d", d.Address(), n, off, c[4], len(bar))
	}
	*to = bar[off : off+n]
	if c[3] == typeNotify {
		s.multiplier = int(binary.LittleEndian.Uint32(c[capMultiply:]))
	}
	return nil
}

// Device status (2.1).
const (
	statusAcknowledge = 1
	statusDriver      = 2
	statusDriverOK    = 4
	statusFeaturesOK  = 8
	statusNeedsReset  = 0x40
	statusFailed      = 0x80
	statusGone        = 0xff // what a register reads where there is no device
)
