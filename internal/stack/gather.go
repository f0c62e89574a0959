package stack

// While somebody polls, an acknowledgement in the middle of a stream waits for
// the segments behind it (tcp.Host.Gather): until none came for gatherIdle,
// but not longer than gatherMost, in ns. Who stops polling without arming the
// queues leaves it to the reactor's tick.
const (
	gatherIdle = int64(20_000)
	gatherMost = int64(100_000)
)

// gatherConns bounds the connections that gather at the same time. Those
// beyond acknowledge every second segment.
const gatherConns = 64

// noteGather keeps an eye on c, whose acknowledgement waits.
func (s *Stack) noteGather(c *TCPConn) {
	if len(s.gathering) == cap(s.gathering) {
		c.tc.EndGather(false)
		s.touch(c)
		return
	}
	s.gathering = append(s.gathering, c)
	c.gathers = true
	s.gatherUntil = min(s.gatherUntil, s.now+gatherIdle)
}

// endGather has those acknowledgements sent that have waited long enough, or
// all. The lock is held, and end follows.
func (s *Stack) endGather(all bool) {
	waiting := s.gathering[:0]
	s.gatherUntil = never
	for _, c := range s.gathering {
		ok, since, last := c.tc.Gathering()
		until := min(last+gatherIdle, since+gatherMost)
		switch {
		case !ok || c.gone:
			c.gathers = false
		case !all && s.now < until:
			waiting = append(waiting, c)
			s.gatherUntil = min(s.gatherUntil, until)
		default:
			c.gathers = false
			c.tc.EndGather(!all && s.now >= last+gatherIdle)
			s.touch(c)
		}
	}
	clear(s.gathering[len(waiting):])
	s.gathering = waiting
}
