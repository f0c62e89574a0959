package e1000e

import (
	"fmt"
	"time"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/driver/vfio/gigabit"
	"github.com/onload-go/onload/driver/vfio/nic"
)

// start makes the rings, and turns on receiving and sending (chapter 4,
// "Initialization of Statistics", "Receive Initialization" and the sections that
// follow them).
func (d *Device) start(c *nic.Config) error {
	r := d.regs
	for i := range mtaWords {
		r.Write32(regMTA+4*i, 0)
	}
	for i := 1; i < addrs; i++ {
		r.Write32(regAddrHigh+8*i, 0)
	}
	r.Write32(regFilter, filterExt)
	sums := uint32(sumHash)
	if c.Offloads != nic.OffloadsOff {
		sums |= sumIP | sumL4
	}
	r.Write32(regRxSum, sums)
	var fds []int
	for i := range c.Queues {
		q := &queue{dev: d, cause: causeQueue << i}
		fd, err := q.Init(d.Base, q, q.RxPending, false)
		if err != nil {
			return fmt.Errorf("e1000e: eventfd: %w", err)
		}
		d.Add(q, &q.Queue.Queue)
		d.queues = append(d.queues, q)
		fds = append(fds, fd)
		rx, tx := regRx+i*ringStride, regTx+i*ringStride
		if err := q.Start(c, gigabit.Where{Regs: r, Rx: rx, Tx: tx}); err != nil {
			return err
		}
		r.Write32(rx+regRxDesc, descGranular|descWrite1)
		r.Write32(tx+regRxDesc, descGranular|descWrite1|txDescBit22)
	}
	if err := d.interrupts(fds); err != nil {
		return err
	}
	rx := uint32(rxEnable | rxMulticast | rxBroadcast | rxStripFCS)
	if c.MTU > 1500 {
		rx |= rxLong
	}
	if d.Arena().FrameSize() == 4096 {
		rx |= rx4096
	}
	r.Write32(regTxCtrl, txEnable|txPad|txCollide|txDistance)
	r.Write32(regRxCtrl, rx)
	r.Write32(regCtrl, r.Read32(regCtrl)&^(ctrlForceSpeed|ctrlForceFull)|ctrlLinkUp)
	d.awaitLink()
	return nil
}

// awaitLink gives the link time to come up: negotiation takes 2 to 3 seconds. One
// without a cable is opened all the same.
func (d *Device) awaitLink() {
	for start := time.Now(); !d.LinkUp() && time.Since(start) < 4*time.Second; time.Sleep(time.Millisecond) {
	}
}

// LinkUp reports whether the link is up.
func (d *Device) LinkUp() bool {
	s := d.regs.Read32(regStatus)
	return s != statusGone && s&statusLinkUp != 0
}

// interrupts gives each receive queue a vector of its own (section 7.4). A cause is
// gone once its message is sent, and its mask stays as it is: so each packet makes
// a message.
func (d *Device) interrupts(fds []int) error {
	if err := d.PCI.Interrupts(fds); err != nil {
		return err
	}
	r := d.regs
	r.Write32(regCtrlExt, r.Read32(regCtrlExt)|extClearPending|extNoAutoMask)
	r.Write32(regAutoMask, 0)
	var vectors, causes uint32
	for i := range fds {
		vectors |= (vectorValid | uint32(i)) << (i * vectorBits)
		causes |= causeQueue << i
		r.Write32(regThrottle+4*i, 0)
	}
	r.Write32(regVectors, vectors)
	r.Write32(regAutoClear, causes)
	return nil
}

// Enable implements nic.Line. What came before has set the cause.
func (q *queue) Enable() {
	r := q.dev.regs
	r.Write32(regCause, q.cause)
	r.Write32(regSet, q.cause)
	r.Read32(regStatus) // once it answers it has heard
}

// Disable implements nic.Line.
func (q *queue) Disable() {
	q.dev.regs.Write32(regClear, q.cause)
	q.dev.regs.Read32(regStatus)
}

// Lost implements nic.Line.
func (q *queue) Lost() error {
	if q.dev.regs.Read32(regStatus) == statusGone {
		return fmt.Errorf("e1000e: %s: %w", q.dev.PCI.Address(), driver.ErrGone)
	}
	return nil
}

// Stats implements driver.Queue. The device counts what it had no room for, of all
// queues, until that is read.
func (q *queue) Stats() driver.Stats {
	if q == q.dev.queues[0] {
		q.dev.Registers(func() {
			if n := q.dev.regs.Read32(regMissed); n != statusGone {
				q.Count.RxDropped.Add(uint64(n))
			}
		})
	}
	return q.Queue.Stats()
}
