package stack

import (
	"encoding/binary"
	"net/netip"
	"syscall"

	"github.com/onload-go/onload/ip"
	"github.com/onload-go/onload/ring"
	"github.com/onload-go/onload/udp"
)

// A datagram on its way is a chain of frames: the first on UDPConn.sendq, the
// others behind it through Meta.Prev. Until the headers are written, the
// first frame's headroom carries where it goes.
const (
	envRemote = 0  // 16 bytes
	envLocal  = 16 // 16 bytes, zero: the route's
	envPort   = 32 // remote port
	envLen    = 34 // payload bytes of the datagram, 4 bytes
	envSize   = 38

	maxUDP4 = 65535 - 20 - udp.HeaderLen // payload: IPv4's total length counts its header (RFC 791, 3.1)
	maxUDP6 = 65535 - udp.HeaderLen      // IPv6's payload length does not (RFC 8200, 3)
)

// WriteTo sends p to dst, or to the peer of a connected socket where dst is
// zero. A datagram is sent whole or not at all.
func (u *UDPConn) WriteTo(p []byte, dst netip.AddrPort) (int, error) {
	return u.WriteFrom(p, netip.Addr{}, dst)
}

// WriteFrom is WriteTo with a source address of the caller's choice, which
// must be one of the host's.
func (u *UDPConn) WriteFrom(p []byte, src netip.Addr, dst netip.AddrPort) (int, error) {
	if !dst.IsValid() {
		if dst = u.remote; !dst.IsValid() {
			return 0, syscall.EDESTADDRREQ
		}
	}
	if len(p) > maxUDP6 || len(p) > maxUDP4 && dst.Addr().Is4() {
		return 0, syscall.EMSGSIZE
	}
	if !src.IsValid() && u.local.Addr().IsValid() && !u.local.Addr().IsUnspecified() {
		src = u.local.Addr()
	}
	if src.IsValid() && src.Is4() != dst.Addr().Is4() {
		return 0, syscall.EINVAL
	}
	u.wmu.Lock()
	defer u.wmu.Unlock()
	for {
		if err := u.check(&u.w); err != nil {
			return 0, err
		}
		if e := u.lost.Load(); e != 0 {
			return 0, syscall.Errno(e)
		}
		if u.queued.Load() < u.sndBuf.Load() {
			if len(p) <= smallWrite && u.sendNow(p, src, dst) {
				return len(p), nil
			}
			if f, ok := u.s.envelop(p, src, dst); ok {
				u.queued.Add(u.s.chainBytes(f))
				u.sendq.Push(u.s.arena, f)
				u.send()
				return len(p), nil
			}
			// The arena is exhausted: what the device holds comes back first.
			if !u.s.pollOnce() {
				return 0, syscall.ENOBUFS
			}
			continue
		}
		if err := u.s.wait(u, dirWrite, &u.w); err != nil {
			return 0, err
		}
	}
}

// send has what WriteTo left sent: now, if the lock is free, else by its
// holder. wmu is held.
func (u *UDPConn) send() {
	s := u.s
	if !s.lock.Defer(&u.work) {
		return
	}
	s.enter()
	s.doWork(&u.work)
	u.endSend()
}

// endSend ends the turn that sent a datagram of u's.
func (u *UDPConn) endSend() {
	s := u.s
	batch := s.batches && s.deferKick(u)
	s.leave()
	if batch {
		u.flood.last = nanotime() // the kick took longer than a pause may
	}
}

// sendNow sends p at once, without the hand-over that sendq is, where the lock
// is free and nothing stands in the way. wmu is held.
func (u *UDPConn) sendNow(p []byte, src netip.Addr, dst netip.AddrPort) bool {
	s := u.s
	if u.queued.Load() != 0 || !s.lock.TryLock() {
		return false
	}
	s.enter()
	if s.closing.Load() || !s.sendSmall(u, p, src.Unmap(), dst) {
		s.leave()
		return false
	}
	u.endSend()
	return true
}

// sendSmall sends p in one packet to the destination that u sent to before;
// false: it was not sent. The lock is held.
func (s *Stack) sendSmall(u *UDPConn, p []byte, src netip.Addr, to netip.AddrPort) bool {
	d := u.dst
	l4 := udp.HeaderLen + len(p)
	if d == nil || d.gone || !d.ready || d.key.Remote != to.Addr().Unmap() || u.leaves(d, src) ||
		l4+d.hdr.NetLen() > s.mtu(d) {
		return false
	}
	f, ok := s.cache.Alloc()
	if !ok {
		return false
	}
	m := s.arena.Meta(f)
	m.Off, m.Len = ring.Headroom, uint16(len(p))
	m.Sum = s.host.Fill(s.arena.Bytes(f)[ring.Headroom:], p)
	m.Prev = ring.NoFrame
	if ok = s.send(d, 0, s.udpPacket(d, f, u.local.Port(), to.Port(), l4), d.ecn()); ok {
		s.confirm(d)
		s.counters.udpOut.Add(1)
	}
	s.cache.Release(f)
	return ok
}

// envelop copies a datagram into frames, summing it on the way unless the
// device does.
func (s *Stack) envelop(p []byte, src netip.Addr, dst netip.AddrPort) (first ring.Frame, ok bool) {
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
	a := dst.Addr().As16()
	copy(e[envRemote:], a[:])
	a = [16]byte{}
	if src.IsValid() {
		a = src.As16()
	}
	copy(e[envLocal:], a[:])
	binary.BigEndian.PutUint16(e[envPort:], dst.Port())
	binary.BigEndian.PutUint32(e[envLen:], uint32(len(p)))
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

// sendQueued sends what WriteTo left. The lock is held.
func (s *Stack) sendQueued(u *UDPConn) {
	first, last := u.sendq.TakeAll(s.arena)
	if first != ring.NoFrame {
		if u.sending == ring.NoFrame {
			u.sending = first
		} else {
			s.arena.Meta(u.sendingLast).Next = first
		}
		u.sendingLast = last
	}
	for f := u.sending; f != ring.NoFrame; f = u.sending {
		next := s.arena.Meta(f).Next
		if !s.sendDatagram(u, f) {
			if !u.waiting {
				u.waiting = true
				s.udpWait = append(s.udpWait, u)
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
	// What was, and what is, by one look: the writer adds to it meanwhile.
	if left := u.queued.Add(-n); left < limit && left+n >= limit {
		s.notify(&u.w)
	}
	s.freeChain(f)
}

// dropQueued frees what a closing socket could not send.
func (s *Stack) dropQueued(u *UDPConn) {
	for f := u.sending; f != ring.NoFrame; {
		next := s.arena.Meta(f).Next
		s.sentDatagram(u, f)
		f = next
	}
	u.sending = ring.NoFrame
}

// sendDatagram sends one datagram; false: the transmit ring is full. One that
// cannot be sent at all is dropped, as IP does.
func (s *Stack) sendDatagram(u *UDPConn, f ring.Frame) bool {
	e := s.arena.Bytes(f)[:envSize]
	remote := netip.AddrFrom16([16]byte(e[envRemote:])).Unmap()
	port := binary.BigEndian.Uint16(e[envPort:])
	size := int(binary.BigEndian.Uint32(e[envLen:]))
	var local netip.Addr // invalid: the route's
	if a := [16]byte(e[envLocal:]); a != ([16]byte{}) {
		local = netip.AddrFrom16(a).Unmap()
	}
	d := u.dst
	if d == nil || d.gone || d.key.Remote != remote || u.leaves(d, local) {
		if d = s.udpDst(u, local, remote); d == nil {
			s.counters.txNoRoute.Add(1)
			return true
		}
	}
	s.confirm(d)
	l4 := udp.HeaderLen + size
	pkt := s.udpPacket(d, f, u.local.Port(), port, l4)
	if !s.sendAny(d, 0, pkt, d.ecn()) {
		return false
	}
	s.counters.udpOut.Add(1)
	return true
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
		pkt[0].CsumStart, pkt[0].CsumOff = 0, udp.ChecksumOff
		udp.PutPartial(hdr, from, to, l4, sum)
		return pkt
	}
	udp.Put(hdr, from, to, l4, sum)
	return pkt
}

// leaves tells whether a datagram from src, invalid for the route's, is not from
// the address of d, to which u sent before.
func (u *UDPConn) leaves(d *dst, src netip.Addr) bool {
	if src.IsValid() {
		return d.key.Local != src
	}
	return u.named
}

// udpDst finds where a datagram goes; an unconnected socket remembers its
// last destination.
func (s *Stack) udpDst(u *UDPConn, local, remote netip.Addr) *dst {
	named := local.IsValid()
	if !named {
		r, err := s.cfg.Net.Route(remote, netip.Addr{})
		if err != nil || !r.Src.IsValid() {
			return nil
		}
		local = r.Src
	}
	d := s.dst(u.ip.key(local, remote, ip.ProtoUDP))
	if d == nil {
		return nil
	}
	s.unref(u.dst)
	u.dst, u.named = d, named
	return d
}
