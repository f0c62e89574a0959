package stack

import (
	"encoding/binary"
	"net/netip"

	"github.com/onload-go/onload/ip"
	"github.com/onload-go/onload/ring"
	"github.com/onload-go/onload/tcp"
)

// tcpInput gives the segment in ds to the connection, TIME-WAIT entry or
// listener that it belongs to, else answers it with a reset.
func (s *Stack) tcpInput(qi int, ds []ring.Desc) {
	if c := s.segment(qi, ds); c != nil && !c.tc.Input(&s.seg, s.now) {
		// An earlier segment of this turn ended the connection. What follows
		// finds what finds it after the turn: a TIME-WAIT entry, a listener or
		// nobody.
		s.bury()
		s.strayInput(qi, &s.seg)
	}
}

// segment reads the TCP header of ds into s.seg and returns the connection that
// it belongs to, touched. nil: it belongs to none, and was dealt with.
func (s *Stack) segment(qi int, ds []ring.Desc) *TCPConn {
	p, seg := &s.pkt, &s.seg
	if p.DstMAC[0]&1 != 0 {
		// Sent to many: no segment of an honest host (RFC 1122, 4.2.3.10).
		s.counters.rxBogus.Add(1)
		s.cache.FreeDescs(ds)
		return nil
	}
	b := s.arena.Data(ds[0])
	hl, err := seg.Parse(b, p.L4Len)
	if err != nil {
		s.counters.rxMalformed.Add(1)
		s.cache.FreeDescs(ds)
		return nil
	}
	if !s.checksumOK(ds, binary.BigEndian.Uint16(b[16:])) {
		s.counters.rxChecksum.Add(1)
		s.cache.FreeDescs(ds)
		return nil
	}
	if !seg.Flags.Sane() { // attack 20
		s.host.Stats.BogusFlags.Add(1)
		s.cache.FreeDescs(ds)
		return nil
	}
	s.work += int64(p.L4Len - hl)
	seg.ECN = p.TOS & 3
	ds[0].Off += uint16(hl)
	ds[0].Len -= uint16(hl)
	seg.Payload = ds

	ports := binary.BigEndian.Uint32(b)
	if s.again && ports == s.lastPorts && s.lastConn != nil {
		// seg has the addresses of the segment before.
	} else if s.lookup(b, ports); s.lastConn == nil {
		s.strayInput(qi, seg)
		return nil
	}
	c := s.lastConn
	c.qi = uint8(qi)
	s.touch(c)
	return c
}

// lookup makes lastConn the connection of the segment whose header is b, nil if
// there is none, and completes seg. ports are those of b, as on the wire.
func (s *Stack) lookup(b []byte, ports uint32) {
	p, seg := &s.pkt, &s.seg
	s.lastPorts = ports
	seg.Local = netip.AddrPortFrom(p.Dst, binary.BigEndian.Uint16(b[2:]))
	seg.Remote = netip.AddrPortFrom(p.Src, binary.BigEndian.Uint16(b[0:]))
	if c := s.lastConn; c == nil || !c.tc.Between(seg.Local, seg.Remote) {
		s.lastConn = s.conn(seg.Local, seg.Remote)
	}
}

// strayInput deals with a segment that belongs to no connection.
func (s *Stack) strayInput(qi int, seg *tcp.Segment) {
	if t := s.timeWaitOf(seg.Local, seg.Remote); t != nil {
		s.timeWaitInput(qi, t, seg)
		return
	}
	if l := s.listener(seg.Local, seg.Remote); l != nil {
		l.qi = qi
		l.tl.Input(seg, s.now)
		s.scheduleListener(l)
		return
	}
	s.refuse(qi, seg)
}

// listener finds who listens on a for remote: the exact address first.
func (s *Stack) listener(a, remote netip.AddrPort) *TCPListener {
	if len(s.listeners) == 0 {
		return nil
	}
	if l := s.listeners.find(portKey{a.Addr().As16(), a.Port()}, s.flowSeed, a, remote); l != nil {
		return l
	}
	wild := any6
	if a.Addr().Is4() {
		wild = any4
	}
	return s.listeners.find(portKey{wild, a.Port()}, s.flowSeed, a, remote)
}

// refuse answers a segment that belongs to nothing (RFC 9293, 3.10.7.1), and
// frees its frames.
func (s *Stack) refuse(qi int, seg *tcp.Segment) {
	local, remote := seg.Local, seg.Remote
	s.cache.FreeDescs(seg.Payload)
	f, ok := s.cache.Alloc()
	if !ok {
		return
	}
	if d, ok := s.host.Reset(seg, f); ok {
		s.counters.txResets.Add(1)
		s.reply(qi, ip.ProtoTCP, local, remote, d)
	}
	s.cache.Release(f)
}

// reply sends one packet that belongs to no connection.
func (s *Stack) reply(qi int, proto uint8, local, remote netip.AddrPort, pkt ...ring.Desc) bool {
	d := s.dst(IPOptions{}.key(local.Addr(), remote.Addr(), proto))
	if d == nil {
		return false
	}
	ok := s.send(d, qi, pkt, 0)
	s.unref(d)
	return ok
}
