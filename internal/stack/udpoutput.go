package stack

import (
	"encoding/binary"
	"net/netip"

	"github.com/onload-go/onload/ip"
	"github.com/onload-go/onload/ring"
	"github.com/onload-go/onload/tcp"
	"github.com/onload-go/onload/udp"
)

// A datagram on its way is a chain of frames: the first on UDPConn.sendq, the
// others behind it through Meta.Prev. Until the headers are written, the first
// frame's headroom has its destination.
const (
	envRemote = 0  // 16 bytes
	envLocal  = 16 // 16 bytes, zero: the route's
	envPort   = 32 // remote port
	envLen    = 34 // payload bytes of the datagram, 4 bytes
	envTOS    = 38 // TOS or traffic class
	envTTL    = 39 // TTL or hop limit
	envSize   = 40

	maxUDP4 = 65535 - 20 - udp.HeaderLen // payload: IPv4's total length counts its header (RFC 791, 3.1)
	maxUDP6 = 65535 - udp.HeaderLen      // IPv6's payload length does not (RFC 8200, 3)
)

// send has the datagrams that WriteTo left sent: now, if the lock is free, else by
// its holder. wmu is held.
func (u *UDPConn) send() {
	s := u.s
	if !s.beginOrDefer(&u.work) {
		return
	}
	if !s.life.closing.Load() {
		s.sendQueued(u)
	}
	u.endSend()
}

// endSend ends the turn that sent a datagram of u's.
func (u *UDPConn) endSend() {
	s := u.s
	d, batch := kickNow, false
	if s.kicker.batches {
		d, batch = s.deferKick(u)
	}
	s.endDeferring(d)
	if batch {
		u.flood.last = nanotime() // the kick took longer than a pause may
	}
}

// packNow makes a packet of p, in Stack.tx, to be sent at once without the
// hand-over by sendq. It does so if p is small, the lock is free and nothing stands
// in the way. Then it returns the packet's destination, and the lock is held. nil:
// enqueue has to do it, or says why not. wmu is held.
func (u *UDPConn) packNow(p []byte, m *Message) *dst {
	s := u.s
	if len(p) > smallWrite || u.queued.Load() != 0 || u.Closed() || u.w.over() || u.dead() != 0 ||
		u.errno.Load() != 0 || u.lost.Load() != 0 {
		return nil
	}
	if u.ends(len(p), m) != nil || !s.tryBegin() {
		return nil
	}
	if !s.life.closing.Load() {
		if d := s.packSmall(u, p, m); d != nil {
			return d
		}
	}
	s.end()
	return nil
}

// packSmall makes a packet of p to the destination that u sent to before, and
// returns that; nil: it cannot. The lock is held.
func (s *Stack) packSmall(u *UDPConn, p []byte, m *Message) *dst {
	d := u.dst
	l4 := udp.HeaderLen + len(p)
	if d == nil || d.gone || d.looped || !d.ready || !u.leads(d, m.Src.Unmap(), unmapped(m.Dst), m.tos, m.ttl) ||
		l4+d.hdr.NetLen() > s.dests.mtuOf(d, s.now) {
		return nil
	}
	f, ok := s.cache.Alloc()
	if !ok {
		return nil
	}
	b := s.arena.Meta(f)
	b.Off, b.Len = ring.Headroom, uint16(len(p))
	b.Sum = s.host.Fill(s.arena.Bytes(f)[ring.Headroom:], p)
	b.Prev = ring.NoFrame
	s.udpPacket(d, f, u.local.Port(), m.Dst.Port(), l4)
	return d
}

// sentSmall records that packSmall's packet was sent; ok reports whether the ring
// took it.
func (s *Stack) sentSmall(d *dst, ok bool) bool {
	if ok {
		s.dests.confirm(d, s.now)
		s.counters.udpOut.Add(1)
	}
	s.cache.Release(s.tx[0].Frame)
	return ok
}

// envelop copies a datagram into frames, summing it on the way unless the
// device does.
func (s *Stack) envelop(p []byte, msg *Message) (first ring.Frame, ok bool) {
	room := s.arena.FrameSize() - ring.Headroom
	last := ring.NoFrame
	first = ring.NoFrame
	for n := 0; ; {
		f, ok := s.arena.Alloc()
		if !ok {
			s.freeChain(first)
			return ring.NoFrame, false
		}
		m := s.arena.Meta(f)
		k := min(len(p)-n, room)
		m.Off, m.Len = ring.Headroom, uint16(k)
		m.Sum = s.host.Fill(s.arena.Bytes(f)[ring.Headroom:], p[n:n+k])
		m.Prev = ring.NoFrame
		if first == ring.NoFrame {
			first = f
		} else {
			s.arena.Meta(last).Prev = f
		}
		last = f
		if n += k; n == len(p) {
			break
		}
	}
	e := s.arena.Bytes(first)[:envSize]
	a := msg.Dst.Addr().As16()
	copy(e[envRemote:], a[:])
	a = [16]byte{}
	if msg.Src.IsValid() {
		a = msg.Src.As16()
	}
	copy(e[envLocal:], a[:])
	binary.BigEndian.PutUint16(e[envPort:], msg.Dst.Port())
	binary.BigEndian.PutUint32(e[envLen:], uint32(len(p)))
	e[envTOS], e[envTTL] = msg.tos, msg.ttl
	return first, true
}

// chainBytes is the memory that the datagram at f holds.
func (s *Stack) chainBytes(f ring.Frame) (n int64) {
	for ; f != ring.NoFrame; f = s.arena.Meta(f).Prev {
		n += int64(s.arena.FrameSize())
	}
	return n
}

// freeChain gives a datagram's frames up; the device may still hold them.
func (s *Stack) freeChain(f ring.Frame) {
	for f != ring.NoFrame {
		next := s.arena.Meta(f).Prev
		s.arena.Release(f)
		f = next
	}
}

// takeQueued takes the datagrams that WriteTo left. The lock is held.
func (s *Stack) takeQueued(u *UDPConn) {
	first, last := u.sendq.TakeAll(s.arena)
	if first != ring.NoFrame {
		if u.sending == ring.NoFrame {
			u.sending = first
		} else {
			s.arena.Meta(u.sendingLast).Next = first
		}
		u.sendingLast = last
	}
}

// sendQueued sends the datagrams that WriteTo left. The lock is held.
func (s *Stack) sendQueued(u *UDPConn) {
	s.takeQueued(u)
	for f := u.sending; f != ring.NoFrame; f = u.sending {
		next := s.arena.Meta(f).Next
		if !s.sendDatagram(u, f) {
			if !u.waiting {
				u.waiting = true
				s.turn.udpWait = append(s.turn.udpWait, u)
			}
			return
		}
		u.sending = next
		s.sentDatagram(u, f)
	}
}

// sentDatagram lets go of a datagram that was sent or dropped.
func (s *Stack) sentDatagram(u *UDPConn, f ring.Frame) {
	n, limit := s.chainBytes(f), u.sndBuf.Load()
	// Compare before and after by one look: the writer adds to it meanwhile.
	if left := u.queued.Add(-n); left < limit && left+n >= limit {
		s.notify(&u.w)
	}
	s.freeChain(f)
}

// dropQueued frees the datagrams that a closing socket could not send.
func (s *Stack) dropQueued(u *UDPConn) {
	for f := u.sending; f != ring.NoFrame; {
		next := s.arena.Meta(f).Next
		s.sentDatagram(u, f)
		f = next
	}
	u.sending = ring.NoFrame
}

// sendDatagram sends one datagram. false: the transmit ring is full. A datagram
// that cannot be sent at all is dropped, as IP does.
func (s *Stack) sendDatagram(u *UDPConn, f ring.Frame) bool {
	port := binary.BigEndian.Uint16(s.arena.Bytes(f)[envPort:])
	d, pkt := s.openEnvelope(u, f)
	if d == nil {
		s.counters.txNoRoute.Add(1)
		return true
	}
	ecn := s.arena.Bytes(f)[envTOS] & 3
	send := s.sendAny
	if u.ip.mtuMode(d.key.Remote) == PathMTUProbe && len(pkt) <= s.host.MaxFrags {
		send = s.send
	}
	if stays := d.looped && d.key.ttl == 0; !stays && !send(d, 0, pkt, ecn) {
		return false
	}
	if d.looped && !u.ip.quiet(d.key.Remote) {
		s.loopGroup(u, d, f, port)
	}
	s.counters.udpOut.Add(1)
	return true
}

// openEnvelope makes a packet of the datagram f, and finds its destination; nil if
// there is none.
func (s *Stack) openEnvelope(u *UDPConn, f ring.Frame) (d *dst, pkt []ring.Desc) {
	e := s.arena.Bytes(f)[:envSize]
	remote := netip.AddrPortFrom(netip.AddrFrom16([16]byte(e[envRemote:])).Unmap(), binary.BigEndian.Uint16(e[envPort:]))
	size := int(binary.BigEndian.Uint32(e[envLen:]))
	var local netip.Addr // invalid: the route's
	if a := [16]byte(e[envLocal:]); a != ([16]byte{}) {
		local = netip.AddrFrom16(a).Unmap()
	}
	d = u.dst
	if tos, ttl := e[envTOS], e[envTTL]; d == nil || d.gone || !u.leads(d, local, remote, tos, ttl) {
		if d = s.udpDst(u, local, remote, tos, ttl); d == nil {
			return nil, nil
		}
	}
	s.dests.confirm(d, s.now)
	return d, s.udpPacket(d, f, u.local.Port(), remote.Port(), udp.HeaderLen+size)
}

// udpPacket writes the UDP header in front of the first frame and returns the
// packet.
func (s *Stack) udpPacket(d *dst, f ring.Frame, from, to uint16, l4 int) []ring.Desc {
	sum := ip.Add(d.sum, uint16(l4))
	pkt := s.tx[:0]
	for g := f; g != ring.NoFrame; g = s.arena.Meta(g).Prev {
		m := s.arena.Meta(g)
		sum = ip.Add(sum, m.Sum) // every piece but the last is of even length
		pkt = append(pkt, ring.Desc{Frame: g, Off: m.Off, Len: m.Len, Flags: ring.FlagMore})
	}
	pkt[len(pkt)-1].Flags = 0
	pkt[0].Off -= udp.HeaderLen
	pkt[0].Len += udp.HeaderLen
	hdr := s.arena.Bytes(f)[pkt[0].Off:]
	if s.host.TxCsum {
		pkt[0].Flags |= ring.FlagCsumPartial
		pkt[0].CsumStart, pkt[0].CsumOff, pkt[0].HdrLen = 0, udp.ChecksumOff, udp.HeaderLen
		udp.PutPartial(hdr, from, to, l4, sum)
		return pkt
	}
	udp.Put(hdr, from, to, l4, sum)
	return pkt
}

// leads reports whether d, to which u sent before, is the destination of a
// datagram. An invalid src is the route's.
func (u *UDPConn) leads(d *dst, src netip.Addr, dst netip.AddrPort, tos, ttl uint8) bool {
	k := &d.key
	if k.Remote != dst.Addr() || k.tos != tos&^3 || k.ttl != ttl || k.rport != 0 && k.rport != dst.Port() {
		return false
	}
	if src.IsValid() {
		return k.Local == src
	}
	return !u.named
}

// unmapped returns a without the IPv6 form of an IPv4 address.
func unmapped(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

// udpDst finds the destination of a datagram. A socket remembers its last one.
func (s *Stack) udpDst(u *UDPConn, local netip.Addr, remote netip.AddrPort, tos, ttl uint8) *dst {
	named := local.IsValid()
	k := s.dests.trim(dstKey{
		Pair:  tcp.Pair{Local: local, Remote: remote.Addr()},
		proto: ip.ProtoUDP, tos: tos &^ 3, routeTOS: tos &^ 3, ttl: ttl, unbound: !named,
		lport: u.local.Port(), rport: remote.Port(),
	})
	if !named {
		r, err := s.cfg.Net.Route(k.flow())
		if err != nil || !r.Src.IsValid() {
			return nil
		}
		k.Local = r.Src
	}
	d := s.dests.get(k, nil, s.now)
	if d == nil {
		return nil
	}
	s.dests.unref(u.dst)
	u.dst, u.named = d, named
	return d
}
