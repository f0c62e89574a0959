package stack

import "github.com/onload-go/onload/ring"

// turn has what the section in progress has noted for its end, and what could not
// be done then. It belongs to the holder of the stack lock.
type turn struct {
	dirty   []*TCPConn // to be given Output
	outputs int        // how many of them there were
	wakes   []*waiter
	dead    []*TCPConn // ended during the turn
	blocked []*TCPConn // stopped by a full transmit ring
	udpWait []*UDPConn // sockets with datagrams that wait for the transmit ring

	gathering   []*TCPConn // have acknowledgements that wait for more segments
	gatherUntil int64      // when they are looked at, ns

	udpSpare []*UDPConn // memory for udpWait
	retry    ring.Timer // has the rings looked at again, and does nothing else
	late     int        // turns that due timers have waited
}

func (t *turn) init() {
	t.gathering = make([]*TCPConn, 0, gatherConns)
	t.gatherUntil = never
}

// txRetry is when a full transmit ring is looked at again.
const txRetry = int64(200_000)

// finishTurn sends and wakes until nothing is left to do. The first kick is
// deferred as d says.
func (s *Stack) finishTurn(d deferral) (woken int) {
	if s.life.closing.Load() {
		return 0
	}
	for again := true; again; {
		sent := s.kicker.sent
		for c := s.nextDirty(); c != nil; c = s.nextDirty() {
			s.noteOutput(c, c.tc.Output(s.now))
		}
		s.flush(d)
		d = kickNow
		again = len(s.turn.dead)+len(s.turn.dirty)+len(s.turn.blocked)+len(s.turn.udpWait) > 0 && s.goOn(sent)
	}
	if len(s.turn.wakes) > 0 {
		woken = s.wakeAll()
	}
	return woken
}

// nextDirty returns a connection that the turn touched and that has not sent
// yet; nil: there is none.
func (s *Stack) nextDirty() *TCPConn {
	for s.turn.outputs < len(s.turn.dirty) {
		c := s.turn.dirty[s.turn.outputs]
		s.turn.dirty[s.turn.outputs] = nil
		s.turn.outputs++
		c.dirty = false
		if !c.gone {
			return c
		}
	}
	s.turn.dirty, s.turn.outputs = s.turn.dirty[:0], 0
	return nil
}

// noteOutput records the effects of an Output of c; more is its result.
func (s *Stack) noteOutput(c *TCPConn, more bool) {
	if more && !c.blocked {
		c.blocked = true
		s.turn.blocked = append(s.turn.blocked, c)
	}
	if ok, _, _ := c.tc.Gathering(); ok && !c.gathers {
		s.noteGather(c)
	}
	s.schedule(c)
}

// goOn reports whether connections should be asked once more for packets. sent is
// Stack.sent before they were asked.
func (s *Stack) goOn(sent uint64) bool {
	if len(s.turn.dead) > 0 {
		s.bury()
	}
	if len(s.turn.blocked) == 0 && len(s.turn.udpWait) == 0 {
		return len(s.turn.dirty) > 0
	}
	if s.kicker.sent == sent {
		// A full ring stopped the connections, and nothing was taken: the device
		// owes us completions. Look again soon.
		s.setTimer(&s.turn.retry, s.now+txRetry)
		return false
	}
	s.unblock()
	return true
}

// wakeAll wakes the goroutines noted during the turn, and returns how many waited.
func (s *Stack) wakeAll() (woken int) {
	for i, w := range s.turn.wakes {
		s.turn.wakes[i] = nil
		w.noted = false
		if s.resume(w, true) {
			woken++
		}
	}
	if woken > 0 {
		s.counters.wakes.Add(uint64(woken))
	}
	s.turn.wakes = s.turn.wakes[:0]
	return woken
}

// touch notes that c wants Output at the end of the turn.
func (s *Stack) touch(c *TCPConn) {
	s.mustHold()
	if !c.dirty {
		c.dirty = true
		s.turn.dirty = append(s.turn.dirty, c)
	}
}

// unblock lets the sockets that a full transmit ring had stopped try again.
func (s *Stack) unblock() {
	for i, c := range s.turn.blocked {
		s.turn.blocked[i] = nil
		c.blocked = false
		s.touch(c)
	}
	s.turn.blocked = s.turn.blocked[:0]
	waiting := s.turn.udpWait
	s.turn.udpWait = s.turn.udpSpare[:0]
	for i, u := range waiting {
		waiting[i] = nil
		u.waiting = false
		s.sendQueued(u)
	}
	s.turn.udpSpare = waiting[:0]
}

// notify has w woken at the end of the turn.
func (s *Stack) notify(w *waiter) {
	if w.state.Load() != waiterIdle && !w.noted {
		w.noted = true
		s.turn.wakes = append(s.turn.wakes, w)
	}
}
