package stack

import (
	"github.com/onload-go/onload/ip"
	"github.com/onload-go/onload/ring"
)

// ICMP errors that we send: Linux's icmp_msgs_per_sec and icmp_msgs_burst.
const (
	icmpPerSecond = 1000
	icmpBurst     = 50
)

// portUnreachable answers a datagram that nobody wants, and frees it: its socket was
// closed a moment ago. One that the kernel gave has no answer: the way that it came is
// not known, and no queue leads there.
func (s *Stack) portUnreachable(ds []ring.Desc) {
	if s.rx.on == &s.rx.inlet.on {
		s.cache.FreeDescs(ds)
		return
	}
	p := &s.rx.pkt
	back := uint16(p.L4Off - p.NetOff) // the IP header still stands in front
	s.replyICMP(s.rx.queue, ip.PortUnreachable, p, s.arena.Bytes(ds[0].Frame)[ds[0].Off-back:ds[0].Off+ds[0].Len])
	s.cache.FreeDescs(ds)
}

// reassemblyTimeout answers the first fragment ds of a datagram that stayed
// incomplete. The kernel has not seen it.
func (s *Stack) reassemblyTimeout(from int, ds []ring.Desc) {
	total := 0
	for i := range ds {
		total += int(ds[i].Len)
	}
	var p ip.Packet
	first := s.arena.Data(ds[0])
	if ip.Parse(first, total, &p) == nil {
		s.replyICMP(from, ip.ReassemblyTimeout, &p, first[p.NetOff:])
	}
}

// replyICMP answers the packet p, of which quote is the beginning and which came by
// the queue from, with an error, as far as the limiter allows.
func (s *Stack) replyICMP(from int, e ip.ICMPReply, p *ip.Packet, quote []byte) {
	if !p.Answerable() || !s.icmp.Allow(s.now) {
		return
	}
	f, ok := s.cache.Alloc()
	if !ok {
		return
	}
	var h ip.Header
	proto := uint8(ip.ProtoICMP)
	if p.V6 {
		proto = ip.ProtoICMPv6
	}
	h.InitReply(p, proto, 0, defaultTTL)
	n := ip.PutICMPReply(s.arena.Bytes(f)[ring.Headroom:], e, p, quote)
	pkt := append(s.fragments.tx[:0], ring.Desc{Frame: f, Off: ring.Headroom, Len: uint16(n)})
	h.Put(s.front(pkt, h.Len()), n, 0, atomicID)
	s.post(int(s.home[from].tx[from]), pkt, h.Len())
	s.cache.Release(f)
}
