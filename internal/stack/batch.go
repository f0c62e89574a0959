package stack

import (
	"math"
	"sync/atomic"
)

// Packets that leave together share a system call, which costs more than a
// packet does. So a turn that sent may leave its packets on the transmit rings
// (Stack.held) where others are sure to follow:
//
//   - datagrams that a socket sends one after the other (deferKick), outside
//     the profile for latency;
//   - what writers send while goroutines that the same packets woke have not
//     run yet (deferAnswer): the last of them kicks for all.
//
// It begins after some turns without a pause while more were to come, and ends
// with holdMost packets, after floodWait or replyWait, or with the next turn
// that sends something else. Should none
// come: for datagrams the flusher, a goroutine, is made runnable with the first
// that waits, so it runs when the sender blocks, or at once on an idle
// processor. For answers, who woke the goroutines looks when it runs again. In
// any case nextTimer has the packets sent within a tick of the reactor.
const (
	floodGap  = int64(10_000) // from one turn to the next, ns
	floodRun  = 64
	answerGap = int64(50_000) // likewise, of answers: a handler's time
	answerRun = 8
	holdMost  = 64
	floodWait = int64(30_000) // ns
	replyWait = int64(100_000)

	anyPackets = uint64(math.MaxUint64)
)

// flood is what a socket knows of its sending; under UDPConn.wmu, but waits.
type flood struct {
	last int64 // when the last datagram was sent
	run  int   // so many without a pause

	waits atomic.Bool // somebody waits for a datagram since
}

// answerCost is how many datagrams of a flood a wait for one counts against: who
// sends few for each that he waits for does not flood.
const answerCost = 4

// paused notes that the caller of ReadFrom has to wait.
func (u *UDPConn) paused() {
	if u.s.batches && !u.flood.waits.Load() {
		u.flood.waits.Store(true)
	}
}

// deferKick decides whether the frame that was just posted for u waits, and how
// the turn ends: batch tells that it sends those that have waited. The lock is
// held, and end follows.
func (s *Stack) deferKick(u *UDPConn) (batch bool) {
	f := &u.flood
	if s.now-f.last > floodGap {
		f.run = 0
	} else if f.waits.Load() {
		f.waits.Store(false)
		f.run = max(f.run-answerCost, 0)
	}
	f.last = s.now
	if f.run < floodRun {
		f.run++
		return s.held.Load() > 0
	}
	s.mayHold = s.mayWait(floodWait)
	s.holdSent = s.sent
	return !s.mayHold
}

// deferAnswer decides whether what a writer's turn sends waits. The lock is
// held, and end follows.
func (s *Stack) deferAnswer() {
	pending := s.woken.Load() > 0
	if s.expected && s.now-s.lastAnswer > answerGap {
		s.answers = 0 // they do more than to answer
	}
	s.lastAnswer, s.expected = s.now, pending
	if s.answers < answerRun {
		s.answers++
		return
	}
	s.mayHold = pending && s.mayWait(replyWait)
	s.holdSent = anyPackets
}

// mayWait tells whether what waits may wait for more.
func (s *Stack) mayWait(most int64) bool {
	return s.held.Load() == 0 || s.sent-s.kicked < holdMost && s.now-s.heldSince <= most
}

// kickDeferred tells flush to leave the packets where they are.
func (s *Stack) kickDeferred() bool {
	may := s.mayHold
	s.mayHold = false
	if !may || s.holdSent != s.sent && s.holdSent != anyPackets {
		s.kicked = s.sent
		return false
	}
	if s.sent == s.kicked {
		return true
	}
	if s.held.Add(1) > 1 {
		return true
	}
	s.heldSince = s.now
	if s.holdSent == anyPackets {
		return true
	}
	if s.flusher == nil {
		s.flusher = make(chan struct{}, 1)
		go s.flushHeld()
	}
	select {
	case s.flusher <- struct{}{}:
	default:
	}
	return true
}

// flushHeld is the flusher's goroutine.
func (s *Stack) flushHeld() {
	for {
		select {
		case <-s.flusher:
		case <-s.life.closed:
			return
		}
		s.begin()
		s.end()
	}
}

// kickHeld sends what waits, unless others will.
func (s *Stack) kickHeld() {
	if s.held.Load() > 0 && s.woken.Load() == 0 && s.tryBegin() {
		s.end()
	}
}
