package gigabit

import (
	"fmt"
	"time"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/driver/vfio/nic"
)

// start makes the rings, and turns on receiving and sending (chapter 4 of either
// datasheet, "Receive Initialization" and "Transmit Initialization").
func (d *Device) start(c *nic.Config) error {
	r := d.Regs
	for i := range mtaWords {
		r.Write32(regMTA+4*i, 0)
	}
	for i := 1; i < addrs; i++ {
		r.Write32(regAddrHigh+8*i, 0)
	}
	sums := uint32(sumHash)
	if c.Offloads != nic.OffloadsOff {
		sums |= sumIP | sumL4
	}
	r.Write32(regRxSum, sums)
	var fds []int
	for i := range c.Queues {
		q := &Queue{device: d, number: i}
		fd, err := q.Init(d.Base, q, q, false)
		if err != nil {
			return fmt.Errorf("%s: eventfd: %w", d.model.Name, err)
		}
		d.Add(q, &q.Queue)
		d.queues = append(d.queues, q)
		fds = append(fds, fd)
		rx, tx := d.model.RxBlock+i*d.model.Stride, d.model.TxBlock+i*d.model.Stride
		if err := q.Start(c, Where{Regs: r, Rx: rx, Tx: tx, Advanced: d.model.Advanced}); err != nil {
			return err
		}
		d.model.Rings(r, c, d.Arena().FrameSize(), rx, tx)
	}
	fd, err := d.Changes()
	if err != nil {
		return err
	}
	if err := d.PCI.Interrupts(append(fds, fd)); err != nil {
		return err
	}
	d.model.Vectors(r, len(fds))
	d.model.LinkVector(r, len(fds))
	rx := rxEnable | rxMulticast | rxBroadcast | rxStripFCS | d.model.RxControl(d.Arena().FrameSize())
	if c.MTU > 1500 {
		rx |= rxLong
	}
	r.Write32(regTxCtrl, txEnable|txPad|txCollide|txDistance)
	r.Write32(regRxCtrl, rx)
	r.Write32(regCtrl, r.Read32(regCtrl)&^(ctrlForceSpeed|ctrlForceFull)|ctrlLinkUp)
	if d.model.Negotiate {
		if err := d.negotiate(); err != nil {
			return err
		}
	}
	d.awaitLink()
	d.FollowLink(d.linkUp(), func() (up bool, err error) {
		d.model.LinkHeard(r)
		return d.linkUp(), d.lost()
	})
	return nil
}

// negotiate has the PHY begin (82576 datasheet, MDIC in section 8; IEEE 802.3 section
// 22.2.4.1).
func (d *Device) negotiate() error {
	d.Regs.Write32(regPHY, phyWrite|phyOne|phyControl|phyNegotiate)
	return d.wait("the PHY", regPHY, phyReady, phyReady)
}

// awaitLink gives the link time to come up: negotiation takes 2 to 3 seconds. One
// without a cable is opened all the same.
func (d *Device) awaitLink() {
	for start := time.Now(); !d.linkUp() && time.Since(start) < 4*time.Second; time.Sleep(time.Millisecond) {
	}
}

func (d *Device) linkUp() bool {
	s := d.Regs.Read32(regStatus)
	return s != statusGone && s&statusLinkUp != 0
}

// Enable implements nic.Line.
func (q *Queue) Enable() {
	q.device.model.Enable(q.regs, q.number)
	q.regs.Read32(regStatus) // once it answers it has heard
}

// Disable implements nic.Line.
func (q *Queue) Disable() {
	q.device.model.Disable(q.regs, q.number)
	q.regs.Read32(regStatus)
}

// Lost implements nic.Line.
func (q *Queue) Lost() error { return q.device.lost() }

// lost returns the fault of a device that is gone, or nil.
func (d *Device) lost() error {
	if d.Regs.Read32(regStatus) == statusGone {
		return fmt.Errorf("%s: %s: %w", d.model.Name, d.PCI.Address(), driver.ErrGone)
	}
	return nil
}

// Stats implements driver.Queue. The device counts what it had no room for, of all
// queues, until that is read.
func (q *Queue) Stats() driver.Stats {
	if d := q.device; d != nil && q == d.queues[0] {
		d.Registers(func() {
			if n := d.Regs.Read32(regMissed); n != statusGone {
				q.Count.RxDropped.Add(uint64(n))
			}
		})
	}
	return q.Queue.Stats()
}
