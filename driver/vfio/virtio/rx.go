package virtio

import (
	"github.com/onload-go/onload/driver/steer"
	"github.com/onload-go/onload/ring"
)

const (
	// The first byte of a packet lies on a cache line.
	rxOff   = 64
	rxStart = rxOff - headerLen

	// largest is the most bytes of a packet: an IP packet, and what is in front.
	largest = 65535 + maxLink
	// rxFrags is the most buffers of a packet. The largest one fills 33 frames.
	rxFrags = 64
)

// RxBatch implements driver.Queue.
func (q *Queue) RxBatch(ds []ring.Desc) (n int) {
	if q.broken.Load() != nil {
		return 0
	}
	for {
		k, total, err := q.packet(ds[n:])
		if err != nil {
			q.stats.badDesc.Add(1)
			q.fail(err)
			break
		}
		if k == 0 {
			break // nothing is there, or it does not fit: it waits
		}
		if !q.ours(ds[n], total) {
			for _, d := range ds[n : n+k] {
				q.arena.Free(d.Frame)
			}
			continue
		}
		q.stats.rxPackets.Add(1)
		q.stats.rxBytes.Add(uint64(total))
		n += k
	}
	q.rx.settle()
	return n
}

// packet takes the next packet from the ring into ds. It returns how many buffers
// and bytes the packet has (5.1.6.4); none if it is not there, or ds has no room.
func (q *Queue) packet(ds []ring.Desc) (k, total int, err error) {
	id, size, ok, err := q.rx.peek(0)
	if !ok {
		return 0, 0, err
	}
	room := uint32(q.arena.FrameSize() - rxStart)
	if size <= headerLen || size > room {
		return 0, 0, errBadLen
	}
	first := ring.Desc{Frame: q.lent[id], Off: rxOff, Len: uint16(size - headerLen)}
	header := q.arena.Bytes(first.Frame)[rxStart:rxOff]
	if !readHeader(header, q.dev.features, &first) {
		return 0, 0, errNotAgree
	}
	need := 1
	if q.dev.features&featMergeBuffers != 0 {
		need = int(le.Uint16(header[headerMerged:]))
	}
	switch {
	case need < 1 || need > rxFrags:
		return 0, 0, errCut
	case need > len(ds):
		return 0, 0, nil
	}
	ds[0], total = first, int(first.Len)
	for k = 1; k < need; k++ {
		id, size, ok, err := q.rx.peek(k)
		switch {
		case err != nil:
			return 0, 0, err
		case !ok:
			return 0, 0, errCut // the device uses all buffers of a packet at once (5.1.6.4.1)
		case size == 0 || size > room:
			return 0, 0, errBadLen
		}
		ds[k-1].Flags |= ring.FlagMore
		ds[k] = ring.Desc{Frame: q.lent[id], Off: rxStart, Len: uint16(size)}
		total += int(size)
	}
	if total > largest {
		return 0, 0, errBadLen
	}
	for i := range need {
		id, _, _, err := q.rx.peek(0)
		if err != nil {
			return 0, 0, err // the same one twice
		}
		ds[i].Frame = q.lent[id] // the device may name another than it did above
		q.lent[id] = ring.NoFrame
		q.rx.take(id)
		q.lacks++
	}
	return need, total, nil
}

// ours reports whether the stack takes the packet.
func (q *Queue) ours(first ring.Desc, total int) bool {
	if q.dev.takeAll {
		return true
	}
	h := &q.headers
	return h.Parse(q.arena.Data(first), total) && q.dev.Ours(q.arena.Data(first), h)
}

// Refill implements driver.Queue (5.1.6.3).
func (q *Queue) Refill() {
	n := q.Lacks()
	if n == 0 {
		return
	}
	fs := q.fill[:n]
	fs = fs[:q.arena.AllocN(fs)]
	for _, f := range fs {
		q.bufs[0] = buffer{addr: q.dev.addressOf(f) + rxStart, n: uint32(q.arena.FrameSize() - rxStart), write: true}
		q.lent[q.rx.add(q.bufs[:1])] = f
	}
	q.lacks -= len(fs)
	if len(fs) > 0 {
		q.rx.publish()
		q.rx.notify()
	}
}

// Lacks implements driver.Queue.
func (q *Queue) Lacks() int {
	if q.broken.Load() != nil {
		return 0
	}
	return q.lacks
}

// RxPending implements driver.Queue.
func (q *Queue) RxPending() bool { return q.broken.Load() == nil && q.rx.pending() }

// headers are parsed in place: no packet costs an allocation.
type headers = steer.Headers
