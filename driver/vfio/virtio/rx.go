package virtio

import (
	"errors"

	"github.com/onload-go/onload/driver/steer"
	"github.com/onload-go/onload/ring"
)

const (
	// headerLen is the length of the header in front of each packet (5.1.6) with
	// VERSION_1; the number of buffers is at its end.
	headerLen    = 12
	headerMerged = 10

	// The first byte of a packet lies on a cache line.
	rxOff   = 64
	rxStart = rxOff - headerLen
)

var (
	errBadUsed = errors.New("virtio: the device has used a buffer that it does not have")
	errBadLen  = errors.New("virtio: the device says a length that its buffer does not have")
	errCut     = errors.New("virtio: the device has used a part of a packet")
)

// RxBatch implements driver.Queue.
func (q *Queue) RxBatch(ds []ring.Desc) (n int) {
	if q.broken.Load() != nil {
		return 0
	}
	ready, err := q.rx.ready()
	if err != nil {
		q.fail(err)
		return 0
	}
	for ready > 0 {
		k, total, err := q.packet(ready, ds[n:])
		if err != nil {
			q.stats.badDesc.Add(1)
			q.fail(err)
			break
		}
		if k == 0 {
			break // does not fit: it waits
		}
		q.rx.taken(k)
		ready -= k
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
	q.seen.Store(uint32(q.rx.seen))
	return n
}

// packet describes in ds the next of the ready used elements that make up a packet.
// It returns how many elements and bytes the packet has; none if ds has no room.
func (q *Queue) packet(ready int, ds []ring.Desc) (k, total int, err error) {
	need := 1
	for k < need {
		id, size := q.rx.peek(k)
		if id >= uint32(q.rx.size) || q.lent[id] == ring.NoFrame {
			return 0, 0, errBadUsed
		}
		f, off := q.lent[id], rxStart
		if size > uint32(q.arena.FrameSize()-rxStart) || size == 0 || k == 0 && size <= headerLen {
			return 0, 0, errBadLen
		}
		if k == 0 {
			off = rxOff
			size -= headerLen
			if q.dev.features&featMergeBuffers != 0 {
				h := q.arena.Bytes(f)[rxStart+headerMerged:]
				need = int(h[0]) | int(h[1])<<8
			}
			if need < 1 || need > ready {
				return 0, 0, errCut
			}
			if need > len(ds) {
				return 0, 0, nil
			}
		}
		ds[k] = ring.Desc{Frame: f, Off: uint16(off), Len: uint16(size), Flags: ring.FlagMore}
		total += int(size)
		k++
	}
	ds[k-1].Flags = 0
	for i := range k {
		id, _ := q.rx.peek(i)
		if q.lent[id] == ring.NoFrame {
			return 0, 0, errBadUsed // the same one twice
		}
		q.lent[id] = ring.NoFrame
		q.rx.free = append(q.rx.free, uint16(id))
	}
	return k, total, nil
}

// ours reports whether the stack takes the packet.
func (q *Queue) ours(first ring.Desc, total int) bool {
	if q.dev.takeAll {
		return true
	}
	h := &q.headers
	return h.Parse(q.arena.Data(first), total) && q.dev.Ours(q.arena.Data(first), h)
}

// Refill implements driver.Queue.
func (q *Queue) Refill() {
	n := q.Lacks()
	if n == 0 {
		return
	}
	fs := q.fill[:n]
	fs = fs[:q.arena.AllocN(fs)]
	for _, f := range fs {
		last := len(q.rx.free) - 1
		id := q.rx.free[last]
		q.rx.free = q.rx.free[:last]
		q.lent[id] = f
		q.rx.put(id, q.dev.addressOf(f)+rxStart, q.arena.FrameSize()-rxStart, descWrite, 0)
		q.rx.offer(id)
	}
	if len(fs) > 0 {
		q.rx.publish()
		q.rx.ring()
	}
}

// Lacks implements driver.Queue.
func (q *Queue) Lacks() int {
	if q.broken.Load() != nil {
		return 0
	}
	return len(q.rx.free)
}

// RxPending implements driver.Queue.
func (q *Queue) RxPending() bool {
	return q.broken.Load() == nil && uint32(q.rx.usedIndex()) != q.seen.Load()
}

// headers are parsed in place: no packet costs an allocation.
type headers = steer.Headers
