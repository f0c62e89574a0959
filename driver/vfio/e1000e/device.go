package e1000e

import (
	"errors"
	"fmt"
	"time"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/driver/vfio"
	"github.com/onload-go/onload/driver/vfio/gigabit"
	"github.com/onload-go/onload/driver/vfio/nic"
)

// Limits of the 82574: a ring has 64 KiB, a frame 9,234 bytes at most.
var limits = nic.Limits{Ring: 1 << 10, MTU: 9216 - nic.MaxLink, Queues: 1}

// Device is an 82574. It implements driver.Device.
type Device struct {
	*nic.Base
	regs   vfio.Regs
	queues []*queue
}

// queue is a pair of rings and their interrupt.
type queue struct {
	gigabit.Queue
	dev   *Device
	cause uint32
}

var _ driver.Device = (*Device)(nil)

// Open takes a device that vfio-pci has, resets it and starts it.
func Open(c nic.Config) (_ *Device, err error) {
	if err := c.Check("e1000e", limits); err != nil {
		return nil, err
	}
	d := &Device{}
	defer func() {
		if err != nil && d.Base != nil {
			err = errors.Join(err, d.Close())
		}
	}()
	if d.Base, err = nic.Open(&c); err != nil {
		return nil, err
	}
	if d.regs, err = d.PCI.BAR(0); err != nil {
		return nil, err
	}
	if err := d.reset(); err != nil {
		return nil, err
	}
	d.OnClose(d.reset)
	if err := d.PCI.Master(); err != nil {
		return nil, err
	}
	if d.Hardware, err = d.readMAC(); err != nil {
		return nil, err
	}
	d.describe(&c)
	if err := d.start(&c); err != nil {
		return nil, err
	}
	return d, nil
}

// describe says what the device can do.
func (d *Device) describe(c *nic.Config) {
	d.Traits = driver.Caps{
		Driver: "e1000e", Mode: "vfio", ZeroCopy: true,
		MTU: c.MTU, MaxFrags: maxFrags, RxRing: c.RxRing, TxRing: c.TxRing,
		TxCsum: c.Offloads != nic.OffloadsOff,
	}
	if frags := min(tsoFrags, c.TxRing); c.Offloads == nic.OffloadsAuto {
		d.Traits.TSO, d.Traits.TSOFrags = tsoMost, frags
	}
}

const (
	maxFrags = 17
	tsoFrags = 48
	tsoMost  = 65535
)

// patience is how long the device may take for what it does by itself.
const patience = time.Second

// wait looks at a register until its bits are so.
func (d *Device) wait(what string, reg int, bits, want uint32) error {
	for start := time.Now(); ; time.Sleep(100 * time.Microsecond) {
		v := d.regs.Read32(reg)
		switch {
		case v == statusGone:
			return fmt.Errorf("e1000e: %s: %w", d.PCI.Address(), driver.ErrGone)
		case v&bits == want:
			return nil
		case time.Since(start) > patience:
			return fmt.Errorf("e1000e: %s: %s takes longer than %v", d.PCI.Address(), what, patience)
		}
	}
}

// reset stops the device, waits until it reads and writes nothing more, and resets
// it (chapter 4, "Global Reset"; section 3.1.3.10 on the end of its requests).
func (d *Device) reset() error {
	r := d.regs
	r.Write32(regClear, ^uint32(0))
	r.Write32(regRxCtrl, 0)
	r.Write32(regTxCtrl, txPad)
	r.Write32(regCtrl, r.Read32(regCtrl)|ctrlMasterOff)
	err := d.wait("the end of its requests", regStatus, statusMaster, 0)
	if errors.Is(err, driver.ErrGone) {
		return err
	}
	// A device that goes on has to be reset all the more.
	r.Write32(regCtrl, r.Read32(regCtrl)|ctrlReset)
	time.Sleep(time.Millisecond) // no access meanwhile
	if err := d.wait("a reset", regCtrl, ctrlReset, 0); err != nil {
		return err
	}
	r.Write32(regClear, ^uint32(0))
	r.Read32(regCause)
	return nil
}

// readMAC returns the address that the device has loaded from its memory (RAL and
// RAH), or reads it there: the first three words (section 6.1).
func (d *Device) readMAC() (mac [6]byte, err error) {
	if err := d.wait("loading the configuration", regEEPROM, eepromLoaded, eepromLoaded); err != nil {
		return mac, err
	}
	low, high := d.regs.Read32(regAddrLow), d.regs.Read32(regAddrHigh)
	if high&addrValid == 0 {
		var words [3]uint32
		for i := range words {
			d.regs.Write32(regEEPROMRead, eepromStart|uint32(i)<<eepromAddress)
			if err := d.wait("the configuration", regEEPROMRead, eepromDone, eepromDone); err != nil {
				return mac, err
			}
			words[i] = d.regs.Read32(regEEPROMRead) >> eepromData
		}
		low, high = words[0]|words[1]<<16, words[2]
		d.regs.Write32(regAddrLow, low)
		d.regs.Write32(regAddrHigh, high|addrValid)
	}
	for i := range mac {
		mac[i] = byte(low >> (8 * i))
		if i >= 4 {
			mac[i] = byte(high >> (8 * (i - 4)))
		}
	}
	return mac, nil
}
