package stack

import (
	"net/netip"
	"time"

	"github.com/onload-go/onload/ip"
	"github.com/onload-go/onload/ring"
	"github.com/onload-go/onload/tcp"
)

// timeWait stands for a connection for 2MSL after its end. It answers repeated
// FINs, and keeps old duplicates from a new connection (RFC 9293, 3.6.1).
type timeWait struct {
	tw                    tcp.TimeWait
	dst                   *dst
	port                  *port // nil: it went back to the pool
	timer                 ring.Timer
	since                 int64
	localPort, remotePort uint16
}

func (t *timeWait) local() netip.AddrPort {
	return netip.AddrPortFrom(t.dst.key.Local, t.localPort)
}

func (t *timeWait) remote() netip.AddrPort {
	return netip.AddrPortFrom(t.dst.key.Remote, t.remotePort)
}

// An outgoing connection may replace one in TIME-WAIT that is reuseAfter old, since
// its timestamps distinguish old segments (RFC 6191; Linux's tcp_tw_reuse, whose
// delay is between 1 ms and 1 s, its default). A peer that missed our last
// acknowledgement has sent its FIN again by then. A program that opens many
// connections waits only for twenty ticks of the peer's clock.
const (
	reuseAfter = int64(250 * time.Millisecond)
	reuseSoon  = int64(20 * time.Millisecond)
)

// maxTimeWaits is Config.MaxTimeWaits if nobody sets it: some 40 MiB.
const maxTimeWaits = 1 << 17

func (t *timeWait) reusable(now, age int64) bool {
	return t.tw.Timestamps() && now-t.since > age
}

// beginTimeWait replaces c, which is out of the tables already.
func (s *Stack) beginTimeWait(c *TCPConn) {
	most := s.cfg.MaxTimeWaits
	if most <= 0 {
		most = maxTimeWaits
	}
	if s.demux.timeWaits.len() >= most {
		// As Linux with tcp_max_tw_buckets: saving memory matters more than the
		// rest of 2MSL.
		s.host.Stats.TCPTimeWaitOverflow.Add(1)
		s.demux.mates.release(ip.ProtoTCP, c.tc.Local(), c.tc.Remote())
		s.dests.unref(c.dst)
		s.ports.releaseLater(c.port)
		return
	}
	t := &timeWait{tw: c.tc.TimeWait(s.now), dst: c.dst, since: s.now, localPort: c.tc.Local().Port(), remotePort: c.tc.Remote().Port()}
	if c.port != nil && c.port.pooled() {
		// The pool keeps it reserved and steered; other peers may use it.
		s.ports.releaseLater(c.port)
	} else {
		t.port = c.port
	}
	t.timer.Kind = ofTimeWait
	s.demux.addTimeWait(t)
	s.wheel.Set(&t.timer, t.tw.Deadline())
}

// fireTimeWait ends t, unless a segment has prolonged it.
func (s *Stack) fireTimeWait(t *timeWait) {
	if at := t.tw.Deadline(); at > s.now {
		s.wheel.Set(&t.timer, at)
		return
	}
	s.endTimeWait(t)
}

func (s *Stack) endTimeWait(t *timeWait) {
	s.wheel.Stop(&t.timer)
	s.demux.removeTimeWait(t)
	s.demux.mates.release(ip.ProtoTCP, t.local(), t.remote())
	s.dests.unref(t.dst)
	s.ports.releaseLater(t.port)
}

// reuseTimeWait makes room for an outgoing connection. false: the old one is too
// young.
func (s *Stack) reuseTimeWait(local, remote netip.AddrPort) bool {
	t := s.demux.timeWaitOf(local, remote)
	if t == nil {
		return true
	}
	if !t.reusable(s.now, reuseSoon) {
		return false
	}
	s.endTimeWait(t)
	return true
}

// timeWaitInput gives a segment to t.
func (s *Stack) timeWaitInput(t *timeWait, seg *tcp.Segment) {
	act := t.tw.Input(s.host, seg, s.now)
	if act == tcp.TWReopen {
		if l := s.demux.listener(seg.Local, seg.Remote); l != nil {
			tw := t.tw
			s.endTimeWait(t)
			l.tl.Reopen(seg, &tw, s.now)
			s.scheduleListener(l)
			return
		}
		if s.returnSegment(seg) { // whoever listens now is not one of ours
			s.endTimeWait(t)
			return
		}
		s.cache.FreeDescs(seg.Payload)
		act = tcp.TWAck
	}
	if act != tcp.TWAck {
		return
	}
	f, ok := s.cache.Alloc()
	if !ok {
		return
	}
	d := t.tw.PutAck(s.host, t.local(), t.remote(), f, s.now)
	s.send(t.dst, s.rx.queue, []ring.Desc{d}, 0)
	s.cache.Release(f)
}
