package virtio

import (
	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/ring"
)

const (
	// maxFrags is the most Descs of a packet that is not segmented.
	maxFrags = 17
	// tsoFrags is the most Descs of one that is: 64 KiB in frames that carry one
	// segment of Ethernet's MTU each, and a few more.
	tsoFrags = 48

	// maxLink is the most bytes in front of an IP packet: Ethernet and two VLAN tags.
	maxLink = 22
	// tsoSize is the largest IP packet that is segmented. The device's host counts
	// the Ethernet header too, and stays below 64 KiB.
	tsoSize = 65535 - maxLink
)

// TxSpace implements driver.Queue.
func (q *Queue) TxSpace() int {
	if q.broken.Load() != nil {
		return 0
	}
	return len(q.slots)
}

// TxBatch implements driver.Queue.
func (q *Queue) TxBatch(ds []ring.Desc) (n int) {
	if q.broken.Load() != nil {
		return 0
	}
	down := !q.dev.up.Load()
	for n < len(ds) {
		k, size := ring.PacketLen(ds[n:])
		pkt := ds[n : n+k]
		switch {
		case !q.valid(pkt, size):
			q.stats.txInvalid.Add(1)
		case k > len(q.slots):
			q.stats.txFull.Add(1)
			return n
		case down, size > q.dev.caps.MTU+maxLink && pkt[0].Flags&ring.FlagGSO == 0: // lost, as on a wire
		default:
			q.post(pkt)
			q.stats.txPackets.Add(1)
			q.stats.txBytes.Add(uint64(size))
		}
		n += k
	}
	return n
}

// valid reports whether the device can send a packet.
func (q *Queue) valid(pkt []ring.Desc, size int) bool {
	first := &pkt[0]
	most := q.dev.caps.MaxFrags
	if first.Flags&ring.FlagGSO != 0 {
		if !q.segmentable(first, size) {
			return false
		}
		most = q.dev.caps.TSOFrags
	}
	if len(pkt) > most || size < 14 || first.Off < headerLen || pkt[len(pkt)-1].Flags&ring.FlagMore != 0 {
		return false
	}
	if first.Flags&ring.FlagCsumPartial != 0 &&
		(!q.dev.caps.TxCsum || int(first.CsumStart)+int(first.CsumOff)+2 > size) {
		return false
	}
	for i := range pkt {
		d := &pkt[i]
		if d.Len == 0 || int(d.Off)+int(d.Len) > q.arena.FrameSize() || int(d.Frame) >= q.arena.Frames() {
			return false
		}
	}
	return true
}

// segmentable reports whether the device can cut a packet (5.1.6.2.1).
func (q *Queue) segmentable(d *ring.Desc, size int) bool {
	return size <= q.dev.caps.TSO+maxLink && d.Flags&ring.FlagCsumPartial != 0 && d.SegSize != 0 &&
		d.CsumOff == driver.TCPChecksum && int(d.HdrLen) >= int(d.CsumStart)+driver.TCPHeaderLen && d.HdrLen <= d.Len
}

// slot is a frame that was sent, in the list of those of its packet.
type slot struct {
	frame ring.Frame
	next  uint16
}

const noSlot = 0xffff

// post puts a packet on the ring. The header lies in front of it, in the same buffer
// (5.1.6.2, 2.6.4.1).
func (q *Queue) post(pkt []ring.Desc) {
	d := &pkt[0]
	putHeader(q.arena.Bytes(d.Frame)[d.Off-headerLen:d.Off], d)
	at, head := uint16(noSlot), uint16(noSlot)
	for i := range pkt {
		d := &pkt[i]
		q.bufs[i] = buffer{addr: q.dev.addressOf(d.Frame) + uint64(d.Off), n: uint32(d.Len)}
		q.arena.Posted(d.Frame)
		last := len(q.slots) - 1
		next := q.slots[last]
		q.slots = q.slots[:last]
		q.sent[next] = slot{d.Frame, noSlot}
		if i == 0 {
			head = next
		} else {
			q.sent[at].next = next
		}
		at = next
	}
	q.bufs[0].addr -= headerLen
	q.bufs[0].n += headerLen
	q.first[q.tx.add(q.bufs[:len(pkt)])] = head
	q.unkicked = true
}

// Kick implements driver.Queue.
func (q *Queue) Kick() error {
	q.stats.kicks.Add(1)
	if err := q.Err(); err != nil {
		q.stats.kickErrors.Add(1)
		return err
	}
	if !q.unkicked {
		q.stats.txNone.Add(1)
		return nil
	}
	q.unkicked = false
	q.tx.publish()
	q.tx.notify()
	return nil
}

// Reclaim implements driver.Queue.
func (q *Queue) Reclaim() (frames int) {
	if q.broken.Load() != nil {
		return 0
	}
	for {
		id, _, ok, err := q.tx.peek(0)
		if err != nil {
			q.stats.badDesc.Add(1)
			q.fail(err)
			return frames
		}
		if !ok {
			break
		}
		q.tx.take(id)
		frames += q.complete(q.first[id])
	}
	if frames > 0 {
		q.tx.settle()
	}
	return frames
}

// complete takes back the frames of the packet whose first slot is at.
func (q *Queue) complete(at uint16) (frames int) {
	for ; at != noSlot; at = q.sent[at].next {
		if !q.arena.Completed(q.sent[at].frame) {
			q.stats.badDesc.Add(1)
		}
		q.slots = append(q.slots, at)
		frames++
	}
	return frames
}
