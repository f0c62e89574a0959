package stack

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/onload-go/onload/internal/flowtable"
	"github.com/onload-go/onload/ring"
	"github.com/onload-go/onload/tcp"
)

// TCPConn is a TCP connection of a Stack. All methods may be called at the
// same time from several goroutines. Errors are bare (syscall.Errno, io.EOF,
// net.ErrClosed, os.ErrDeadlineExceeded).
type TCPConn struct {
	s  *Stack
	tc tcp.Conn

	// Under the stack lock.
	dst     *dst
	port    *port
	timer   ring.Timer
	qi      uint8 // queue that its packets arrive on
	dirty   bool  // on Stack.dirty
	gathers bool  // on Stack.gathering
	blocked bool  // on Stack.blocked
	gone    bool  // out of the demultiplexer
	dying   bool  // on Stack.dead
	tw      bool  // leaves a TIME-WAIT entry behind
	orphan  bool  // the user has closed it

	work ring.Work
	todo atomic.Uint32  // what was left for the holder of the lock
	slot flowtable.Slot // of demux.table; under the stack lock

	rmu, wmu sync.Mutex // one reader, one writer
	r, w     waiter
	state    atomic.Uint32 // connected, closed, ...
}

// Bits of TCPConn.state.
const (
	stConnecting uint32 = 1 << iota
	stClosed            // by the user
	stReadClosed
	stWriteClosed
	stDone   // the protocol is finished
	stFrozen // Freeze wants it, or has it
	stMoved  // Release has forgotten it
	stHalf   // a Write that has sent a part waits until it is thawed: others wait for it
)

// newTCPConn returns the connection of two ports of d, which counts it.
func (s *Stack) newTCPConn(d *dst, localPort, remotePort uint16) *TCPConn {
	c := &TCPConn{s: s, dst: d}
	c.tc.Name(&d.key.Pair, localPort, remotePort)
	c.work.Kind, c.timer.Kind = ofTCPConn, ofTCPConn
	return c
}

// Transmit implements tcp.Owner. It is send, without the call.
func (c *TCPConn) Transmit(pkt []ring.Desc, ecn uint8) bool {
	s, d := c.s, c.dst
	if !d.ready {
		return s.sendLater(d, int(c.qi), pkt, ecn)
	}
	tx := int(d.on.tx[c.qi])
	hl := s.address(d, tx, pkt, ecn)
	return hl < 0 || hl > 0 && s.post(tx, pkt, hl)
}

// Notify implements tcp.Owner. It only notes: the protocol is in the middle
// of something.
func (c *TCPConn) Notify(ev tcp.Event) {
	s := c.s
	if ev&(tcp.EvClosed|tcp.EvTimeWait) != 0 && !c.dying {
		c.dying = true
		c.tw = ev&tcp.EvTimeWait != 0
		s.turn.dead = append(s.turn.dead, c)
	}
	if ev&tcp.EvConnected != 0 {
		s.demux.established(c)
	}
	if ev&(tcp.EvReadable|tcp.EvError|tcp.EvHup|tcp.EvConnected|tcp.EvClosed) != 0 {
		s.notify(&c.r)
	}
	if ev&(tcp.EvWritable|tcp.EvError|tcp.EvConnected|tcp.EvClosed|tcp.EvTimeWait) != 0 {
		s.notify(&c.w)
	}
}

// ready implements socket.
func (c *TCPConn) ready(d direction) bool {
	st := c.state.Load()
	if st&(stClosed|stFrozen) != 0 || c.s.life.closing.Load() {
		return true
	}
	if d == dirRead {
		return c.tc.Readable() || st&stReadClosed != 0
	}
	return c.tc.Writable() || st&stWriteClosed != 0
}

// connecting waits for the outcome of a Dial.
type connecting struct{ c *TCPConn }

func (k connecting) ready(direction) bool {
	if k.c.state.Load()&stClosed != 0 || k.c.s.life.closing.Load() || k.c.tc.Err() != nil {
		return true
	}
	st := k.c.tc.State()
	return st != tcp.SynSent && st != tcp.SynReceived
}

// lingering waits until everything sent is acknowledged (SO_LINGER), our FIN
// included. Nobody waits for the peer's FIN.
type lingering struct{ c *TCPConn }

func (k lingering) ready(direction) bool {
	return k.c.state.Load()&(stDone|stFrozen) != 0 || k.c.tc.State() == tcp.FinWait2 || k.c.s.life.closing.Load()
}

// LocalAddr is the local address.
func (c *TCPConn) LocalAddr() netip.AddrPort { return c.tc.Local() }

// RemoteAddr is the peer's address.
func (c *TCPConn) RemoteAddr() netip.AddrPort { return c.tc.Remote() }

// Stack is the stack that carries the connection.
func (c *TCPConn) Stack() *Stack { return c.s }

// Link is the index of the interface that c's packets leave by at present; if c has
// ended, of the first one.
func (c *TCPConn) Link() int {
	c.s.begin()
	defer c.s.end()
	if c.dst == nil {
		return c.s.links()[0].index
	}
	return c.dst.link()
}

// SetDeadline sets both deadlines.
func (c *TCPConn) SetDeadline(t time.Time) error {
	if err := c.closedError(); err != nil {
		return err
	}
	c.s.setDeadline(&c.r, t)
	c.s.setDeadline(&c.w, t)
	return nil
}

// SetReadDeadline sets when Read gives up; the zero Time is never.
func (c *TCPConn) SetReadDeadline(t time.Time) error {
	if err := c.closedError(); err != nil {
		return err
	}
	c.s.setDeadline(&c.r, t)
	return nil
}

// SetWriteDeadline sets when Write gives up; the zero Time is never.
func (c *TCPConn) SetWriteDeadline(t time.Time) error {
	if err := c.closedError(); err != nil {
		return err
	}
	c.s.setDeadline(&c.w, t)
	return nil
}
