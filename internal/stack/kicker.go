package stack

import (
	"math"
	"sync/atomic"

	"github.com/onload-go/onload/internal/outside"
)

// kicker has the queues transmit what is on their rings: at once, or together with
// later packets. It belongs to the holder of the stack lock, except deferred, which
// is read without it.
//
// Packets that leave together share a system call, which costs more than a
// packet does. So a turn that sent may defer its kick where others are sure to
// follow:
//
//   - datagrams that a socket sends one after the other (deferKick), outside
//     the profile for latency;
//   - what writers send while goroutines that the same packets woke have not
//     run yet (deferAnswer): the last of them kicks for all.
//
// Deferring begins after some turns without a pause while more were to come. It
// ends with deferMost packets, after floodWait or replyWait, or with the next
// turn that sends something else. Where no such turn comes:
//
//   - datagrams are sent by the flusher, a goroutine that is made runnable with
//     the first that waits: it runs when the sender blocks, or at once on an
//     idle processor;
//   - answers are sent by the goroutine that woke the others, when it runs again;
//   - nextTimer has all of them sent within a tick of the reactor.
type kicker struct {
	due    uint64 // queues with something to transmit, a bit each
	again  uint64 // queues whose kick is to be repeated
	sent   uint64 // packets put on transmit rings
	kicked uint64 // sent, at the last kick

	deferred atomic.Int32 // turns whose packets wait on a ring for a kick
	since    int64        // when the first of them began to, ns

	batches    bool          // the kicks of datagrams may be deferred
	expected   bool          // more answers were to come after the last
	answers    int           // quick turns of writers, one behind the other
	lastAnswer int64         // when the last of them was, ns
	flusher    chan struct{} // wakes the flusher
}

// deferral says whether the kick at the end of a section may be deferred: never
// (kickNow), always (deferAny), or only if nothing else was sent, which is while
// kicker.sent has this value.
type deferral uint64

const (
	kickNow  deferral = 0
	deferAny deferral = math.MaxUint64
)

const (
	floodGap  = int64(10_000) // from one turn to the next, ns
	floodRun  = 64
	answerGap = int64(50_000) // likewise, of answers: a handler's time
	answerRun = 8
	deferMost = 64
	floodWait = int64(30_000) // ns
	replyWait = int64(100_000)
)

// flood is what a socket knows of its sending. It is under UDPConn.wmu, except
// waits.
type flood struct {
	last int64 // when the last datagram was sent
	run  int   // so many without a pause

	waits atomic.Bool // somebody waits for a datagram since
}

// answerCost is how many datagrams are taken off the sender's run each time that it
// waits for one. So request and reply never count as a flood.
const answerCost = 4

// paused notes that the caller of ReadFrom has to wait.
func (u *UDPConn) paused() {
	if u.s.kicker.batches && !u.flood.waits.Load() {
		u.flood.waits.Store(true)
	}
}

// deferKick decides whether the kick for the frame that was just posted for u is
// deferred. batch reports that the section ends by kicking for the datagrams that
// have waited. The lock is held, and endDeferring follows.
func (s *Stack) deferKick(u *UDPConn) (d deferral, batch bool) {
	k, f := &s.kicker, &u.flood
	if s.now-f.last > floodGap {
		f.run = 0
	} else if f.waits.Load() {
		f.waits.Store(false)
		f.run = max(f.run-answerCost, 0)
	}
	f.last = s.now
	if f.run < floodRun {
		f.run++
		return kickNow, k.deferred.Load() > 0
	}
	if !k.mayWait(s.now, floodWait) {
		return kickNow, true
	}
	return deferral(k.sent), false
}

// deferAnswer decides whether the kick for what a writer's section sends is
// deferred. The lock is held, and endDeferring follows.
func (s *Stack) deferAnswer() deferral {
	k := &s.kicker
	pending := s.waits.woken.Load() > 0
	if k.expected && s.now-k.lastAnswer > answerGap {
		k.answers = 0 // they do more than answer
	}
	k.lastAnswer, k.expected = s.now, pending
	if k.answers < answerRun {
		k.answers++
		return kickNow
	}
	if pending && k.mayWait(s.now, replyWait) {
		return deferAny
	}
	return kickNow
}

// mayWait reports whether the packets on the rings, which may wait at most for most
// ns, may wait any longer.
func (k *kicker) mayWait(now, most int64) bool {
	return k.deferred.Load() == 0 || k.sent-k.kicked < deferMost && now-k.since <= most
}

// kickLater reports whether flush leaves the packets on the rings, as d says.
func (s *Stack) kickLater(d deferral) bool {
	k := &s.kicker
	if d == kickNow || d != deferAny && uint64(d) != k.sent {
		k.kicked = k.sent
		return false
	}
	if k.sent == k.kicked {
		return true
	}
	if k.deferred.Add(1) > 1 {
		return true
	}
	k.since = s.now
	if d == deferAny {
		return true
	}
	if k.flusher == nil {
		outside.Do(func() { // of a bubble: it lives as long as s
			k.flusher = make(chan struct{}, 1)
			go s.runFlusher()
		})
	}
	select {
	case k.flusher <- struct{}{}:
	default:
	}
	return true
}

// runFlusher is the flusher's goroutine.
func (s *Stack) runFlusher() {
	for {
		select {
		case <-s.kicker.flusher:
		case <-s.life.closed:
			return
		}
		s.begin()
		s.end()
	}
}

// kickDeferred sends the waiting packets, unless others will.
func (s *Stack) kickDeferred() {
	if s.kicker.deferred.Load() > 0 && s.waits.woken.Load() == 0 && s.tryBegin() {
		s.end()
	}
}
