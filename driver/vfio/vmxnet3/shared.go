package vmxnet3

import (
	"github.com/onload-go/onload/driver/vfio"
	"github.com/onload-go/onload/driver/vfio/nic"
)

// Offsets in the memory that driver and device share: Vmxnet3_DriverShared, and behind
// it a Vmxnet3_TxQueueDesc and a Vmxnet3_RxQueueDesc, which are aligned to 128 bytes.
const (
	sharedMagic    = 0
	sharedVersion  = 8  // of misc.driverInfo
	sharedSystem   = 12 // gos
	sharedRevision = 16 // vmxnet3RevSpt
	sharedUPT      = 20 // uptVerSpt
	sharedFeatures = 24 // misc
	sharedQueues   = 40 // queueDescPA
	sharedLen      = 52 // queueDescLen
	sharedMTU      = 56
	sharedMaxSG    = 60  // maxNumRxSG
	sharedTxQueues = 62  // numTxQueues
	sharedRxQueues = 63  // numRxQueues
	sharedAutoMask = 80  // of intrConf
	sharedIntrs    = 81  // numIntrs
	sharedEvent    = 82  // eventIntrIdx
	sharedLevels   = 83  // modLevels, of each interrupt
	sharedIntrCtrl = 108 // intrCtrl
	sharedRxMode   = 120 // of rxFilterConf
	sharedVLANs    = 136 // vfTable
	vlanWords      = 128
	sharedEvents   = 696 // ecr

	txQueue    = 1024
	rxQueue    = txQueue + queueLen
	queueLen   = 256
	sharedArea = rxQueue + queueLen

	queueCtrl    = 0  // updateRxProd, a byte, of receive queues
	queueBase    = 16 // txRingBasePA; rxRingBasePA of both rings
	queueBase2   = 24
	queueComp    = 32 // compRingBasePA
	queueSize    = 56 // txRingSize; rxRingSize of both rings
	queueSize2   = 60
	queueCompLen = 64 // compRingSize
	queueIntr    = 72 // intrIdx
	queueStopped = 80 // status.stopped
	queueError   = 84
	rxOutOfBuf   = 152 // UPT1_RxStats.pktsRxOutOfBuf
)

const (
	magic       = 0xbabefee1    // VMXNET3_REV1_MAGIC
	system64    = 2             // VMXNET3_GOS_BITS_64
	systemLinux = 1 << 2        // VMXNET3_GOS_TYPE_LINUX: a packet has a head and bodies
	rxChecksum  = 1 << 0        // UPT1_F_RXCSUM
	disableAll  = 1 << 0        // VMXNET3_IC_DISABLE_ALL
	rxMode      = 1 | 2 | 4 | 8 // VMXNET3_RXM: unicast to us, multicast, broadcast
	allVLANs    = ^uint32(0)    // no filter
	moderation  = 0             // UPT1_IML_NONE: each packet at once
)

// describeAll fills in the shared area for queue q, whose rings there are.
func (d *Device) describeAll(c *nic.Config, q *Queue, iova uint64) {
	s := d.shared
	put := func(off int, v uint32) { s.Write32(off, v) }
	put(sharedMagic, magic)
	put(sharedVersion, 1)
	put(sharedSystem, system64|systemLinux)
	put(sharedRevision, revision1)
	put(sharedUPT, revision1)
	if c.Offloads != nic.OffloadsOff {
		put(sharedFeatures, rxChecksum)
	}
	s.Put64(sharedQueues, iova+txQueue)
	put(sharedLen, 2*queueLen)
	put(sharedMTU, uint32(c.MTU))
	s.Put16(sharedMaxSG, uint16(q.pieces))
	s.Write8(sharedTxQueues, 1)
	s.Write8(sharedRxQueues, 1)
	s.Write8(sharedIntrs, interrupts)
	s.Write8(sharedEvent, intrEvents)
	for i := range interrupts {
		s.Write8(sharedLevels+i, moderation)
	}
	// Each packet makes a message as long as nobody masks: autoMask is 0.
	put(sharedIntrCtrl, disableAll)
	put(sharedRxMode, rxMode)
	for i := range vlanWords {
		put(sharedVLANs+4*i, allVLANs)
	}
	put(txQueue+queueSize, uint32(len(q.sent)))
	put(txQueue+queueCompLen, uint32(len(q.sent)))
	s.Write8(txQueue+queueIntr, intrSent)
	put(rxQueue+queueSize, uint32(len(q.rings[head].lent)))
	put(rxQueue+queueSize2, uint32(len(q.rings[body].lent)))
	put(rxQueue+queueCompLen, uint32(q.compLen))
	s.Write8(rxQueue+queueIntr, intrReceive)
}

// ring makes a ring of n descriptors, whose address goes to off of the shared area.
func (d *Device) ring(q *Queue, n, off int) (vfio.Regs, error) {
	mem, iova, err := d.Container.Alloc(n * descLen)
	if err != nil {
		return nil, err
	}
	unmapWith(q, mem)
	d.shared.Put64(off, iova)
	return mem[:n*descLen], nil
}
