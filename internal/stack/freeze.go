package stack

import (
	"errors"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/onload-go/onload/ip"
	"github.com/onload-go/onload/tcp"
)

// A connection changes hands in two steps. Freeze stops it, and says what it is: calls
// on it wait, and the flow's packets are kept. When another carrier has it, Release
// forgets it in silence, and gives the packets to whoever wants them; or the hand-over
// failed, and Resume has it go on. The connection has no field for that: to everything
// in the stack it is gone meanwhile, but for its place in the demultiplexer.

// errFrozen is why a call has to wait. No user sees it.
var errFrozen = errors.New("stack: the connection is frozen")

// leavingConn is a connection between Freeze and its end.
type leavingConn struct {
	snapshot *tcp.Snapshot
	kept     kept
}

// Freeze stops c and returns what it is, for another carrier. Calls on c, also those
// that wait already, wait until Resume or Release. The errors are ErrClosed, and one
// that wraps tcp.ErrState where c is not connected yet or has ended. After an error
// nothing has changed.
func (c *TCPConn) Freeze() (*tcp.Snapshot, error) {
	if err := c.hush(); err != nil {
		return nil, err
	}
	c.s.begin()
	snapshot, err := c.freeze()
	c.s.end()
	if err != nil {
		c.unhush()
	}
	return snapshot, err
}

// hush has all calls on c wait: it takes both of c's mutexes, which unhush gives back.
// A call that has to end first, as one that reads from a file, is waited for.
func (c *TCPConn) hush() error {
	c.silence(&c.rmu)
	c.silence(&c.wmu)
	if c.state.Load()&stMoved != 0 || c.s.life.ending.Load() {
		c.unhush()
		return errClosed
	}
	return nil
}

// silence takes one of c's mutexes from the goroutine that waits with it. It asks again
// and again, because another hand-over may end meanwhile, and take the mark back.
func (c *TCPConn) silence(mu *sync.Mutex) {
	for d := hushLeast; ; d = min(2*d, hushMost) {
		c.state.Or(stFrozen)
		c.s.wake(&c.r)
		c.s.wake(&c.w)
		if mu.TryLock() {
			return
		}
		time.Sleep(d)
	}
}

func (c *TCPConn) unhush() {
	c.state.And(^stFrozen)
	c.wmu.Unlock()
	c.rmu.Unlock()
}

// thawed waits until c is no longer frozen, without the mutex of the caller's
// direction, mu.
func (c *TCPConn) thawed(mu *sync.Mutex) {
	mu.Unlock()
	for d := hushLeast; c.state.Load()&stFrozen != 0; d = min(2*d, hushMost) {
		time.Sleep(d)
	}
	mu.Lock()
}

// thawedWriter is thawed for a Write. Where it has sent a part of its bytes, no other one
// sends before the rest.
func (c *TCPConn) thawedWriter(part bool) {
	if !part {
		c.thawed(&c.wmu)
		return
	}
	c.state.Or(stHalf)
	c.thawed(&c.wmu)
	c.state.And(^stHalf)
}

// yieldToHalf has a Write go on that thawedWriter has interrupted. wmu is held.
func (c *TCPConn) yieldToHalf() {
	for d := hushLeast; c.state.Load()&stHalf != 0; d = min(2*d, hushMost) {
		c.wmu.Unlock()
		time.Sleep(d)
		c.wmu.Lock()
	}
}

// How often those look that wait for a hand-over, which takes a fraction of a
// millisecond as a rule.
const (
	hushLeast = 20 * time.Microsecond
	hushMost  = time.Millisecond
)

// freeze is Freeze under the stack lock.
func (c *TCPConn) freeze() (*tcp.Snapshot, error) {
	s := c.s
	if s.life.ending.Load() {
		return nil, errClosed
	}
	if c.state.Load()&stClosed != 0 && !c.orphan {
		return nil, errClosed // Close waits for the mutexes
	}
	if c.gone {
		return nil, errors.Join(tcp.ErrState, syscall.ENOTCONN)
	}
	c.doTodo()
	snapshot, err := c.tc.Freeze(s.now)
	if err != nil {
		return nil, err
	}
	snapshot.Options.TOS, snapshot.Options.TTL = c.dst.key.tos, c.dst.key.ttl
	c.gone = true
	s.wheel.Stop(&c.timer)
	if s.demux.moving == nil {
		s.demux.moving = make(map[*TCPConn]*leavingConn)
	}
	s.demux.moving[c] = &leavingConn{snapshot: snapshot, kept: kept{mtu: s.dests.mtuOf(c.dst, s.now)}}
	return snapshot, nil
}

// Resume has a frozen connection go on where it was, as though nothing had happened.
// Packets that came meanwhile are processed in their order.
func (c *TCPConn) Resume() {
	s := c.s
	s.begin()
	m := s.demux.moving[c]
	if m == nil {
		s.end()
		return
	}
	delete(s.demux.moving, c)
	packets := s.takeKept(&m.kept)
	if !s.life.closing.Load() {
		c.gone = false
		c.tc.Resume(m.snapshot)
		for i := range packets {
			s.inject(&packets[i])
		}
		s.rx.repeat.Forget()
		if s.life.ending.Load() { // the other connections were reset meanwhile
			c.tc.Abort(s.now)
		}
		s.touch(c)
	}
	s.end()
	c.unhush()
}

// Release forgets a frozen connection: another carrier has it. The peer hears nothing
// of it. From now on the flow's packets are the kernel's. Release returns those that
// came meanwhile, as IP packets no larger than the path's MTU and with checksums.
// Calls on c return ErrClosed.
func (c *TCPConn) Release() [][]byte {
	s := c.s
	s.begin()
	m, p := s.demux.moving[c], c.port
	if m == nil {
		s.end()
		return nil
	}
	local, remote := c.tc.Local(), c.tc.Remote()
	left := s.life.left.Load()
	s.end()
	if !left && !s.ports.leave(p, local, remote) {
		s.demux.twinsServe().Store(true)
	}
	s.begin()
	if !s.life.closing.Load() {
		// What is on the rings came before. Others may send without pause.
		for range releaseTurns {
			if s.poll() == 0 {
				break
			}
		}
	}
	packets := s.takeKept(&m.kept)
	s.forget(c, p, left)
	s.end()
	c.r.stop()
	c.w.stop()
	c.unhush()
	return m.kept.raw(packets)
}

// releaseTurns is how many batches of each queue are read for the packets of a flow
// that is no longer ours.
const releaseTurns = 8

// forget takes a frozen connection out of the tables. The lock is held.
func (s *Stack) forget(c *TCPConn, p *port, left bool) {
	delete(s.demux.moving, c)
	c.state.Or(stClosed | stMoved | stDone)
	local, remote := c.tc.Local(), c.tc.Remote()
	s.ports.leaving.move(local, remote, s.now)
	s.demux.removeConn(c)
	s.demux.mates.release(ip.ProtoTCP, local, remote)
	if left {
		s.ports.releaseLater(p)
	}
	c.port = nil
	s.counters.moved.Add(1)
	if s.life.closing.Load() && !s.shared() {
		return // the frames went with the device
	}
	s.dests.unref(c.dst)
	c.dst = nil
	c.tc.Free()
	if s.life.closing.Load() {
		s.cache.Flush()
	}
}

// Deadlines returns the deadlines that are set on c; zero: none.
func (c *TCPConn) Deadlines() (read, write time.Time) { return c.r.when(), c.w.when() }

// when returns w's deadline.
func (w *waiter) when() time.Time {
	p := w.more.Load()
	if p == nil {
		return time.Time{}
	}
	switch d := p.deadline.Load(); d {
	case 0:
		return time.Time{}
	case passed:
		return past
	default:
		return time.Now().Add(time.Duration(d - nanotime()))
	}
}

// leave has the packets of a flow of p go to the kernel, and gives up the connection's
// use of p. false: stray segments have to be given back, see except. The stack lock is
// not held.
func (t *portTable) leave(p *port, local, remote netip.AddrPort) bool {
	if p == nil {
		return true
	}
	t.mu.Lock()
	p.refs--
	if p.refs > 0 {
		t.mu.Unlock()
		return t.except(p, local, remote)
	}
	h := t.forget(p) // a port of the pool too, which would be steered still
	t.mu.Unlock()
	t.giveBack(p, h)
	return true
}
