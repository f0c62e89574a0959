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

// portUnreachable answers a datagram that nobody wants, as far as the limiter
// allows, and frees it: its socket was closed a moment ago.
func (s *Stack) portUnreachable(ds []ring.Desc) {
	p := &s.rx.pkt
	if p.Answerable() && s.icmp.Allow(s.now) {
		if f, ok := s.cache.Alloc(); ok {
			back := uint16(p.L4Off - p.NetOff) // the IP header still stands in front
			quote := s.arena.Bytes(ds[0].Frame)[ds[0].Off-back : ds[0].Off+ds[0].Len]
			var h ip.Header
			proto := uint8(ip.ProtoICMP)
			if p.V6 {
				proto = ip.ProtoICMPv6
			}
			h.InitReply(p, proto, 0, defaultTTL)
			n := ip.PutPortUnreachable(s.arena.Bytes(f)[ring.Headroom:], p, quote)
			pkt := append(s.fragments.tx[:0], ring.Desc{Frame: f, Off: ring.Headroom, Len: uint16(n)})
			h.Put(s.front(pkt, h.Len()), n, 0, atomicID)
			s.post(int(s.rx.on.tx[s.rx.queue]), pkt, h.Len())
			s.cache.Release(f)
		}
	}
	s.cache.FreeDescs(ds)
}
