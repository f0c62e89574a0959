package igb

import (
	"github.com/onload-go/onload/driver/vfio"
	"github.com/onload-go/onload/driver/vfio/gigabit"
	"github.com/onload-go/onload/driver/vfio/nic"
)

// Registers that only this controller has so (chapter 8), and their bits.
const (
	regClear     = 0x00d8 // IMC
	regExtClear  = 0x1528 // EIMC
	regExtSet    = 0x1524 // EIMS
	regAutoClear = 0x152c // EIAC
	regAutoMask  = 0x1530 // EIAM
	regExtCause  = 0x1580 // EICR: writing clears
	regPurpose   = 0x1514 // GPIE
	manyVectors  = 1 << 4 // Multiple_MSIX
	pendingBits  = 1 << 31
	regThrottle  = 0x1680 // EITR, one for each vector
	regVectors   = 0x1700 // IVAR: the lowest byte of register n is receive queue n's
	vectorValid  = 1 << 7
	regMisc      = 0x1740 // IVAR_MISC
	miscOther    = 8      // shift: causes that are of no queue
	regCause     = 0x00c0 // ICR: writing clears
	regSet       = 0x00d0 // IMS
	causeLink    = 1 << 2 // LSC

	regMost = 0x5004 // RLPML: the longest frame

	regSplit   = 0x0c    // SRRCTL in a block: KiB of a buffer
	splitAdv   = 1 << 25 // DESCTYPE: advanced, one buffer
	splitDrop  = 1 << 31 // Drop_En: a ring without room holds up no other
	regDesc    = 0x28    // RXDCTL, TXDCTL
	descWrite1 = 1 << 16 // WTHRESH: write each back at once
	descEnable = 1 << 25
	fcsLen     = 4
)

// Open takes a device that vfio-pci has, resets it and starts it.
func Open(c nic.Config) (*gigabit.Device, error) { return gigabit.Open(&model, c) }

var model = gigabit.Model{
	Name: "igb",
	// A ring has 512 KiB, a frame 9,728 bytes at most.
	Limits:  nic.Limits{Ring: 1 << 13, MTU: 9216 - nic.MaxLink, Queues: 1},
	RxBlock: 0xc000, TxBlock: 0xe000, Stride: 0x40,
	Advanced: true, Negotiate: true,

	Mask: func(r vfio.Regs) {
		r.Write32(regClear, ^uint32(0))
		r.Write32(regExtClear, ^uint32(0))
	},
	Rings:     rings,
	RxControl: func(int) uint32 { return 0 }, // SRRCTL says how large buffers are
	Vectors:   vectors,
	LinkVector: func(r vfio.Regs, vector int) {
		r.Write32(regMisc, (vectorValid|uint32(vector))<<miscOther)
		r.Write32(regAutoClear, r.Read32(regAutoClear)|1<<vector)
		r.Write32(regExtSet, 1<<vector)
		r.Write32(regSet, causeLink)
	},
	LinkHeard: func(r vfio.Regs) { r.Write32(regCause, causeLink) },
	Enable: func(r vfio.Regs, queue int) {
		r.Write32(regExtCause, 1<<queue)
		r.Write32(regExtSet, 1<<queue)
	},
	Disable: func(r vfio.Regs, queue int) { r.Write32(regExtClear, 1<<queue) },
}

// rings asks for advanced descriptors, each written back at once, and turns the
// queues on.
func rings(r vfio.Regs, c *nic.Config, frameSize, rx, tx int) {
	r.Write32(regMost, uint32(c.MTU+nic.MaxLink+fcsLen))
	r.Write32(rx+regSplit, uint32(frameSize>>10)|splitAdv|splitDrop)
	r.Write32(rx+regDesc, descWrite1|descEnable)
	r.Write32(tx+regDesc, descWrite1|descEnable)
}

// vectors sets up the interrupts (section 7.3).
func vectors(r vfio.Regs, n int) {
	r.Write32(regPurpose, manyVectors|pendingBits)
	r.Write32(regAutoMask, 0)
	for i := range n {
		r.Write32(regVectors+4*i, vectorValid|uint32(i))
		r.Write32(regThrottle+4*i, 0)
	}
	r.Write32(regAutoClear, 1<<n-1)
}
