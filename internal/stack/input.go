package stack

import (
	"net/netip"

	"github.com/onload-go/onload/ip"
	"github.com/onload-go/onload/ring"
)

// input dispatches a batch of received Descs; every frame is kept or freed.
func (s *Stack) input(qi int, ds []ring.Desc) {
	for at := 0; at < len(ds); {
		n, total := ring.PacketLen(ds[at:])
		pkt := s.network(qi, ds[at:at+n], total)
		at += n
		if len(pkt) == 0 {
			continue
		}
		if s.pkt.Proto == ip.ProtoTCP {
			s.tcpInput(qi, pkt)
		} else {
			s.transport(qi, pkt)
		}
	}
}

// network reads the headers below the transport's, into s.pkt. It returns the
// packet without them; nil: it was dropped, or is a fragment.
func (s *Stack) network(qi int, ds []ring.Desc, total int) []ring.Desc {
	p := &s.pkt
	first := s.arena.Bytes(ds[0].Frame)[ds[0].Off:][:ds[0].Len]
	if s.again = s.repeat.Match(first, total, p); !s.again {
		s.repeat.Forget()
		s.lastPorts = 0
		if err := ip.Parse(first, total, p); err != nil {
			s.counters.rxMalformed.Add(1)
			s.cache.FreeDescs(ds)
			return nil
		}
		// The steering takes packets by port; those to other hosts' addresses,
		// and those that no honest host sends, are dropped in silence (attack
		// 20).
		if ip.Bogus(p.Src, p.Dst) || !s.ours(p.Dst) || p.Tags > 0 && !s.onVLAN(p) {
			s.counters.rxBogus.Add(1)
			s.cache.FreeDescs(ds)
			return nil
		}
		if p.Fragment {
			s.fragment(qi, ds)
			return nil
		}
		s.repeat.Learn(first, p)
		s.pseudo = ip.PseudoSum(p.Src, p.Dst, p.Proto, 0)
	}
	ds = s.trim(ds, p.L4Off, p.L4Len)
	if ds == nil {
		s.counters.rxMalformed.Add(1)
	}
	return ds
}

// trim cuts ds to the n bytes from off on: the headers in front and Ethernet
// padding behind. nil: the packet is shorter than that; its frames are freed.
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

// transport dispatches the packet in s.pkt; ds starts at its transport header
// and ends with its payload.
func (s *Stack) transport(qi int, ds []ring.Desc) {
	switch s.pkt.Proto {
	case ip.ProtoTCP:
		s.tcpInput(qi, ds)
	case ip.ProtoUDP:
		s.udpInput(qi, ds)
	case ip.ProtoICMP, ip.ProtoICMPv6:
		s.icmpInput(ds)
	default:
		s.counters.rxMalformed.Add(1)
		s.cache.FreeDescs(ds)
	}
}

// ours tells whether a is one of this interface's addresses, or one that the
// host would answer for on it.
func (s *Stack) ours(a netip.Addr) bool {
	if a == s.lastLocal {
		return true
	}
	if _, ok := s.cfg.Net.Local(a); !ok {
		return false
	}
	s.lastLocal = a
	return true
}

// onVLAN tells whether a tagged packet is on this interface, or a VLAN above it:
// those of other VLANs are other networks, which a trunk carries too (IEEE
// 802.1Q). VID 0 is no VLAN but a priority; of VLANs within VLANs we have none.
func (s *Stack) onVLAN(p *ip.Packet) bool {
	return p.Tags == 1 && (p.VLAN == 0 || s.vlans[p.VLAN])
}

// learnVLANs reads from the mirror which VLANs there are. The lock is held.
func (s *Stack) learnVLANs() {
	s.vlans = make(map[uint16]bool)
	for _, l := range s.cfg.Net.Links() {
		if l.VLAN != 0 && l.Parent == s.cfg.Link && l.Up {
			s.vlans[l.VLAN] = true
		}
	}
}

// checksumOK verifies the transport checksum found at field of the packet
// that ds holds.
func (s *Stack) checksumOK(ds []ring.Desc, field uint16) bool {
	p := &s.pkt
	if ds[0].Flags&(ring.FlagCsumGood|ring.FlagCsumPartial) != 0 {
		return true
	}
	sum := ip.Add(s.pseudo, ip.Add(uint16(p.L4Len>>16), uint16(p.L4Len)))
	// Between virtual machines and namespaces no wire is crossed, and the
	// sender's kernel leaves only the pseudo-header's sum in the field
	// (CHECKSUM_PARTIAL). A real NIC never delivers that.
	if s.virtual && field == sum {
		return true
	}
	odd := false
	for i := range ds {
		part := ip.Sum(s.arena.Data(ds[i]))
		if odd {
			part = ip.Swap(part)
		}
		sum = ip.Add(sum, part)
		odd = odd != (ds[i].Len&1 != 0)
	}
	return sum == 0xffff
}
