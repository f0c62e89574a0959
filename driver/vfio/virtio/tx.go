package virtio

import (
	"github.com/onload-go/onload/ring"
)

// maxFrags is the most Descs of a packet.
const maxFrags = 17

// maxLink is the most bytes in front of an IP packet: Ethernet and two VLAN tags.
const maxLink = 22

// TxSpace implements driver.Queue.
func (q *Queue) TxSpace() int {
	if q.broken.Load() != nil {
		return 0
	}
	return q.dev.caps.TxRing - q.inFlight
}

// TxBatch implements driver.Queue.
func (q *Queue) TxBatch(ds []ring.Desc) (n int) {
	space := q.TxSpace()
	if q.broken.Load() != nil {
		return 0
	}
	for n < len(ds) {
		k, size := ring.PacketLen(ds[n:])
		pkt := ds[n : n+k]
		switch {
		case !q.valid(pkt, size):
			q.stats.txInvalid.Add(1)
		case k > space:
			q.stats.txFull.Add(1)
			return n
		case size > q.dev.caps.MTU+maxLink: // lost, as on a wire
		default:
			q.post(pkt)
			space -= k
			q.stats.txPackets.Add(1)
			q.stats.txBytes.Add(uint64(size))
		}
		n += k
	}
	return n
}

// valid reports whether the device can send a packet.
func (q *Queue) valid(pkt []ring.Desc, size int) bool {
	const offloads = ring.FlagCsumPartial | ring.FlagGSO
	if len(pkt) > maxFrags || size < 14 || pkt[0].Flags&offloads != 0 || pkt[len(pkt)-1].Flags&ring.FlagMore != 0 {
		return false
	}
	for _, d := range pkt {
		if d.Len == 0 || int(d.Off)+int(d.Len) > q.arena.FrameSize() {
			return false
		}
	}
	return true
}

// post puts a packet on the ring: a header, which says nothing (5.1.6.2), and the
// frames.
func (q *Queue) post(pkt []ring.Desc) {
	t := q.tx
	head := q.take()
	at := head
	addr, n := q.headerIOVA, headerLen
	for i := range pkt {
		next := q.take()
		t.put(at, addr, n, descNext, next)
		q.chain[at] = next
		d := &pkt[i]
		q.arena.Posted(d.Frame)
		q.sent[next] = d.Frame
		addr, n = q.dev.addressOf(d.Frame)+uint64(d.Off), int(d.Len)
		at = next
	}
	t.put(at, addr, n, 0, 0)
	q.chain[at] = noChain
	q.length[head] = uint16(len(pkt))
	t.offer(head)
	q.inFlight += len(pkt)
	q.unkicked = true
}

const noChain = 0xffff

// take takes a free descriptor: there are twice as many as Descs.
func (q *Queue) take() uint16 {
	last := len(q.tx.free) - 1
	id := q.tx.free[last]
	q.tx.free = q.tx.free[:last]
	return id
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
	q.tx.ring()
	return nil
}

// Reclaim implements driver.Queue.
func (q *Queue) Reclaim() (frames int) {
	if q.broken.Load() != nil {
		return 0
	}
	n, err := q.tx.ready()
	if err != nil {
		q.fail(err)
		return 0
	}
	for i := range n {
		id, _ := q.tx.peek(i)
		if id >= uint32(q.tx.size) || q.length[id] == 0 {
			q.stats.badDesc.Add(1)
			q.fail(errBadUsed)
			return frames
		}
		frames += q.complete(uint16(id))
	}
	q.tx.taken(n)
	return frames
}

// complete takes back the chain that begins at head.
func (q *Queue) complete(head uint16) int {
	k := int(q.length[head])
	q.length[head] = 0
	q.tx.free = append(q.tx.free, head)
	for id := q.chain[head]; id != noChain; id = q.chain[id] {
		if !q.arena.Completed(q.sent[id]) {
			q.stats.badDesc.Add(1)
		}
		q.tx.free = append(q.tx.free, id)
	}
	q.inFlight -= k
	return k
}
