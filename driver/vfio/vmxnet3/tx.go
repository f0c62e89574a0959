package vmxnet3

import (
	"encoding/binary"
	"errors"

	"github.com/onload-go/onload/ring"
)

// Vmxnet3_TxDesc: address, then two words.
const (
	txFirst   = 8 // of len, gen, msscof
	txGen     = 14
	txMSS     = 18 // the segment size, or where the checksum goes
	maxMSS    = 1<<14 - 1
	txSecond  = 12      // of hlen, om, eop, cq
	modeSum   = 2 << 10 // VMXNET3_OM_CSUM
	modeTSO   = 3 << 10 // VMXNET3_OM_TSO
	txEnd     = 1 << 12 // eop
	txReport  = 1 << 13 // cq
	doneFlags = 12      // of Vmxnet3_TxCompDesc
)

var errSent = errors.New("vmxnet3: the device says that it has sent what it did not get")

// Post implements nic.Rings. The packet's first descriptor becomes the device's last.
func (q *Queue) Post(pkt []ring.Desc, _ int) {
	first, start, gen := &pkt[0], q.free, q.txGen
	low, high := q.offloads(first)
	for i := range pkt {
		d := &pkt[i]
		own := q.txGen
		if i == 0 {
			own ^= 1
		}
		last := uint32(0)
		if q.end[q.free] = i == len(pkt)-1; q.end[q.free] {
			last = txEnd | txReport
		}
		q.sent[q.free] = d.Frame
		q.Arena.Posted(d.Frame)
		at := q.free * descLen
		q.tx.Put64(at, q.Dev.AddressOf(d.Frame)+uint64(d.Off))
		q.tx.Write32(at+txSecond, high|last)
		q.tx.Write32(at+txFirst, uint32(d.Len)|own<<txGen|low)
		if q.free++; q.free == len(q.sent) {
			q.free, q.txGen = 0, q.txGen^1
		}
	}
	q.Flight += len(pkt)
	q.tx.Write32(start*descLen+txFirst, uint32(first.Len)|gen<<txGen|low)
}

// offloads is what the descriptors of a packet say of what the device does.
func (q *Queue) offloads(d *ring.Desc) (low, high uint32) {
	switch {
	case d.Flags&ring.FlagGSO != 0:
		q.segmentable(d)
		return uint32(d.SegSize) << txMSS, uint32(d.HdrLen) | modeTSO
	case d.Flags&ring.FlagCsumPartial != 0:
		return uint32(d.CsumStart+d.CsumOff) << txMSS, uint32(d.CsumStart) | modeSum
	}
	return 0, 0
}

// segmentable prepares the headers as Linux's driver does: otherwise than for Intel's
// controllers the header of IPv4 keeps its length.
func (q *Queue) segmentable(d *ring.Desc) {
	length := q.Arena.Data(*d)[d.NetOff+2:]
	n := binary.BigEndian.Uint16(length)
	q.Segmentable(d)
	if d.Flags&ring.FlagV6 == 0 {
		binary.BigEndian.PutUint16(length, n)
	}
}

// Kick implements driver.Queue.
func (q *Queue) Kick() error {
	q.Count.Kicks.Add(1)
	if err := q.Err(); err != nil {
		q.Count.KickErrors.Add(1)
		return err
	}
	if q.kicked == q.free {
		q.Count.TxNone.Add(1)
		return nil
	}
	q.kicked = q.free
	q.fast.Write32(regTxProd, uint32(q.free))
	return nil
}

// Reclaim implements driver.Queue.
func (q *Queue) Reclaim() (frames int) {
	if q.Broken() {
		return 0
	}
	for q.Flight > 0 && q.done.Load32(q.doneAt*descLen+doneFlags)>>compGen == q.doneGen {
		last := int(q.done.Get32(q.doneAt*descLen) & compIndex)
		n, ok := q.sentUntil(last)
		if !ok {
			q.Bad(errSent)
			return frames
		}
		for range n {
			if f := q.sent[q.oldest]; !q.Arena.Completed(f) {
				q.Count.BadDesc.Add(1)
			}
			q.sent[q.oldest] = ring.NoFrame
			if q.oldest++; q.oldest == len(q.sent) {
				q.oldest = 0
			}
		}
		q.Flight -= n
		frames += n
		if q.doneAt++; q.doneAt == len(q.sent) {
			q.doneAt, q.doneGen = 0, q.doneGen^1
		}
	}
	return frames
}

// sentUntil returns how many descriptors the device has sent if the last one of a packet
// is the one at last.
func (q *Queue) sentUntil(last int) (n int, ok bool) {
	if last >= len(q.sent) {
		return 0, false
	}
	if n = last - q.oldest; n < 0 {
		n += len(q.sent)
	}
	return n + 1, n < q.Flight && q.end[last]
}
