package stack

import (
	"encoding/binary"
	"net/netip"

	"github.com/onload-go/onload/ip"
	"github.com/onload-go/onload/ring"
	"github.com/onload-go/onload/tcp"
)

// tcpInput gives the segment in ds to the connection, the TIME-WAIT entry or the
// listener that it belongs to. If it belongs to none, tcpInput answers it with a
// reset.
func (s *Stack) tcpInput(ds []ring.Desc) {
	if c := s.segment(ds); c != nil && !c.tc.Input(&s.rx.seg, s.now) {
		// It is frozen, or an earlier segment of this turn ended it. Later ones belong
		// to whatever has the addresses after the turn: a TIME-WAIT entry, a
		// listener or nobody.
		if m := s.demux.moving[c]; m != nil {
			s.keep(&m.kept)
			return
		}
		s.bury()
		s.strayInput(&s.rx.seg)
	}
}

// segment reads the TCP header of ds into rx.seg and returns the connection that it
// belongs to, touched. If it belongs to none, segment handles it and returns nil.
func (s *Stack) segment(ds []ring.Desc) *TCPConn {
	p, seg := &s.rx.pkt, &s.rx.seg
	if p.DstMAC[0]&1 != 0 {
		// A segment sent to many is not from an honest host (RFC 1122, 4.2.3.10).
		s.drop(ds, &s.counters.rxBogus)
		return nil
	}
	b := s.arena.Data(ds[0])
	hl, err := seg.Parse(b, p.L4Len)
	if err != nil {
		s.drop(ds, &s.counters.rxMalformed)
		return nil
	}
	if !s.checksumOK(ds, binary.BigEndian.Uint16(b[tcp.OffsetChecksum:])) {
		s.drop(ds, &s.counters.rxChecksum)
		return nil
	}
	if !seg.Flags.Sane() { // attack 20
		s.host.Stats.BogusFlags.Add(1)
		s.cache.FreeDescs(ds)
		return nil
	}
	s.waits.work += int64(p.L4Len - hl)
	seg.ECN = p.TOS & 3
	ds[0].Off += uint16(hl)
	ds[0].Len -= uint16(hl)
	seg.Payload = ds

	ports := binary.BigEndian.Uint32(b)
	if s.rx.again && ports == s.demux.lastPorts && s.demux.lastConn != nil {
		// seg has the addresses of the segment before.
	} else if s.demux.lookup(p, seg, b, ports); s.demux.lastConn == nil {
		if s.demux.mates.team == nil || !s.handSegment(hl) {
			s.strayInput(seg)
		}
		return nil
	}
	c := s.demux.lastConn
	c.qi = uint8(s.rx.queue)
	s.touch(c)
	return c
}

// strayInput handles a segment that belongs to no connection.
func (s *Stack) strayInput(seg *tcp.Segment) {
	if len(s.demux.expected) > 0 {
		if e := s.demux.expected[makeFlowKey(seg.Local, seg.Remote)]; e != nil {
			s.keep(&e.kept)
			return
		}
	}
	if s.ports.leaving.hasMoved(seg.Local, seg.Remote, s.now) {
		// It was on its way when the connection was handed over. Whatever we say now,
		// nobody may hear a reset.
		if !s.returnMoved(seg) {
			s.cache.FreeDescs(seg.Payload)
		}
		return
	}
	if t := s.demux.timeWaitOf(seg.Local, seg.Remote); t != nil {
		s.timeWaitInput(t, seg)
		return
	}
	if l := s.demux.listener(seg.Local, seg.Remote); l != nil {
		if s.returnTwins(l, seg) {
			return
		}
		l.tl.Input(seg, s.now)
		s.scheduleListener(l)
		return
	}
	if !s.returnSegment(seg) && !s.returnOthers(seg) {
		s.refuse(seg)
	}
}

// refuse answers a segment that belongs to nothing (RFC 9293, 3.10.7.1), and frees
// its frames.
func (s *Stack) refuse(seg *tcp.Segment) {
	local, remote := seg.Local, seg.Remote
	s.rx.refused++
	s.cache.FreeDescs(seg.Payload)
	f, ok := s.cache.Alloc()
	if !ok {
		return
	}
	if d, ok := s.host.Reset(seg, f); ok {
		s.counters.txResets.Add(1)
		s.reply(ip.ProtoTCP, local, remote, d)
	}
	s.cache.Release(f)
}

// reply sends one packet that belongs to no connection.
func (s *Stack) reply(proto uint8, local, remote netip.AddrPort, pkt ...ring.Desc) bool {
	d := s.dests.get(IPOptions{}.key(local, remote, proto), nil, s.now)
	if d == nil {
		return false
	}
	ok := s.send(d, s.rx.queue, pkt, 0)
	s.dests.unref(d)
	return ok
}
