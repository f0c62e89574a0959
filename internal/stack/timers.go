package stack

import (
	"unsafe"

	"github.com/onload-go/onload/ring"
)

// setTimer arms t to fire at at, unless it fires before anyway. A timer that fires
// early is armed again (lazy re-arming), so that the wheel is not touched at every
// segment.
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

// Kinds of ring.Timer and ring.Work name the type that they are a field of. The
// value is found by the field's offset: an interface in each would be 32 bytes a
// connection.
const (
	_ uint8 = iota // unused, so that nobody looks at such a timer
	ofTCPConn
	ofUDPConn
	ofTCPListener
	ofTimeWait
	ofFragments
	ofParked
	ofMates
	ofArrival
)

// before returns the address of the struct whose field at the given offset is at p
// (C's container_of).
func before(p unsafe.Pointer, offset uintptr) unsafe.Pointer { return unsafe.Add(p, -int(offset)) }

// fire runs the timer t.
func (s *Stack) fire(t *ring.Timer) {
	switch t.Kind {
	case ofTCPConn:
		s.fireTCP((*TCPConn)(before(unsafe.Pointer(t), unsafe.Offsetof(TCPConn{}.timer))))
	case ofTCPListener:
		l := (*TCPListener)(before(unsafe.Pointer(t), unsafe.Offsetof(TCPListener{}.timer)))
		if l.tl.Deadline() <= s.now {
			l.tl.Expire(s.now)
		}
		s.scheduleListener(l)
	case ofFragments:
		s.fragments.Expire(s.now)
		s.setTimer(t, s.fragments.Deadline())
	case ofParked:
		s.fireParked()
	case ofTimeWait:
		s.fireTimeWait((*timeWait)(before(unsafe.Pointer(t), unsafe.Offsetof(timeWait{}.timer))))
	}
}

func (s *Stack) fireTCP(c *TCPConn) {
	if c.gone {
		return
	}
	if c.tc.Deadline() <= s.now {
		// Perhaps the neighbour has moved. Who keeps the neighbours sees none of our
		// traffic, so have it look (RFC 4861, 7.3.1; likewise ARP).
		s.cfg.Net.Doubt(c.dst.route.Link, c.dst.route.NextHop)
		c.tc.Expire(s.now)
		s.touch(c)
	} else {
		s.dests.confirm(c.dst, s.now)
	}
	s.schedule(c)
}
