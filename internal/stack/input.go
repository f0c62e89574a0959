package stack

import (
	"sync/atomic"

	"github.com/onload-go/onload/internal/control"
	"github.com/onload-go/onload/ip"
	"github.com/onload-go/onload/ring"
)

// input dispatches a batch of Descs that queue qi received. Every frame is kept
// or freed.
func (s *Stack) input(qi int, ds []ring.Desc) {
	s.rx.queue, s.rx.on = qi, s.home[qi]
	for at := 0; at < len(ds); {
		n, total := ring.PacketLen(ds[at:])
		pkt := s.network(ds[at:at+n], total)
		at += n
		if len(pkt) == 0 {
			continue
		}
		if s.rx.pkt.Proto == ip.ProtoTCP {
			s.tcpInput(pkt)
		} else {
			s.transport(pkt)
		}
	}
}

// network reads the link and IP headers into rx.pkt. It returns the packet without
// them, or nil if the packet was dropped or is a fragment.
func (s *Stack) network(ds []ring.Desc, total int) []ring.Desc {
	p := &s.rx.pkt
	first := s.arena.Bytes(ds[0].Frame)[ds[0].Off:][:ds[0].Len]
	if s.rx.again = s.rx.repeat.Match(first, total, p); !s.rx.again {
		s.rx.repeat.Forget()
		s.demux.lastPorts = 0
		err := ip.Parse(first, total, p)
		if s.rx.on.host != nil && s.hostTakes(first, total, err) {
			s.cache.FreeDescs(ds)
			return nil
		}
		if err != nil {
			if err == ip.ErrHeader && s.fragments.Return != nil && s.icmp.Allow(s.now) {
				s.fragments.Return(s.rx.queue, ds) // the kernel answers (RFC 8200, 4.2; RFC 1122, 3.2.2.5)
			}
			s.drop(ds, &s.counters.rxMalformed)
			return nil
		}
		s.rx.group = s.groups.has(p.Dst, p.Proto)
		// The steering takes packets by port. Drop in silence those to other hosts'
		// addresses, link or IP, and those that no honest host sends (attack 20).
		if !s.rx.on.hears(p.DstMAC) || ip.Bogus(p.Src, p.Dst) || !s.locals.has(p.Dst) && !s.rx.group || p.Tags > 0 && !s.rx.on.onVLAN(p) {
			if p.Fragment && s.fragments.Return != nil {
				s.fragments.Return(s.rx.queue, ds) // without ports it was taken by our ports' addresses
			}
			s.drop(ds, &s.counters.rxBogus)
			return nil
		}
		verdict := control.Accepted // of what the kernel has given us
		if s.rx.on != &s.rx.inlet.on {
			verdict = s.locals.accepts(s.rx.on.of(p), p, first, s.now)
		}
		if verdict != control.Accepted && verdict != control.AcceptedFlow && !s.takes(verdict, ds) {
			s.drop(ds, &s.counters.rxBogus)
			return nil
		}
		if p.Fragment {
			if s.demux.mates.team == nil || !s.handFragment(ds) {
				s.fragment(ds)
			}
			return nil
		}
		if verdict == control.Accepted && p.Proto != ip.ProtoICMP && p.Proto != ip.ProtoICMPv6 {
			// The headers say nothing of ports. Of ICMP they do not say either whether
			// the next packet is the link's host's.
			s.rx.repeat.Learn(first, p)
		}
		s.rx.pseudo = ip.PseudoSum(p.Src, p.Dst, p.Proto, 0)
	}
	if ds = s.trim(ds, p.L4Off, p.L4Len); ds == nil {
		s.counters.rxMalformed.Add(1)
	}
	return ds
}

// takes reports whether the packet in rx.pkt, which the kernel has not accepted, is taken
// all the same. Only the kernel leads on what is not this host's.
func (s *Stack) takes(verdict control.Verdict, ds []ring.Desc) bool {
	switch verdict {
	case control.Unasked:
		return s.unjudged(ds)
	case control.Elsewhere:
		s.returnUntaken(ds)
	}
	return false
}

// unjudged reports whether the packet in rx.pkt, of a source that only the kernel can
// judge, is taken: one of our connections is nobody else's, and the source of a handshake
// that we answered was judged then. The kernel looks up no source for connections either
// (ip_rcv_finish_core, early demultiplexing). All others go back to the kernel, and the
// twin of our socket has what it takes. If that is a SYN, later segments of its
// connection follow it, judged or not (returnTwins).
func (s *Stack) unjudged(ds []ring.Desc) bool {
	p := &s.rx.pkt
	if first := s.arena.Data(ds[0]); !p.Fragment && (s.demux.connected(p, first) || s.demux.opening(p, first, s.now)) {
		return true
	}
	if s.fragments.Return != nil && p.Proto == ip.ProtoTCP {
		s.demux.twinsServe().Store(true)
	}
	s.returnUntaken(ds)
	return false
}

// trim cuts ds to the n bytes from off on. It removes off bytes of headers in
// front, and the Ethernet padding behind. If the packet is shorter it frees the
// frames and returns nil.
func (s *Stack) trim(ds []ring.Desc, off, n int) []ring.Desc {
	if int(ds[0].Len) < off {
		s.cache.FreeDescs(ds)
		return nil
	}
	ds[0].Off += uint16(off)
	ds[0].Len -= uint16(off)
	if len(ds) == 1 && int(ds[0].Len) == n {
		return ds // as nearly always
	}
	for i := range ds {
		if int(ds[i].Len) >= n {
			ds[i].Len = uint16(n)
			ds[i].Flags &^= ring.FlagMore
			s.cache.FreeDescs(ds[i+1:])
			return ds[:i+1]
		}
		n -= int(ds[i].Len)
	}
	s.cache.FreeDescs(ds)
	return nil
}

// drop frees the frames of a received packet, and counts it.
func (s *Stack) drop(ds []ring.Desc, counter *atomic.Uint64) {
	counter.Add(1)
	s.cache.FreeDescs(ds)
}

// transport dispatches the packet in rx.pkt. ds starts at its transport header
// and ends with its payload.
func (s *Stack) transport(ds []ring.Desc) {
	switch s.rx.pkt.Proto {
	case ip.ProtoTCP:
		s.tcpInput(ds)
	case ip.ProtoUDP:
		s.udpInput(ds)
	case ip.ProtoICMP, ip.ProtoICMPv6:
		s.icmpInput(ds)
	default:
		s.drop(ds, &s.counters.rxMalformed)
	}
}

// checksumOK verifies the transport checksum found at field of the packet
// that ds holds.
func (s *Stack) checksumOK(ds []ring.Desc, field uint16) bool {
	p := &s.rx.pkt
	if ds[0].Flags&(ring.FlagCsumGood|ring.FlagCsumPartial) != 0 {
		return true
	}
	sum := ip.Add(s.rx.pseudo, ip.Add(uint16(p.L4Len>>16), uint16(p.L4Len)))
	// Between virtual machines and namespaces packets cross no wire, and the
	// sender's kernel leaves only the pseudo-header's sum in the field
	// (CHECKSUM_PARTIAL). A real NIC never delivers that.
	if s.rx.virtual>>s.rx.queue&1 != 0 && field == sum {
		return true
	}
	return ip.Add(sum, s.sum(ds)) == 0xffff
}

// sum returns the sum (RFC 1071) of the bytes that ds hold one after the other.
func (s *Stack) sum(ds []ring.Desc) (sum uint16) {
	odd := false
	for i := range ds {
		part := ip.Sum(s.arena.Data(ds[i]))
		if odd {
			part = ip.Swap(part)
		}
		sum = ip.Add(sum, part)
		odd = odd != (ds[i].Len&1 != 0)
	}
	return sum
}
