package stack

import (
	"github.com/onload-go/onload/ip"
	"github.com/onload-go/onload/ring"
)

// setTimer arms t to fire at at, unless it fires before anyway: who fires
// early looks again (lazy re-arming), so that the wheel is not touched at
// every segment.
func (s *Stack) setTimer(t *ring.Timer, at int64) {
	if at != never && (!t.Armed() || at < t.At()) {
		s.wheel.Set(t, at)
	}
}

// schedule arms c's timer for what its protocol waits for next.
func (s *Stack) schedule(c *TCPConn) {
	if !c.gone {
		s.setTimer(&c.timer, c.tc.Deadline())
	}
}

func (s *Stack) scheduleListener(l *TCPListener) {
	s.setTimer(&l.timer, l.tl.Deadline())
}

// fire runs the timer t.
func (s *Stack) fire(t *ring.Timer) {
	switch o := t.Owner.(type) {
	case *TCPConn:
		if o.gone {
			return
		}
		if o.tc.Deadline() <= s.now {
			// Perhaps the neighbour has moved: the kernel, which sees none of
			// our traffic, is to look (RFC 4861, 7.3.1; ARP alike).
			s.cfg.Net.Confirm(o.dst.route.Link, o.dst.route.NextHop)
			o.tc.Expire(s.now)
			s.touch(o)
		} else {
			s.confirm(o.dst)
		}
		s.schedule(o)
	case *TCPListener:
		if o.tl.Deadline() <= s.now {
			o.tl.Expire(s.now)
		}
		s.scheduleListener(o)
	case *ip.Reassembler:
		o.Expire(s.now)
		s.setTimer(t, o.Deadline())
	case *timeWait:
		s.fireTimeWait(o)
	}
}
