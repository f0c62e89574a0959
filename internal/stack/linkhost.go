package stack

import (
	"net/netip"

	"github.com/onload-go/onload/ip"
	"github.com/onload-go/onload/ring"
)

// hostTakes offers a received frame to the link's host: one that is no IP packet, as
// err says, or a message to the host in the packet rx.pkt. It reports whether the host
// took it. The frame is whole in first; larger ones are no host's.
func (s *Stack) hostTakes(first []byte, total int, err error) bool {
	if len(first) != total || err != ip.ErrNotIP && (err != nil || !s.rx.pkt.AsksHost(first)) {
		return false
	}
	return s.rx.on.host(first)
}

// hostTakesDatagram offers the host of the link a datagram that no socket wants, in ds,
// which has no headers in front any more, if it is one for the host. Its headers may be
// those of a socket's datagram before, so that hostTakes did not see it.
func (s *Stack) hostTakesDatagram(ds []ring.Desc) bool {
	p := &s.rx.pkt
	if s.rx.on.host == nil || len(ds) != 1 || int(ds[0].Off) < p.L4Off {
		return false
	}
	frame := s.arena.Bytes(ds[0].Frame)[int(ds[0].Off)-p.L4Off:][:p.L4Off+int(ds[0].Len)]
	if !p.AsksHost(frame) || !s.rx.on.host(frame) {
		return false
	}
	s.cache.FreeDescs(ds)
	return true
}

// SendFrame sends an Ethernet frame by the link with that index, on behalf of its
// host. It reports whether the frame was put on a ring.
func (s *Stack) SendFrame(index int, frame []byte) bool {
	s.begin()
	defer s.end()
	k := s.linkOf(index)
	if k == nil || k.down != 0 || len(frame)+ring.Headroom > s.arena.FrameSize() {
		return false
	}
	f, ok := s.cache.Alloc()
	if !ok {
		return false
	}
	tx := int(k.tx[0])
	if q := s.queues[tx]; q.TxSpace() == 0 {
		s.makeRoom(tx, q, 1)
	}
	n := copy(s.arena.Bytes(f)[ring.Headroom:], frame)
	sent := s.post(tx, []ring.Desc{{Frame: f, Off: ring.Headroom, Len: uint16(n)}}, 0)
	s.cache.Release(f)
	return sent
}

// NextHops adds to hops the neighbours on a link that flows and waiting packets have as
// their next hops.
func (s *Stack) NextHops(index int, hops map[netip.Addr]bool) {
	s.begin()
	defer s.end()
	last := netip.Addr{}
	for _, d := range s.dests.all {
		if d.route.Link == index && d.route.NextHop != last {
			last = d.route.NextHop // of most: the gateway
			hops[last] = true
		}
	}
}
