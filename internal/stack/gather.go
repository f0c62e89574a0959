package stack

// While somebody polls, an acknowledgement in the middle of a stream waits for the
// segments behind it (tcp.Host.Gather): until none came for gatherIdle, but not
// longer than gatherMost, in ns. If polling stops without arming the queues, the
// reactor's tick sends it.
const (
	gatherIdle = int64(20_000)
	gatherMost = int64(100_000)
)

// gatherConns bounds the connections that gather at the same time. Those
// beyond acknowledge every second segment.
const gatherConns = 64

// noteGather keeps an eye on c, whose acknowledgement waits.
func (s *Stack) noteGather(c *TCPConn) {
	if len(s.turn.gathering) == cap(s.turn.gathering) {
		c.tc.EndGather(false)
		s.touch(c)
		return
	}
	s.turn.gathering = append(s.turn.gathering, c)
	c.gathers = true
	s.turn.gatherUntil = min(s.turn.gatherUntil, s.now+gatherIdle)
}

// endGather has those acknowledgements sent that have waited long enough, or all of
// them. The lock is held, and end follows.
func (s *Stack) endGather(all bool) {
	waiting := s.turn.gathering[:0]
	s.turn.gatherUntil = never
	for _, c := range s.turn.gathering {
		ok, since, last := c.tc.Gathering()
		until := min(last+gatherIdle, since+gatherMost)
		switch {
		case !ok || c.gone:
			c.gathers = false
		case !all && s.now < until:
			waiting = append(waiting, c)
			s.turn.gatherUntil = min(s.turn.gatherUntil, until)
		default:
			c.gathers = false
			c.tc.EndGather(!all && s.now >= last+gatherIdle)
			s.touch(c)
		}
	}
	clear(s.turn.gathering[len(waiting):])
	s.turn.gathering = waiting
}
