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
	ok := len(ds) == 1 && s.icmpSumOK(b) && ip.ParseICMPError(&s.pkt, b, &e)
	s.cache.FreeDescs(ds)
	if !ok {
		s.counters.rxMalformed.Add(1)
		return
	}
	s.counters.icmpErrors.Add(1)
	key := makeFlowKey(e.Local, e.Remote)
	switch e.Proto {
	case ip.ProtoTCP:
		if c := s.flows[key]; c != nil {
			c.tc.ICMP(&e, s.now)
			s.touch(c)
		}
	case ip.ProtoUDP:
		// Only a connected socket learns of it, as on Linux.
		if u := s.udpFlows[key]; u != nil {
			if errno, hard := e.Errno(); hard {
				u.fail(errno)
			}
		}
	}
}

// icmpSumOK verifies the ICMP checksum of the packet in s.pkt.
func (s *Stack) icmpSumOK(b []byte) bool {
	p := &s.pkt
	sum := ip.Sum(b)
	if p.V6 {
		sum = ip.Add(sum, ip.PseudoSum(p.Src, p.Dst, ip.ProtoICMPv6, len(b)))
	}
	return sum == 0xffff
}
