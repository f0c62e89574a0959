package vmxnet3

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/driver/vfio"
	"github.com/onload-go/onload/driver/vfio/nic"
)

// Device is a vmxnet3 device. It implements driver.Device and driver.Linked.
type Device struct {
	*nic.Base
	fast, slow vfio.Regs // BAR 0 and BAR 1
	shared     vfio.Regs
	queue      *Queue

	events *os.File // eventfd of the interrupt of events
	up     atomic.Bool
	linkMu sync.Mutex
	onLink func()
}

var (
	_ driver.Device = (*Device)(nil)
	_ driver.Linked = (*Device)(nil)
)

const (
	maxFrags = 16 // VMXNET3_MAX_TXD_PER_PKT
	tsoFrags = 24 // VMXNET3_MAX_TSO_TXD_PER_PKT
	tsoMost  = 65535
)

// limits: a ring has 4,096 descriptors at most, and one of them stays free;
// VMXNET3_MAX_MTU.
var limits = nic.Limits{Ring: 2048, MTU: 9000, Queues: 1}

// Open takes a device that vfio-pci has, resets it and starts it.
func Open(c nic.Config) (_ *Device, err error) {
	if err := c.Check("vmxnet3", limits); err != nil {
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
	if d.fast, err = d.PCI.BAR(0); err != nil {
		return nil, err
	}
	if d.slow, err = d.PCI.BAR(1); err != nil {
		return nil, err
	}
	d.reset()
	d.OnClose(d.halt)
	if err := d.PCI.Master(); err != nil {
		return nil, err
	}
	for reg, what := range map[int]string{regRevision: "revision", regUPT: "UPT version"} {
		if has := d.slow.Read32(reg); has == gone || has&revision1 == 0 {
			return nil, fmt.Errorf("vmxnet3: %s: the device has no %s 1, but %#x", c.Address, what, has)
		}
		d.slow.Write32(reg, revision1)
	}
	d.readMAC()
	if err := d.start(&c); err != nil {
		return nil, err
	}
	go d.watch()
	return d, nil
}

// command gives the device a command and returns its answer. One caller at a time.
func (d *Device) command(c uint32) (answer uint32) {
	d.slow.Write32(regCommand, c)
	return d.slow.Read32(regCommand)
}

// reset stops the device: it neither reads nor writes memory any more.
func (d *Device) reset() {
	d.command(cmdQuiesce)
	d.command(cmdReset)
	d.slow.Write32(regSharedLow, 0)
	d.slow.Write32(regSharedHigh, 0)
}

// halt stops the device for good.
func (d *Device) halt() error {
	d.reset()
	if d.events != nil {
		return d.events.Close() // ends watch
	}
	return nil
}

// readMAC has the device use the address that it was made with.
func (d *Device) readMAC() {
	low, high := d.command(cmdPermanentLow), d.command(cmdPermanentHigh)
	for i := range d.Hardware {
		d.Hardware[i] = byte((uint64(high)<<32 | uint64(low)) >> (8 * i))
	}
	d.slow.Write32(regAddressLow, low)
	d.slow.Write32(regAddressHigh, high)
}

// start makes queue and shared area, and activates the device.
func (d *Device) start(c *nic.Config) error {
	q := &Queue{device: d, fast: d.fast}
	d.queue = q
	shared, iova, err := d.Container.Alloc(sharedArea)
	if err != nil {
		return err
	}
	unmapWith(q, shared)
	d.shared = shared[:sharedArea]
	q.shared = d.shared
	q.MaxSegment = maxMSS
	fd, err := q.Init(d.Base, q, q, false)
	if err != nil {
		return fmt.Errorf("vmxnet3: eventfd: %w", err)
	}
	d.Add(q, &q.Queue)
	if err := q.allocate(c); err != nil {
		return err
	}
	d.traits(c)
	d.describeAll(c, q, iova)
	changes, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		return fmt.Errorf("vmxnet3: eventfd: %w", err)
	}
	d.events = os.NewFile(uintptr(changes), "vmxnet3-events")
	if err := d.PCI.Interrupts([]int{intrReceive: fd, intrEvents: changes}); err != nil {
		return err
	}
	d.slow.Write32(regSharedLow, uint32(iova))
	d.slow.Write32(regSharedHigh, uint32(iova>>32))
	if status := d.command(cmdActivate); status != 0 {
		return fmt.Errorf("vmxnet3: %s: the device does not start: status %#x", c.Address, status)
	}
	d.command(cmdVLANs)
	d.command(cmdReceiveMode)
	for i := range interrupts {
		d.fast.Write32(maskOf(i), 1)
	}
	d.shared.Write32(sharedIntrCtrl, 0)
	d.fast.Write32(maskOf(intrEvents), 0)
	d.readLink()
	return nil
}

// traits says what the device can do.
func (d *Device) traits(c *nic.Config) {
	d.Traits = driver.Caps{
		Driver: "vmxnet3", Mode: "vfio", ZeroCopy: true,
		MTU: c.MTU, MaxFrags: min(maxFrags, c.TxRing), TxRing: c.TxRing,
		RxRing: d.queue.rings[head].most + d.queue.rings[body].most,
		TxCsum: c.Offloads != nic.OffloadsOff,
	}
	if c.Offloads == nic.OffloadsAuto {
		d.Traits.TSO, d.Traits.TSOFrags = tsoMost, min(tsoFrags, c.TxRing)
	}
}
