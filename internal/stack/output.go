package stack

import (
	"math/bits"
	"syscall"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/ring"
)

// flush makes the devices transmit, unless that is deferred as d says.
func (s *Stack) flush(d deferral) {
	if s.kickLater(d) {
		return
	}
	for s.kicker.due != 0 {
		i := bits.TrailingZeros64(s.kicker.due)
		s.kicker.due &^= 1 << i
		q := s.queues[i]
		if err := q.Kick(); err != nil {
			s.counters.kickErrors.Add(1)
			s.checkQueues()
			if err == syscall.EAGAIN {
				// The kernel took a part, and is to be asked again soon.
				s.kicker.again |= 1 << i
				s.setTimer(&s.turn.retry, s.now+txRetry)
			}
		}
		q.Reclaim()
	}
	if s.kicker.deferred.Load() > 0 {
		s.kicker.deferred.Store(0)
		s.kicker.lastAnswer = nanotime() // a kick of many takes longer than a pause may
	}
}

// send puts a packet behind the destination's headers on a transmit ring.
// pkt begins at the transport header. false: the ring is full, and pkt is as
// it was.
func (s *Stack) send(d *dst, qi int, pkt []ring.Desc, ecn uint8) bool {
	s.mustHold()
	if !d.ready {
		return s.sendLater(d, qi, pkt, ecn)
	}
	tx := int(d.on.tx[qi])
	hl := s.address(d, tx, pkt, ecn)
	return hl < 0 || hl > 0 && s.post(tx, pkt, hl)
}

// address writes the destination's headers in front of pkt, for the transmit
// ring tx, and returns their length in bytes. 0: the ring is full. Below 0: the packet
// is sent, since the device could not have cut it.
func (s *Stack) address(d *dst, tx int, pkt []ring.Desc, ecn uint8) (hl int) {
	if d.stale {
		s.dests.ask(d, s.now)
	}
	n := 0
	for i := range pkt {
		n += int(pkt[i].Len)
	}
	if n > bareSegment {
		s.waits.work += int64(n)
	}
	if q := s.queues[tx]; q.TxSpace() < len(pkt) && !s.makeRoom(tx, q, len(pkt)) {
		s.counters.txFull.Add(1)
		return 0
	}
	partial := pkt[0].Flags & ring.FlagCsumPartial
	if partial != 0 && !d.on.helps(&pkt[0], n+d.hdr.NetLen()) {
		if pkt[0].Flags&ring.FlagGSO != 0 {
			return s.segments(d, tx, pkt, n, ecn)
		}
		s.complete(pkt)
		partial = 0
	}
	hl = d.hdr.Len()
	d.hdr.Put(s.front(pkt, hl), n, ecn, d.packetID())
	if partial != 0 {
		d.hdr.Describe(&pkt[0])
	}
	return hl
}

// bareSegment bounds a segment without data, or nearly: it counts as no work done.
const bareSegment = 64

// front is the n bytes in front of pkt, for lower headers.
func (s *Stack) front(pkt []ring.Desc, n int) []byte {
	off := int(pkt[0].Off)
	return s.arena.Bytes(pkt[0].Frame)[off-n : off]
}

// post puts pkt, and the hl bytes of headers in front of it, on the transmit
// ring tx. false: it is full. pkt stays as it was.
func (s *Stack) post(tx int, pkt []ring.Desc, hl int) bool {
	first, n := &pkt[0], uint16(hl)
	first.Off -= n
	first.Len += n
	partial := first.Flags&ring.FlagCsumPartial != 0
	if partial {
		first.CsumStart += n
		first.HdrLen += n
	}
	sent := s.wire[tx].TxBatch(pkt) == len(pkt)
	first.Off += n
	first.Len -= n
	if partial {
		first.CsumStart -= n
		first.HdrLen -= n
	}
	if sent {
		s.kicker.due |= 1 << tx
		s.kicker.sent++
	}
	return sent
}

// makeRoom transmits and reclaims the packets on a full ring.
func (s *Stack) makeRoom(qi int, q driver.Queue, n int) bool {
	if q.Reclaim(); q.TxSpace() >= n {
		return true
	}
	q.Kick()
	s.kicker.due &^= 1 << qi
	q.Reclaim()
	return q.TxSpace() >= n
}

// atomicID is the IPv4 identification of all that carries DF: it needs none (RFC
// 6864 section 4.1), and nothing may be learned from it (attack 6). That it is
// constant lets a kernel peer join segments (GRO).
const atomicID = 0
