package nic

import "github.com/onload-go/onload/ring"

// Rings are the receive and the transmit ring of a driver's queue.
type Rings interface {
	// RxPending implements driver.Queue.
	RxPending() bool
	// Whole returns how many descriptors the next packet has, 0 if it is not there as a
	// whole. An error is a statement of the device that cannot be.
	Whole() (k int, err error)
	// Take takes the next packet, of len(ds) descriptors, from the ring. If it is not good,
	// the device has found a fault in it; its frames are in ds all the same. After an error
	// they are not.
	Take(ds []ring.Desc) (total int, good bool, err error)
	// Post puts a packet of size bytes on the ring, for which there is room.
	Post(pkt []ring.Desc, size int)
}

// RxBatch implements driver.Queue.
func (q *Queue) RxBatch(ds []ring.Desc) (n int) {
	if q.Broken() {
		return 0
	}
	for {
		k, err := q.rings.Whole()
		if err != nil {
			q.Bad(err)
			break
		}
		if k == 0 || k > len(ds)-n {
			break // a packet that does not fit waits
		}
		total, good, err := q.rings.Take(ds[n : n+k])
		if err != nil {
			q.Bad(err)
			break
		}
		if !good || !q.Ours(ds[n], total) {
			for _, d := range ds[n : n+k] {
				q.Arena.Free(d.Frame)
			}
			continue
		}
		q.Count.RxPackets.Add(1)
		q.Count.RxBytes.Add(uint64(total))
		n += k
	}
	return n
}

// TxSpace implements driver.Queue.
func (q *Queue) TxSpace() int {
	if q.Broken() {
		return 0
	}
	return q.Dev.Traits.TxRing - q.Flight
}

// TxBatch implements driver.Queue.
func (q *Queue) TxBatch(ds []ring.Desc) (n int) {
	if q.Broken() {
		return 0
	}
	space := q.TxSpace()
	for n < len(ds) {
		k, size := ring.PacketLen(ds[n:])
		pkt := ds[n : n+k]
		switch {
		case !q.Sendable(pkt, size) || q.MaxSegment > 0 && pkt[0].SegSize > q.MaxSegment:
			q.Count.TxInvalid.Add(1)
		case k > space:
			q.Count.TxFull.Add(1)
			return n
		case q.TooLarge(&pkt[0], size): // lost, as on a wire
		default:
			q.rings.Post(pkt, size)
			space -= k
			q.Count.TxPackets.Add(1)
			q.Count.TxBytes.Add(uint64(size))
		}
		n += k
	}
	return n
}
