package stack

import (
	"net/netip"

	"github.com/onload-go/onload/ring"
	"github.com/onload-go/onload/udp"
)

// udpInput gives the datagram in ds to the socket that it belongs to: one
// connected to its sender first, then one bound to its port.
func (s *Stack) udpInput(ds []ring.Desc) {
	if ds = s.datagram(ds); ds == nil {
		return
	}
	if s.rx.group {
		s.groupInput(ds)
		return
	}
	u := s.demux.lastUDP
	if u == nil {
		if s.hostTakesDatagram(ds) {
			return
		}
		s.counters.rxNoSocket.Add(1)
		if !s.returnStray(s.demux.lastUDPDst.Port(), ds, s.rx.pkt.L4Off) {
			s.portUnreachable(ds)
		}
		return
	}
	info := s.udpInfo(&ds[0])
	s.toPayload(ds)
	if !u.push(ds, info) {
		s.drop(ds, &s.counters.udpErr)
		return
	}
	s.waits.work += int64(s.rx.pkt.L4Len)
	s.counters.udpIn.Add(1)
}

// toPayload cuts the UDP header off.
func (s *Stack) toPayload(ds []ring.Desc) {
	ds[0].Off += udp.HeaderLen
	ds[0].Len -= udp.HeaderLen
}

// datagram reads the UDP header of ds. It returns ds without what follows the
// datagram; nil: it was dropped.
func (s *Stack) datagram(ds []ring.Desc) []ring.Desc {
	p := &s.rx.pkt
	var h udp.Header
	if err := udp.Parse(s.arena.Data(ds[0]), p.L4Len, p.V6, &h); err != nil {
		s.drop(ds, &s.counters.udpErr)
		return nil
	}
	if h.Len < p.L4Len {
		if ds = s.trim(ds, 0, h.Len); ds == nil {
			return nil
		}
		p.L4Len = h.Len
	}
	if h.Sum != 0 && !s.checksumOK(ds, h.Sum) {
		s.drop(ds, &s.counters.rxChecksum)
		return nil
	}
	src := netip.AddrPortFrom(p.Src, h.SrcPort)
	dst := netip.AddrPortFrom(p.Dst, h.DstPort)
	switch {
	case s.rx.group:
		s.groups.find(src, dst, s.rx.on.of(p), s.rx.on.alone)
	case s.demux.lastUDP == nil || src != s.demux.lastUDPSrc || dst != s.demux.lastUDPDst:
		s.demux.lastUDP, s.demux.lastUDPSrc, s.demux.lastUDPDst = s.demux.udpSocket(dst, src), src, dst
	}
	if s.demux.mates.team != nil && !s.rx.group && s.handDatagram(s.demux.lastUDP, src, dst, ds) {
		return nil
	}
	return ds
}

// copyOut copies a datagram out of its frames, for another stack's arena.
func (s *Stack) copyOut(ds []ring.Desc) []byte {
	var p []byte
	for _, d := range ds {
		p = append(p, s.arena.Data(d)...)
	}
	return p
}

// copyIn copies a datagram into frames.
func (s *Stack) copyIn(p []byte) ([]ring.Desc, bool) {
	room := s.arena.FrameSize() - ring.Headroom
	n := max(1, (len(p)+room-1)/room)
	fs := make([]ring.Frame, n)
	if got := s.arena.AllocN(fs); got < n {
		s.arena.FreeN(fs[:got])
		return nil, false
	}
	ds := make([]ring.Desc, n)
	for i, f := range fs {
		k := copy(s.arena.Bytes(f)[ring.Headroom:], p)
		p = p[k:]
		ds[i] = ring.Desc{Frame: f, Off: ring.Headroom, Len: uint16(k), Flags: ring.FlagMore}
	}
	ds[n-1].Flags = 0
	return ds, true
}
