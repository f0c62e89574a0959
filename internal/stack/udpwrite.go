package stack

import (
	"net/netip"
	"syscall"

	"github.com/onload-go/onload/ring"
	"github.com/onload-go/onload/udp"
)

// Message says how a datagram is sent. The zero value of a field is the socket's
// own setting.
type Message struct {
	Src    netip.Addr     // one of the host's addresses
	Dst    netip.AddrPort // zero: the peer of a connected socket
	TOS    uint8          // TOS or traffic class, if HasTOS
	HasTOS bool
	TTL    uint8 // TTL or hop limit
	Seg    int   // the payload is cut into datagrams of so many bytes (UDP_SEGMENT)
	More   bool  // others follow, or Flush: it may wait for them

	tos, ttl uint8 // of the packet, see ends
}

// PathMTUMode says how datagrams are handled that exceed the path's MTU
// (IP_MTU_DISCOVER).
type PathMTUMode uint8

const (
	PathMTUWant  PathMTUMode = iota // they are fragmented
	PathMTUDo                       // EMSGSIZE
	PathMTUProbe                    // they are sent; EMSGSIZE above the link's MTU
)

// maxSegments is how many datagrams one write is cut into at most: the kernel's
// UDP_MAX_SEGMENTS.
const maxSegments = 128

// WriteTo sends p to dst; if that is zero, to the peer of a connected socket. A
// datagram is sent whole or not at all.
func (u *UDPConn) WriteTo(p []byte, dst netip.AddrPort) (int, error) {
	m := Message{Dst: dst}
	return u.WriteMsg(p, &m)
}

// WriteFrom is WriteTo with a source address of the caller's choice, which
// must be one of the host's.
func (u *UDPConn) WriteFrom(p []byte, src netip.Addr, dst netip.AddrPort) (int, error) {
	m := Message{Src: src, Dst: dst}
	return u.WriteMsg(p, &m)
}

// WriteMsg sends p as m says. It completes m.
func (u *UDPConn) WriteMsg(p []byte, m *Message) (int, error) {
	u.wmu.Lock()
	if m.Seg == 0 {
		m.Seg = u.seg
	}
	if !m.More && m.Seg == 0 {
		if d := u.packNow(p, m); d != nil {
			s := u.s
			if s.sentSmall(d, s.send(d, 0, s.tx[:1], m.tos&3)) {
				u.endSend()
				u.wmu.Unlock()
				return len(p), nil
			}
			s.end()
		}
	}
	for {
		queued, err := u.enqueue(p, m)
		switch {
		case queued && !m.More:
			u.send()
		case !queued && err == nil:
			if m.More {
				u.send() // the datagrams that this one waits for make room
			}
			if err = u.s.wait(u, dirWrite, &u.w); err == nil {
				continue
			}
		}
		u.wmu.Unlock()
		if err != nil {
			return 0, err
		}
		return len(p), nil
	}
}

// Flush sends datagrams that wait for more messages.
func (u *UDPConn) Flush() {
	u.wmu.Lock()
	u.send()
	u.wmu.Unlock()
}

// ends completes m for a datagram of n bytes. The source may stay invalid: the
// route's.
func (u *UDPConn) ends(n int, m *Message) error {
	if !m.Dst.IsValid() {
		if m.Dst = u.remote; !m.Dst.IsValid() {
			return syscall.EDESTADDRREQ
		}
	}
	is4 := m.Dst.Addr().Is4()
	if n > maxUDP6 || n > maxUDP4 && is4 {
		return syscall.EMSGSIZE
	}
	switch own := u.local.Addr(); {
	case m.Src.IsValid():
	case own.IsValid() && !own.IsUnspecified():
		m.Src = own
	case m.Dst.Addr().IsMulticast():
		m.Src = u.ip.GroupSrc(m.Dst.Addr())
	}
	if m.Src.IsValid() && m.Src.Is4() != is4 {
		return syscall.EINVAL
	}
	m.tos, m.ttl = u.ip.TrafficClass, u.ip.ttl(m.Dst.Addr())
	if is4 {
		m.tos = u.ip.TOS
	}
	if m.HasTOS {
		m.tos = m.TOS
	}
	if m.TTL != 0 {
		m.ttl = m.TTL
	}
	return nil
}

// enqueue puts a datagram, or those that p is cut into, on sendq. false, nil: try
// again as soon as u is ready. wmu is held.
func (u *UDPConn) enqueue(p []byte, m *Message) (queued bool, err error) {
	if err := u.ends(len(p), m); err != nil {
		return false, err
	}
	if err := u.check(&u.w); err != nil {
		return false, err
	}
	if e := u.lost.Load(); e != 0 {
		return false, syscall.Errno(e)
	}
	each := len(p)
	if m.Seg > 0 && m.Seg < each {
		if each > maxSegments*m.Seg {
			return false, syscall.EINVAL
		}
		each = m.Seg
	}
	if most := u.most(m); each > most {
		return false, syscall.EMSGSIZE
	}
	if u.queued.Load() >= u.sndBuf.Load() {
		return false, nil
	}
	first, ok := u.cut(p, each, m)
	if !ok {
		// The arena is exhausted: frames that the device holds come back first.
		if !u.s.pollOnce() {
			return false, syscall.ENOBUFS
		}
		return false, nil
	}
	for f := first; f != ring.NoFrame; {
		next := u.s.arena.Meta(f).Next
		u.queued.Add(u.s.chainBytes(f))
		u.sendq.Push(u.s.arena, f)
		f = next
	}
	return true, nil
}

// cut copies p into datagrams of each bytes, a list through Meta.Next. false: the
// arena has not enough frames.
func (u *UDPConn) cut(p []byte, each int, m *Message) (first ring.Frame, ok bool) {
	a := u.s.arena
	first, last := ring.NoFrame, ring.NoFrame
	for {
		n := min(each, len(p))
		f, ok := u.s.envelop(p[:n], m)
		if !ok {
			for first != ring.NoFrame {
				next := a.Meta(first).Next
				u.s.freeChain(first)
				first = next
			}
			return ring.NoFrame, false
		}
		a.Meta(f).Next = ring.NoFrame
		if first == ring.NoFrame {
			first = f
		} else {
			a.Meta(last).Next = f
		}
		last = f
		if p = p[n:]; len(p) == 0 {
			return first, true
		}
	}
}

// most returns the largest payload that may be sent as m says, in bytes. If
// datagrams must not be fragmented, it is what the path or the link takes whole.
// Those of a write that is cut never are (UDP_SEGMENT).
func (u *UDPConn) most(m *Message) int {
	dst := unmapped(m.Dst)
	mode := u.ip.mtuMode(dst.Addr())
	if mode == PathMTUWant && m.Seg == 0 {
		return maxUDP6
	}
	s := u.s
	mtu := s.caps.MTU // a datagram that no link takes is refused at once
	if mode != PathMTUProbe {
		s.begin()
		d, src := u.dst, m.Src.Unmap()
		if (d == nil || d.gone || !u.leads(d, src, dst, m.tos, m.ttl)) && !s.life.closing.Load() {
			d = s.udpDst(u, src, dst, m.tos, m.ttl)
		}
		if d != nil {
			mtu = s.dests.mtuOf(d, s.now)
		}
		s.end()
	}
	if dst.Addr().Is4() {
		return mtu - 20 - udp.HeaderLen
	}
	return mtu - 40 - udp.HeaderLen
}

// SetSegment sets the bytes of the datagrams that each write is cut into, unless
// its message says otherwise; 0: writes are not cut.
func (u *UDPConn) SetSegment(n int) {
	u.wmu.Lock()
	u.seg = n
	u.wmu.Unlock()
}

// SetIP changes what u's packets have in their IP headers.
func (u *UDPConn) SetIP(o IPOptions) {
	u.wmu.Lock()
	u.s.begin()
	u.ip = o
	u.s.end()
	u.wmu.Unlock()
}
