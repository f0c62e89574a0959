package gigabit

import (
	"errors"
	"fmt"
	"time"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/driver/vfio"
	"github.com/onload-go/onload/driver/vfio/nic"
)

// Model is a controller: what it has otherwise than the others.
type Model struct {
	Name   string
	Limits nic.Limits

	// RxBlock and TxBlock are the registers of ring 0, each further ring's lie Stride
	// behind. Advanced says which descriptors it has.
	RxBlock, TxBlock, Stride int
	Advanced                 bool

	// Mask has the device make no interrupt any more.
	Mask func(r vfio.Regs)
	// Rings sets up rings whose place is known, before the device receives and sends.
	Rings func(r vfio.Regs, c *nic.Config, frameSize, rx, tx int)
	// RxControl is the part of the receive control register that says how large
	// buffers are.
	RxControl func(frameSize int) uint32
	// Vectors gives each of n receive queues the vector of its number. The cause of an
	// interrupt is gone once the message is sent, and its mask stays as it is: so each
	// packet makes a message.
	Vectors func(r vfio.Regs, n int)
	// LinkVector has changes of the link interrupt by a vector. LinkHeard forgets what
	// came, and has the next change interrupt.
	LinkVector func(r vfio.Regs, vector int)
	LinkHeard  func(r vfio.Regs)
	// Negotiate says that the PHY is told to begin: not all do so after a reset.
	Negotiate bool
	// Enable forgets what came by a queue and has it interrupt, Disable ends that.
	Enable, Disable func(r vfio.Regs, queue int)
}

// Device is a controller. It implements driver.Device and driver.Linked.
type Device struct {
	*nic.Base
	Regs   vfio.Regs
	model  *Model
	queues []*Queue
}

var (
	_ driver.Device = (*Device)(nil)
	_ driver.Linked = (*Device)(nil)
)

// Open takes a device that vfio-pci has, resets it and starts it.
func Open(m *Model, c nic.Config) (_ *Device, err error) {
	if err := c.Check(m.Name, m.Limits); err != nil {
		return nil, err
	}
	d := &Device{model: m}
	defer func() {
		if err != nil && d.Base != nil {
			err = errors.Join(err, d.Close())
		}
	}()
	if d.Base, err = nic.Open(&c); err != nil {
		return nil, err
	}
	if d.Regs, err = d.PCI.BAR(0); err != nil {
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
		Driver: d.model.Name, Mode: "vfio", ZeroCopy: true,
		MTU: c.MTU, MaxFrags: min(maxFrags, c.TxRing), RxRing: c.RxRing, TxRing: c.TxRing,
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
	return d.waitFor(patience, what, reg, bits, want)
}

func (d *Device) waitFor(patience time.Duration, what string, reg int, bits, want uint32) error {
	for start := time.Now(); ; time.Sleep(100 * time.Microsecond) {
		v := d.Regs.Read32(reg)
		switch {
		case v == statusGone:
			return fmt.Errorf("%s: %s: %w", d.model.Name, d.PCI.Address(), driver.ErrGone)
		case v&bits == want:
			return nil
		case time.Since(start) > patience:
			return fmt.Errorf("%s: %s: %s takes longer than %v", d.model.Name, d.PCI.Address(), what, patience)
		}
	}
}

// reset stops the device, waits until it reads and writes nothing more, and resets
// it (chapter 4 of either datasheet, "Global Reset" and "Software Reset").
func (d *Device) reset() error {
	r := d.Regs
	d.model.Mask(r)
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
	d.model.Mask(r)
	r.Read32(regCause) // clears
	return nil
}

// readMAC returns the address that the device has loaded from its memory (RAL and
// RAH), or reads it there: the first three words.
func (d *Device) readMAC() (mac [6]byte, err error) {
	// It takes 20 ms at most. A device without such a memory never says that it is done.
	err = d.waitFor(20*time.Millisecond, "loading the configuration", regEEPROM, eepromLoaded, eepromLoaded)
	if errors.Is(err, driver.ErrGone) {
		return mac, err
	}
	low, high := d.Regs.Read32(regAddrLow), d.Regs.Read32(regAddrHigh)
	if high&addrValid == 0 {
		var words [3]uint32
		for i := range words {
			d.Regs.Write32(regEEPROMRead, eepromStart|uint32(i)<<eepromAddress)
			if err := d.wait("the configuration", regEEPROMRead, eepromDone, eepromDone); err != nil {
				return mac, err
			}
			words[i] = d.Regs.Read32(regEEPROMRead) >> eepromData
		}
		low, high = words[0]|words[1]<<16, words[2]
		d.Regs.Write32(regAddrLow, low)
		d.Regs.Write32(regAddrHigh, high|addrValid)
	}
	for i := range mac {
		mac[i] = byte(low >> (8 * i))
		if i >= 4 {
			mac[i] = byte(high >> (8 * (i - 4)))
		}
	}
	return mac, nil
}
