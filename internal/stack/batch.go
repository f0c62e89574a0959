package stack

// Datagrams that leave together share a system call, which costs more than a
// frame does. A socket that sends one after the other, and nothing else, has
// its frames wait on the transmit ring for those behind them: in the profiles
// that are not for latency, after floodRun datagrams without a pause, and
// until holdMost wait or the first has waited for holdWait. Whoever ends a turn
// with something else to send takes them along. Where the sender stops
// meanwhile the flusher sends them: it is made runnable with the first that
// waits, so it runs when the sender blocks, or at once on an idle processor.
const (
	floodGap = int64(10_000) // from one datagram to the next, ns
	floodRun = 64
	holdMost = 64
	holdWait = int64(30_000) // ns
)

// flood is what a socket knows of its sending; under UDPConn.wmu.
type flood struct {
	last int64 // when the last datagram was sent
	run  int   // so many without a pause
}

// deferKick decides whether the frame that was just posted for u waits, and how
// the turn ends: batch tells that it sends those that have waited. The lock is
// held, and leave follows.
func (s *Stack) deferKick(u *UDPConn) (batch bool) {
	f := &u.flood
	if s.now-f.last > floodGap {
		f.run = 0
	}
	f.last = s.now
	if f.run < floodRun {
		f.run++
		return s.held > 0
	}
	if s.held >= holdMost || s.held > 0 && s.now-s.heldSince > holdWait {
		return true
	}
	if s.held == 0 {
		s.heldSince = s.now
	}
	s.mayHold, s.holdSent = true, s.sent
	return false
}

// kickDeferred tells flush to leave the frames where they are: nothing but the
// datagram of deferKick was sent.
func (s *Stack) kickDeferred() bool {
	may := s.mayHold
	s.mayHold = false
	if !may || s.sent != s.holdSent {
		s.held = 0
		return false
	}
	if s.held++; s.held == 1 {
		if s.flusher == nil {
			s.flusher = make(chan struct{}, 1)
			go s.flushHeld()
		}
		select {
		case s.flusher <- struct{}{}:
		default:
		}
	}
	return true
}

// flushHeld is the flusher's goroutine.
func (s *Stack) flushHeld() {
	for {
		select {
		case <-s.flusher:
		case <-s.closed:
			return
		}
		s.lock.Lock()
		s.enter()
		s.leave()
	}
}
