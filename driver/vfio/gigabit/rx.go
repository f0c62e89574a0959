package gigabit

import (
	"errors"

	"github.com/onload-go/onload/ring"
)

// A receive descriptor that the device has written back: hash, then status with
// errors, then length and VLAN tag (82574 datasheet, "Extended Rx Descriptor";
// 82576, "Advanced Receive Descriptors - Write-Back Format").
const (
	rxStatus = 8
	rxLength = 12

	statusDone     = 1 << 0
	statusEnd      = 1 << 1  // of the packet
	statusIgnore   = 1 << 2  // no checksum was looked at
	statusUDP      = 1 << 4  // checksum was looked at
	statusL4       = 1 << 5  // likewise
	errorL4        = 1 << 29 // wrong checksum
	errorIP        = 1 << 30
	errorReceive   = 1 << 31
	errorsOfPacket = errorReceive | 1<<24 | 1<<25 | 1<<26 // CRC, symbol, sequence
)

var (
	errLength  = errors.New("gigabit: the device says a length that its buffer does not have")
	errEndless = errors.New("gigabit: the device says that a packet has no end")
	errNoFrame = errors.New("gigabit: the device has used a descriptor that it does not have")
)

// maxPieces is the most Descs of a received packet: 9,728 bytes, the largest that a
// controller takes, in frames of 2,048.
const maxPieces = 5

// Whole implements nic.Rings.
func (q *Queue) Whole() (k int, err error) {
	at := int(q.next.Load())
	for k < q.out {
		status := q.rx.Load32(at*descLen + rxStatus)
		if status&statusDone == 0 {
			return 0, nil
		}
		if k++; status&statusEnd != 0 {
			return k, nil
		}
		if k == maxPieces {
			return 0, errEndless
		}
		if at++; at == len(q.lent) {
			at = 0
		}
	}
	if k > 0 && k == q.Dev.Traits.RxRing {
		return 0, errEndless // it has all descriptors, and the packet none more
	}
	return 0, nil
}

// Take implements nic.Rings.
func (q *Queue) Take(ds []ring.Desc) (total int, good bool, err error) {
	at := int(q.next.Load())
	var status uint32
	for i := range ds {
		f := q.lent[at]
		size := q.rx.Get32(at*descLen+rxLength) & 0xffff
		status = q.rx.Load32(at*descLen + rxStatus)
		switch {
		case f == ring.NoFrame:
			return 0, false, errNoFrame
		case size == 0 || int(size) > q.Arena.FrameSize():
			return 0, false, errLength
		}
		q.lent[at] = ring.NoFrame
		q.rx.Put64(at*descLen+rxStatus, 0) // RxPending looks there before Refill
		ds[i] = ring.Desc{Frame: f, Len: uint16(size), Flags: ring.FlagMore}
		total += int(size)
		if at++; at == len(q.lent) {
			at = 0
		}
	}
	q.next.Store(uint32(at))
	q.out -= len(ds)
	ds[len(ds)-1].Flags = 0
	if status&errorsOfPacket != 0 {
		q.Count.RxInvalid.Add(1)
		return total, false, nil
	}
	if q.Dev.Traits.TxCsum && status&statusIgnore == 0 && status&(statusL4|statusUDP) != 0 && status&(errorL4|errorIP) == 0 {
		ds[0].Flags |= ring.FlagCsumGood
	}
	return total, true, nil
}

// Refill implements driver.Queue.
func (q *Queue) Refill() {
	n := q.Lacks()
	if n == 0 {
		return
	}
	fs := q.fill[:n]
	fs = fs[:q.Arena.AllocN(fs)]
	if len(fs) == 0 {
		return
	}
	for _, f := range fs {
		at := q.give
		q.lent[at] = f
		q.rx.Put64(at*descLen, q.Dev.AddressOf(f))
		q.rx.Put64(at*descLen+8, 0)
		if q.give++; q.give == len(q.lent) {
			q.give = 0
		}
	}
	q.out += len(fs)
	q.regs.Write32(q.rxTail, uint32(q.give))
}

// Lacks implements driver.Queue.
func (q *Queue) Lacks() int {
	if q.Broken() {
		return 0
	}
	return q.Dev.Traits.RxRing - q.out
}

// RxPending implements driver.Queue.
func (q *Queue) RxPending() bool {
	if q.Broken() {
		return false
	}
	at := int(q.next.Load())
	for range maxPieces {
		switch status := q.rx.Load32(at*descLen + rxStatus); {
		case status&statusDone == 0:
			return false
		case status&statusEnd != 0:
			return true
		}
		if at++; at == len(q.lent) {
			at = 0
		}
	}
	return true // RxBatch finds the fault
}
