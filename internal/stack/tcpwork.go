package stack

import (
	"unsafe"

	"github.com/onload-go/onload/ip"
	"github.com/onload-go/onload/ring"
)

// Bits of TCPConn.todo.
const (
	todoOutput uint32 = 1 << iota
	todoWindow
	todoCloseWrite
	todoClose
	todoConnect
)

// do has the protocol do the work of flag: at once if the lock is free, otherwise its
// holder does it.
func (c *TCPConn) do(flag uint32) {
	if d, locked := c.begin(flag); locked {
		c.s.endDeferring(d)
	}
}

// begin is do without its end. If locked is true, the lock is held, and
// endDeferring(d) must follow.
func (c *TCPConn) begin(flag uint32) (d deferral, locked bool) {
	c.todo.Or(flag)
	s := c.s
	if !s.beginOrDefer(&c.work) {
		return kickNow, false
	}
	s.doWork(&c.work)
	if flag == todoOutput {
		d = s.deferAnswer()
	}
	return d, true
}

// doWork does the work that w's owner left. The lock is held.
func (s *Stack) doWork(w *ring.Work) {
	closing := s.life.closing.Load()
	if closing && !s.shared() {
		return // the frames went with the device
	}
	switch w.Kind {
	case ofTCPConn:
		(*TCPConn)(before(unsafe.Pointer(w), unsafe.Offsetof(TCPConn{}.work))).doTodo()
		if closing { // the connection has ended, and has left its frames
			s.cache.Flush()
		}
	case ofUDPConn:
		if closing {
			return // UDPConn.Close frees what is queued
		}
		s.sendQueued((*UDPConn)(before(unsafe.Pointer(w), unsafe.Offsetof(UDPConn{}.work))))
	case ofMates:
		s.takeHanded()
		if closing {
			s.cache.Flush()
		}
	case ofArrival:
		s.now = nanotime() // the packets came after the section began
		s.pollArrived()
	}
}

func (c *TCPConn) doTodo() {
	s := c.s
	f := c.todo.Swap(0)
	if c.gone {
		if f&todoClose != 0 {
			c.orphan = true
			c.tc.Free()
		}
		return
	}
	if f&todoConnect != 0 {
		c.tc.ReadDeferred(s.now)
	}
	if f&todoWindow != 0 {
		c.tc.WindowUpdate(s.now)
	}
	if f&todoCloseWrite != 0 {
		c.tc.CloseWrite(s.now)
	}
	if f&todoClose != 0 {
		c.orphan = true
		c.tc.Close(s.now)
	}
	s.touch(c)
}

// bury takes the connections that ended during the turn out of the tables.
func (s *Stack) bury() {
	for i, c := range s.turn.dead {
		s.turn.dead[i] = nil
		s.wheel.Stop(&c.timer)
		c.gone = true
		s.demux.removeConn(c)
		if c.tw {
			s.beginTimeWait(c)
		} else {
			s.demux.mates.release(ip.ProtoTCP, c.tc.Local(), c.tc.Remote())
			s.dests.unref(c.dst)
			s.ports.releaseLater(c.port)
		}
		c.dst, c.port = nil, nil
		c.state.Or(stDone)
		s.notify(&c.r)
		s.notify(&c.w)
		if c.orphan {
			c.tc.Free()
		}
	}
	s.turn.dead = s.turn.dead[:0]
}
