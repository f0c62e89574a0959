package stack

import (
	"encoding/binary"
	"net/netip"

	"github.com/onload-go/onload/ip"
	"github.com/onload-go/onload/tcp"
)

// kept has the packets of a flow whose connection is on its way from one carrier to
// another. They are copies: nobody knows for how long they are kept.
type kept struct {
	packets []Injected
	bytes   int
	mtu     int // of the path
}

const (
	// keptMost bounds the bytes that are kept of a flow, about what peers have on
	// their way in a moment; keptAll those of all flows of a stack. The peer sends
	// again what is dropped.
	keptMost = 4 << 20
	keptAll  = 64 << 20
	// keptCost is what a packet costs beside its bytes.
	keptCost = 256
)

// keep keeps a copy of the segment in rx.seg, and frees it.
func (s *Stack) keep(k *kept) {
	p, seg := &s.rx.pkt, &s.rx.seg
	ds := seg.Payload
	header := uint16(p.L4Len - seg.Len)
	ds[0].Off -= header
	ds[0].Len += header
	cost := p.L4Len + keptCost
	if k.bytes+cost > keptMost || s.demux.keptBytes+cost > keptAll {
		s.drop(ds, &s.counters.moveDrops)
		return
	}
	k.bytes += cost
	s.demux.keptBytes += cost
	k.packets = append(k.packets, Injected{
		Link: s.rx.on.index, Local: seg.Local, Remote: seg.Remote, TOS: p.TOS, TTL: p.TTL,
		Data: s.copyOut(ds), Summed: true, // segment has verified it
	})
	s.cache.FreeDescs(ds)
}

// takeKept empties k. The lock is held.
func (s *Stack) takeKept(k *kept) []Injected {
	packets := k.packets
	s.demux.keptBytes -= k.bytes
	k.packets, k.bytes = nil, 0
	return packets
}

// raw makes IP packets of kept ones. Those that no device has cut yet are cut to the
// path's MTU.
func (k *kept) raw(packets []Injected) (all [][]byte) {
	for i := range packets {
		p := &packets[i]
		const ecn = 3
		var h ip.Header
		h.Init([6]byte{}, [6]byte{}, 0, p.Remote.Addr(), p.Local.Addr(), ip.ProtoTCP, p.TOS&^ecn, p.TTL)
		header := int(p.Data[tcp.OffsetDataOffset]>>4) * 4
		size := max(k.mtu-h.NetLen()-header, 1)
		pseudo := ip.PseudoSum(p.Remote.Addr(), p.Local.Addr(), ip.ProtoTCP, 0)
		emit := func(off, n int) bool {
			frame := make([]byte, h.Len()+n)
			h.Put(frame, n, p.TOS&ecn, atomicID)
			copy(frame[h.Len():], p.Data[off:][:n])
			all = append(all, frame[h.Len()-h.NetLen():])
			return true
		}
		if len(p.Data) > header {
			cutSegments(p.Data, header, size, pseudo, emit)
			continue
		}
		sum := p.Data[tcp.OffsetChecksum:][:2]
		clear(sum)
		binary.BigEndian.PutUint16(sum, ^ip.Add(ip.Add(pseudo, uint16(len(p.Data))), ip.Sum(p.Data)))
		emit(0, len(p.Data))
	}
	return all
}

// unraw is the packet in an IP packet of the flow between two ends. ok is false if it
// is of no such flow, or broken.
func unraw(b []byte, local, remote netip.AddrPort) (p Injected, ok bool) {
	const ether = 14
	frame := make([]byte, ether+len(b))
	frame[12], frame[13] = 0x08, 0x00
	if len(b) > 0 && b[0]>>4 == 6 {
		frame[12], frame[13] = 0x86, 0xdd
	}
	copy(frame[ether:], b)
	var h ip.Packet
	if ip.Parse(frame, len(frame), &h) != nil || h.Proto != ip.ProtoTCP || h.Fragment || h.L4Off+h.L4Len > len(frame) || h.L4Len < 20 {
		return p, false
	}
	data := frame[h.L4Off:][:h.L4Len]
	src, dst := tcp.Ports(data)
	if netip.AddrPortFrom(h.Src, src) != remote || netip.AddrPortFrom(h.Dst, dst) != local {
		return p, false
	}
	return Injected{Local: local, Remote: remote, TOS: h.TOS, TTL: h.TTL, Data: data}, true
}
