package stack

import (
	"encoding/binary"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/ip"
	"github.com/onload-go/onload/ring"
	"github.com/onload-go/onload/tcp"
)

// returnStray gives the kernel a packet to a port of ours that no socket of ours is for,
// and frees it, in three cases: the port's listener or bound socket has closed (see
// leaving); the stack is about to close; the host forwards. Where it forwards, the
// kernel may masquerade other hosts behind the port, since it chooses ports by the peer
// (nf_nat), and knows those flows alone. The kernel answers what is nobody's. headers is
// how many bytes of headers were cut off in front of ds. false: it is ours to answer.
func (s *Stack) returnStray(port uint16, ds []ring.Desc, headers int) bool {
	k := s.rx.on
	if k.returner == nil {
		return false
	}
	if !s.ports.leaving.has(s.rx.pkt.Proto, port, s.now) && !s.life.left.Load() && !s.cfg.Net.Forwards(k.index) {
		return false
	}
	return s.returnWhole(ds, headers)
}

// returnSegment is returnStray for seg.
func (s *Stack) returnSegment(seg *tcp.Segment) bool {
	_, payload := ring.PacketLen(seg.Payload)
	return s.returnStray(seg.Local.Port(), seg.Payload, s.rx.pkt.L4Off+s.rx.pkt.L4Len-payload)
}

// returnMoved gives the kernel a segment of a connection that was handed over, and frees
// it. false: no kernel is behind the link.
func (s *Stack) returnMoved(seg *tcp.Segment) bool {
	_, payload := ring.PacketLen(seg.Payload)
	return s.returnWhole(seg.Payload, s.rx.pkt.L4Off+s.rx.pkt.L4Len-payload)
}

// returnTwins gives the kernel a segment to a listener that is of no handshake of ours,
// and frees it, in two cases: the listener leaves its clients to the twin (see Finish);
// the twin may have the connection (see twinsServe), unless the segment begins one. The
// kernel answers what is nobody's. false: the segment is ours to answer.
func (s *Stack) returnTwins(l *TCPListener, seg *tcp.Segment) bool {
	syn := seg.Flags&(tcp.FlagSYN|tcp.FlagACK) == tcp.FlagSYN
	if !l.finishing && (syn || !s.demux.twinsServe().Load()) || l.tl.Opening(seg, s.now) {
		return false
	}
	return s.returnMoved(seg)
}

// returnOthers is returnTwins for a port without a listener: one that connections of ours
// share with those that were handed over (see except).
func (s *Stack) returnOthers(seg *tcp.Segment) bool {
	syn := seg.Flags&(tcp.FlagSYN|tcp.FlagACK) == tcp.FlagSYN
	return !syn && s.demux.twinsServe().Load() && s.returnMoved(seg)
}

// returnWhole gives the kernel the packet in rx.pkt, whole and summed, and frees it, as
// returnStray says. false: no kernel is behind the link.
func (s *Stack) returnWhole(ds []ring.Desc, headers int) bool {
	p, k := &s.rx.pkt, s.rx.on
	if k.returner == nil {
		return false
	}
	s.rx.returned++
	transport := uint16(headers - p.L4Off)
	ds[0].Off -= transport
	ds[0].Len += transport
	l4 := s.copyOut(ds)
	s.cache.FreeDescs(ds)
	s.completeStray(l4)

	var h ip.Header
	h.Init(p.SrcMAC, p.DstMAC, p.VLAN, p.Src, p.Dst, p.Proto, p.TOS&^3, p.TTL)
	link := h.Len() - h.NetLen()
	mtu := min(k.mtu, driver.MaxReturn-link)
	ecn := p.TOS & 3
	switch size := mtu - h.NetLen(); {
	case len(l4) > size && p.Proto == ip.ProtoTCP: // a packet that no device has cut yet
		cutSegments(l4, int(transport), size-int(transport), s.rx.pseudo, func(off, n int) bool {
			frame := make([]byte, h.Len()+n)
			h.Put(frame, n, ecn, atomicID)
			copy(frame[h.Len():], l4[off:][:n])
			k.returner.Return(frame)
			return true
		})
	case len(l4) > size: // it came in fragments
		plan, _ := h.Fragments(len(l4), mtu)
		id := fragmentID()
		for off, n, more, ok := plan.Next(); ok; off, n, more, ok = plan.Next() {
			frame := make([]byte, h.FragLen()+n)
			h.PutFragment(frame, n, ecn, id, off, more)
			copy(frame[len(frame)-n:], l4[off:])
			k.returner.Return(frame)
		}
	default:
		frame := make([]byte, h.Len()+len(l4))
		h.Put(frame, len(l4), ecn, atomicID)
		copy(frame[h.Len():], l4)
		k.returner.Return(frame)
	}
	return true
}

// returnUntaken gives the kernel a copy of the packet in rx.pkt, whose headers are still in
// front.
func (s *Stack) returnUntaken(ds []ring.Desc) {
	p, to := &s.rx.pkt, s.rx.on.returner
	if to == nil {
		return
	}
	s.rx.returned++
	frame := s.copyOut(ds)
	least := 8 // UDP's header
	if p.Proto == ip.ProtoTCP {
		least = 20
	}
	whole := (p.Proto == ip.ProtoTCP || p.Proto == ip.ProtoUDP) && !p.Fragment && p.L4Len >= least && p.L4Off+p.L4Len <= len(frame)
	if whole && s.rx.virtual>>s.rx.queue&1 != 0 {
		s.rx.pseudo = ip.PseudoSum(p.Src, p.Dst, p.Proto, 0)
		s.completeStray(frame[p.L4Off:][:p.L4Len])
	}
	returnFrame(to, frame)
}

// completeStray fills in the checksum that a sender within the machine has left out:
// the kernel takes only those for good.
func (s *Stack) completeStray(l4 []byte) {
	field := l4[6:8] // RFC 768
	if s.rx.pkt.Proto == ip.ProtoTCP {
		field = l4[tcp.OffsetChecksum:][:2]
	}
	if binary.BigEndian.Uint16(field) == ip.Add(s.rx.pseudo, uint16(len(l4))) {
		putSum(field, ip.Sum(l4))
	}
}
