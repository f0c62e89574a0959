package stack

import "github.com/onload-go/onload/ring"

// Packets are made for the link that their connection uses. Some leave by another one:
// they waited for a neighbour while the route moved, or the interface came back with a
// device that can do less. The stack then does the device's work.

// helps reports whether the link's device does for an IP packet of n bytes what first,
// its first Desc, asks for.
func (k *link) helps(first *ring.Desc, n int) bool {
	if first.Flags&ring.FlagGSO == 0 {
		return k.sums
	}
	return n <= k.tso
}

// segments cuts a TCP packet, which begins at its transport header and is n bytes, and
// posts the segments on the transmit ring tx. It returns 0 where the ring has no room
// for them, else -1. Segments for which no frames are free are lost, and sent again as
// after any loss.
func (s *Stack) segments(d *dst, tx int, pkt []ring.Desc, n int, ecn uint8) int {
	q := s.queues[tx]
	hl, size := int(pkt[0].HdrLen), int(pkt[0].SegSize)
	room := s.arena.FrameSize() - ring.Headroom
	need := (n/size + 1) * ((hl + size + room - 1) / room)
	need = min(need, q.Caps().TxRing) // a smaller ring takes the first segments only
	if q.TxSpace() < need && !s.makeRoom(tx, q, need) {
		s.counters.txFull.Add(1)
		return 0
	}
	l4 := s.dests.detour.load(s, pkt)
	cutSegments(l4, hl, size, d.sum, func(off, n int) bool {
		src := reader{s: s, head: l4[off:][:n]}
		seg, whole := s.fill(&src, n)
		if whole {
			hl := d.hdr.Len()
			d.hdr.Put(s.front(seg, hl), n, ecn, d.packetID())
			whole = s.post(tx, seg, hl)
		}
		for i := range seg {
			s.cache.Release(seg[i].Frame)
		}
		return whole
	})
	return -1
}
