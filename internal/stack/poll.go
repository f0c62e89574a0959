package stack

import (
	"math/bits"
	"syscall"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/ring"
)

// poll is one turn: receive from every queue, run due timers. It returns the
// number of Descs received. The lock is held.
func (s *Stack) poll() (n int) {
	s.mustHold()
	starved, idle := false, false
	for i, q := range s.queues {
		k := q.RxBatch(s.rx.batch[:])
		if k > 0 {
			s.input(i, s.rx.batch[:k])
			n += k
		} else {
			idle = true
		}
		if q.Lacks() >= s.rx.refillAt {
			starved = s.refill(q) || starved
		}
	}
	if len(s.blocked) > 0 || len(s.udpWait) > 0 {
		s.unblock()
	}
	s.kick |= s.rekick
	s.rekick = 0
	if s.now >= s.nextTimer.Load() && s.caughtUp() {
		s.wheel.Advance(s.now, s.fire)
	}
	if s.now >= s.gatherUntil {
		s.endGather(false)
	}
	if starved { // after Advance, which may just have fired this timer
		s.setTimer(&s.retry, s.now+rxRetry)
	}
	if idle { // a broken queue gives nothing
		s.checkQueues()
	}
	s.turns.Add(1)
	if n == 0 {
		s.counters.emptyPolls.Add(1)
	}
	return n
}

// rxRetry is when a queue that lacks frames is offered some again. One that
// has none left receives nothing, and so nothing but the clock brings us back.
const rxRetry = int64(1_000_000)

// refillMost is how many frames a queue may lack before it is offered some. A
// batch costs hardly more than one.
const refillMost = 32

// refillAt is refillMost, or less for small rings.
func refillAt(rx, frames, queues int) int {
	return max(min(refillMost, rx/8, frames/queues/16), 1)
}

// refill gives a queue the frames that it lacks, and tells whether it still
// lacks so many that it is to be tried again.
func (s *Stack) refill(q driver.Queue) bool {
	q.Refill()
	if q.Lacks() < s.rx.refillAt {
		return false
	}
	s.cache.Flush() // the last free frames may be there
	q.Refill()
	return q.Lacks() >= s.rx.refillAt && q.Err() == nil // a broken queue takes none
}

// lateTurns is how many turns timers wait for the rings to be read.
const lateTurns = 8

// caughtUp tells whether timers may fire: after a pause of ours, the
// acknowledgement that a retransmission timer waits for may be on a ring.
func (s *Stack) caughtUp() bool {
	if s.late < lateTurns && s.rxPending() {
		s.late++
		return false
	}
	s.late = 0
	return true
}

// finishTurn sends and wakes until nothing is left to do.
func (s *Stack) finishTurn() (woken int) {
	if s.closing.Load() {
		return 0
	}
	for again := true; again; {
		sent := s.sent
		for c := s.nextDirty(); c != nil; c = s.nextDirty() {
			s.noteOutput(c, c.tc.Output(s.now))
		}
		s.flush()
		again = len(s.dead)+len(s.dirty)+len(s.blocked)+len(s.udpWait) > 0 && s.goOn(sent)
	}
	if len(s.wakes) > 0 {
		woken = s.wakeAll()
	}
	return woken
}

// nextDirty returns a connection that the turn touched and that has not sent
// yet; nil: there is none.
func (s *Stack) nextDirty() *TCPConn {
	for s.outputs < len(s.dirty) {
		c := s.dirty[s.outputs]
		s.dirty[s.outputs] = nil
		s.outputs++
		c.dirty = false
		if !c.gone {
			return c
		}
	}
	s.dirty, s.outputs = s.dirty[:0], 0
	return nil
}

// noteOutput does what follows from an Output of c; more is its result.
func (s *Stack) noteOutput(c *TCPConn, more bool) {
	if more && !c.blocked {
		c.blocked = true
		s.blocked = append(s.blocked, c)
	}
	if ok, _, _ := c.tc.Gathering(); ok && !c.gathers {
		s.noteGather(c)
	}
	s.schedule(c)
}

// goOn reports whether connections are to be asked once more what they have to
// send; sent is Stack.sent from before they were.
func (s *Stack) goOn(sent uint64) bool {
	if len(s.dead) > 0 {
		s.bury()
	}
	if len(s.blocked) == 0 && len(s.udpWait) == 0 {
		return len(s.dirty) > 0
	}
	if s.sent == sent {
		// Stopped by a full ring with nothing taken: the device owes us
		// completions. Look again soon.
		s.setTimer(&s.retry, s.now+txRetry)
		return false
	}
	s.unblock()
	return true
}

// wakeAll wakes those noted during the turn, and returns how many waited.
func (s *Stack) wakeAll() (woken int) {
	for i, w := range s.wakes {
		s.wakes[i] = nil
		if s.resume(w, true) {
			woken++
		}
	}
	if woken > 0 {
		s.counters.wakes.Add(uint64(woken))
	}
	s.wakes = s.wakes[:0]
	return woken
}

// touch notes that c wants Output at the end of the turn.
func (s *Stack) touch(c *TCPConn) {
	s.mustHold()
	if !c.dirty {
		c.dirty = true
		s.dirty = append(s.dirty, c)
	}
}

// unblock gives those that a full transmit ring had stopped another try.
func (s *Stack) unblock() {
	for i, c := range s.blocked {
		s.blocked[i] = nil
		c.blocked = false
		s.touch(c)
	}
	s.blocked = s.blocked[:0]
	waiting := s.udpWait
	s.udpWait = s.udpSpare[:0]
	for i, u := range waiting {
		waiting[i] = nil
		u.waiting = false
		s.sendQueued(u)
	}
	s.udpSpare = waiting[:0]
}

// txRetry is when a full transmit ring is looked at again.
const txRetry = int64(200_000)

// flush makes the devices transmit.
func (s *Stack) flush() {
	if s.kickDeferred() {
		return
	}
	for s.kick != 0 {
		i := bits.TrailingZeros64(s.kick)
		s.kick &^= 1 << i
		q := s.queues[i]
		if err := q.Kick(); err != nil {
			s.counters.kickErrors.Add(1)
			s.checkQueues()
			if err == syscall.EAGAIN {
				// The kernel took a part, and is to be asked again soon.
				s.rekick |= 1 << i
				s.setTimer(&s.retry, s.now+txRetry)
			}
		}
		q.Reclaim()
	}
	if s.held.Load() > 0 {
		s.held.Store(0)
		s.lastAnswer = nanotime() // a kick of many takes longer than a pause may
	}
}

// send puts a packet behind the destination's headers on a transmit ring.
// pkt begins at the transport header. false: the ring is full, and pkt is as
// it was.
func (s *Stack) send(d *dst, qi int, pkt []ring.Desc, ecn uint8) bool {
	s.mustHold()
	if !d.ready {
		s.hold(d, qi, pkt, ecn)
		return true
	}
	tx := int(s.txOf[qi])
	hl := s.address(d, tx, pkt, ecn)
	return hl > 0 && s.post(tx, pkt, hl)
}

// address writes the destination's headers in front of pkt, for the transmit
// ring tx, and returns their length in bytes; 0: the ring is full.
func (s *Stack) address(d *dst, tx int, pkt []ring.Desc, ecn uint8) (hl int) {
	if d.stale {
		s.ask(d)
	}
	n := 0
	for i := range pkt {
		n += int(pkt[i].Len)
	}
	if n > bareSegment {
		s.work += int64(n)
	}
	if q := s.queues[tx]; q.TxSpace() < len(pkt) && !s.makeRoom(tx, q, len(pkt)) {
		s.counters.txFull.Add(1)
		return 0
	}
	hl = d.hdr.Len()
	d.hdr.Put(s.front(pkt, hl), n, ecn, atomicID)
	if first := &pkt[0]; first.Flags&ring.FlagCsumPartial != 0 {
		d.hdr.Describe(first)
	}
	return hl
}

// bareSegment is what a segment without data, or nearly, may take: it is no
// work done.
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
	sent := s.queues[tx].TxBatch(pkt) == len(pkt)
	first.Off += n
	first.Len -= n
	if partial {
		first.CsumStart -= n
		first.HdrLen -= n
	}
	if sent {
		s.kick |= 1 << tx
		s.sent++
	}
	return sent
}

// makeRoom transmits and reclaims what is on a full ring.
func (s *Stack) makeRoom(qi int, q driver.Queue, n int) bool {
	if q.Reclaim(); q.TxSpace() >= n {
		return true
	}
	q.Kick()
	s.kick &^= 1 << qi
	q.Reclaim()
	return q.TxSpace() >= n
}

// atomicID is the IPv4 identification of all that is no fragment: it carries
// DF, so it needs none (RFC 6864 section 4.1), and nothing may be learned from
// it (attack 6). That it is constant lets a kernel peer join segments (GRO).
const atomicID = 0

// notify has w woken at the end of the turn.
func (s *Stack) notify(w *waiter) {
	if w.state.Load() != waiterIdle {
		s.wakes = append(s.wakes, w)
	}
}
