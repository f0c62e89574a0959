package stack

import (
	"github.com/onload-go/onload/ip"
	"github.com/onload-go/onload/ring"
)

// icmpInput gives an ICMP error to the socket whose packet it quotes. The
// steering passes us only errors about our own flows; echo and all else stay
// the kernel's, redirects are ignored (attack 14).
func (s *Stack) icmpInput(ds []ring.Desc) {
	b := s.arena.Data(ds[0])
	var e ip.ICMPError
	ok := len(ds) == 1 && s.icmpSumOK(b) && ip.ParseICMPError(&s.rx.pkt, b, &e)
	s.cache.FreeDescs(ds)
	if !ok {
		s.counters.rxMalformed.Add(1)
		return
	}
	s.counters.icmpErrors.Add(1)
	if !s.icmpError(&e) && s.demux.mates.team != nil {
		s.handError(&e)
	}
}

// icmpError tells the socket of the flow that e is about, and reports whether there
// is one.
func (s *Stack) icmpError(e *ip.ICMPError) (known bool) {
	switch e.Proto {
	case ip.ProtoTCP:
		c := s.demux.conn(e.Local, e.Remote)
		if c == nil {
			return false
		}
		if !(e.IsPTB() && c.dst.route.MTULocked) {
			c.tc.ICMP(e, s.now)
			s.touch(c)
		}
	case ip.ProtoUDP:
		if e.IsPTB() {
			s.udpTooBig(e)
		}
		// Only a connected socket learns of it, as on Linux. That a datagram was
		// too large is an error too: it is lost (RFC 1122, 4.1.3.3).
		u := s.demux.udpFlows[makeFlowKey(e.Local, e.Remote)]
		if u == nil {
			return false
		}
		if errno, hard := e.Errno(); hard || e.IsPTB() {
			u.fail(errno)
		}
	}
	return true
}

const pathMTUTime = int64(600e9) // RFC 1191, 6.3: 10 minutes

// udpTooBig learns the MTU of a path from a router's report on a datagram of ours.
// Datagrams carry DF, and from now on are cut to fit. Anybody who knows the ports
// can forge a report, so it is not believed below a floor, nor for long (RFC 5927,
// 7; RFC 8201, 4).
func (s *Stack) udpTooBig(e *ip.ICMPError) {
	u := s.demux.udpSocket(e.Local, e.Remote)
	if u == nil {
		return
	}
	d := u.dst // its last destination, which may have options of a message's
	if k := s.dests.trim(u.ip.key(e.Local, e.Remote, ip.ProtoUDP)); d == nil || d.key.Pair != k.Pair {
		d = s.dests.all[k]
	}
	if d == nil || d.route.MTULocked {
		return
	}
	// Below 1280 bytes ip refuses IPv6's.
	if m := max(e.MTU, ip.MinPathMTU4); m < s.dests.mtuOf(d, s.now) {
		d.pathMTU, d.pathUntil = m, s.now+pathMTUTime
	}
}

// icmpSumOK verifies the ICMP checksum of the packet in s.pkt.
func (s *Stack) icmpSumOK(b []byte) bool {
	p := &s.rx.pkt
	sum := ip.Sum(b)
	if p.V6 {
		sum = ip.Add(sum, ip.PseudoSum(p.Src, p.Dst, ip.ProtoICMPv6, len(b)))
	}
	return sum == 0xffff
}
