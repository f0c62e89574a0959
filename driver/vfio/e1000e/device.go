package e1000e

import (
	"github.com/onload-go/onload/driver/vfio"
	"github.com/onload-go/onload/driver/vfio/gigabit"
	"github.com/onload-go/onload/driver/vfio/nic"
)

// Open takes a device that vfio-pci has, resets it and starts it.
func Open(c nic.Config) (*gigabit.Device, error) { return gigabit.Open(&model, c) }

var model = gigabit.Model{
	Name: "e1000e",
	// A ring has 64 KiB, a frame 9,234 bytes at most.
	Limits:  nic.Limits{Ring: 1 << 10, MTU: 9216 - nic.MaxLink, Queues: 1},
	RxBlock: 0x2800, TxBlock: 0x3800, Stride: 0x100,

	Mask:      func(r vfio.Regs) { r.Write32(regClear, ^uint32(0)) },
	Rings:     rings,
	RxControl: rxControl,
	Vectors:   vectors,
	LinkVector: func(r vfio.Regs, vector int) {
		r.Write32(regVectors, r.Read32(regVectors)|(vectorValid|uint32(vector))<<vectorOther)
		r.Write32(regSet, causeLink|causeOther)
	},
	LinkHeard: func(r vfio.Regs) { r.Write32(regCause, causeLink|causeOther) },
	Enable: func(r vfio.Regs, queue int) {
		r.Write32(regCause, causeQueue<<queue)
		r.Write32(regSet, causeQueue<<queue)
	},
	Disable: func(r vfio.Regs, queue int) { r.Write32(regClear, causeQueue<<queue) },
}

// rings asks for extended descriptors, each written back at once.
func rings(r vfio.Regs, _ *nic.Config, _, rx, tx int) {
	r.Write32(regFilter, filterExt)
	r.Write32(rx+regRxDesc, descGranular|descWrite1)
	r.Write32(tx+regRxDesc, descGranular|descWrite1|txDescBit22)
}

func rxControl(frameSize int) uint32 {
	if frameSize == 4096 {
		return rx4096
	}
	return 0
}

// vectors sets up the interrupts (section 7.4).
func vectors(r vfio.Regs, n int) {
	r.Write32(regCtrlExt, r.Read32(regCtrlExt)|extClearPending|extNoAutoMask)
	r.Write32(regAutoMask, 0)
	var all, causes uint32
	for i := range n {
		all |= (vectorValid | uint32(i)) << (i * vectorBits)
		causes |= causeQueue << i
		r.Write32(regThrottle+4*i, 0)
	}
	r.Write32(regVectors, all)
	r.Write32(regAutoClear, causes)
}
