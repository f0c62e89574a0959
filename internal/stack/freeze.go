package stack

import (
	"time"

	"github.com/onload-go/onload/ip"
	"github.com/onload-go/onload/ring"
	"github.com/onload-go/onload/tcp"
)

// A connection that changes hands is frozen first: nothing leaves, and what arrives is
// kept. Then it is released, since another carrier has it, or it goes on (Resume). Its
// users, who find it closed meanwhile, look for the carrier, or call again.

// frozen is what a stack knows of a connection that is frozen.
type frozen struct {
	state *tcp.Snapshot
	kept  [][]byte // IP packets
	bytes int      // of kept
}

// Bounds of what is kept for a frozen connection. What is more is lost, and the peer
// sends it again.
const (
	keptPackets = 1024
	keptBytes   = 4 << 20
)

// Freeze stops the connection, and returns what it is. The goroutines that wait on it
// return ErrClosed, as do all calls until Resume; calls of Read and Write wait for
// Resume or Release, one of which must follow. With an error, which is ErrClosed, or
// wraps tcp.ErrState for a connection that cannot change hands, it goes on.
func (c *TCPConn) Freeze() (*tcp.Snapshot, error) {
	for {
		st := c.state.Load()
		if st&stClosed != 0 || c.s.life.ending.Load() {
			return nil, errClosed
		}
		if c.state.CompareAndSwap(st, st|stClosed) {
			break
		}
	}
	s := c.s
	s.wake(&c.r)
	s.wake(&c.w)
	c.rmu.Lock()
	c.wmu.Lock()
	s.begin()
	snapshot, err := s.freeze(c)
	s.end()
	if err != nil {
		c.open()
		return nil, err
	}
	return snapshot, nil
}

// freeze is Freeze under all locks.
func (s *Stack) freeze(c *TCPConn) (*tcp.Snapshot, error) {
	if s.life.closing.Load() {
		return nil, errClosed
	}
	if !c.gone {
		c.doTodo()
		s.finishTurn(kickNow)
	}
	if c.gone {
		return nil, tcp.ErrState
	}
	snapshot, err := c.tc.Freeze(s.now)
	if err != nil {
		return nil, err
	}
	snapshot.Options.TOS, snapshot.Options.TTL = c.dst.key.tos, c.dst.key.ttl
	s.wheel.Stop(&c.timer)
	if s.demux.frozen == nil {
		s.demux.frozen = map[*TCPConn]*frozen{}
	}
	s.demux.frozen[c] = &frozen{state: snapshot}
	return snapshot, nil
}

// open ends the time in which the users of c find it closed.
func (c *TCPConn) open() {
	c.state.And(^stClosed)
	c.wmu.Unlock()
	c.rmu.Unlock()
}

// Resume has a frozen connection go on. What its peer has sent meanwhile is lost, as on
// the way.
func (c *TCPConn) Resume() {
	s := c.s
	s.begin()
	if f := s.demux.frozen[c]; f != nil && !c.gone {
		c.tc.Resume(f.state, s.now)
		s.touch(c)
	}
	delete(s.demux.frozen, c)
	s.end()
	c.open()
}

// Release forgets a frozen connection, which the kernel has now: no reset and no FIN is
// sent, and its packets go to the kernel, also where its port is still ours. It returns
// the IP packets that came meanwhile. They are the kernel's too.
func (c *TCPConn) Release() (packets [][]byte) {
	s := c.s
	f := givenFlow{c.tc.Local(), c.tc.Remote()}
	s.ports.give(c.port, f) // nobody else changes the port of a frozen connection
	s.begin()
	if x := s.demux.frozen[c]; x != nil {
		packets = x.kept
		delete(s.demux.frozen, c)
	}
	if !c.gone {
		c.gone = true
		s.demux.removeConn(c)
		s.demux.mates.release(ip.ProtoTCP, f.local, f.remote)
		s.dests.unref(c.dst)
		s.ports.releaseLater(c.port)
		c.dst, c.port = nil, nil
		c.state.Or(stDone)
		if !s.life.closing.Load() || s.shared() {
			c.tc.Free()
		}
	}
	s.end()
	c.r.stop()
	c.w.stop()
	c.wmu.Unlock()
	c.rmu.Unlock()
	return packets
}

// keep keeps a segment of a frozen connection, as the packet that it came in, and frees
// it.
func (s *Stack) keep(c *TCPConn, seg *tcp.Segment) {
	p, f := &s.rx.pkt, s.demux.frozen[c]
	l4 := s.wholeSegment(seg.Payload, s.headers(seg))
	if f == nil || len(f.kept) >= keptPackets || f.bytes+len(l4) > keptBytes {
		s.counters.rxNoSocket.Add(1)
		return
	}
	var h ip.Header
	h.Init(p.SrcMAC, p.DstMAC, 0, p.Src, p.Dst, p.Proto, p.TOS&^3, p.TTL)
	packet := make([]byte, h.Len()+len(l4))
	h.Put(packet, len(l4), p.TOS&3, atomicID)
	copy(packet[h.Len():], l4)
	packet = packet[h.Len()-h.NetLen():]
	f.kept = append(f.kept, packet)
	f.bytes += len(packet)
}

// headers is how many bytes of headers were cut off in front of seg's payload.
func (s *Stack) headers(seg *tcp.Segment) int {
	_, payload := ring.PacketLen(seg.Payload)
	return s.rx.pkt.L4Off + s.rx.pkt.L4Len - payload
}

// Deadlines are those that were set on the connection; zero: none.
func (c *TCPConn) Deadlines() (read, write time.Time) { return c.r.deadline(), c.w.deadline() }

// deadline is w's, in the application's time.
func (w *waiter) deadline() time.Time {
	p := w.more.Load()
	if p == nil {
		return time.Time{}
	}
	switch at := p.deadline.Load(); at {
	case 0, never:
		return time.Time{}
	default: // passed is long ago
		return time.Now().Add(time.Duration(at - nanotime()))
	}
}
