package stack

import (
	"encoding/binary"
	"net/netip"

	"github.com/onload-go/onload/ip"
	"github.com/onload-go/onload/ring"
	"github.com/onload-go/onload/tcp"
)

// Inlet takes the packets of flows from the kernel that come by links which the
// stack has no queues of, to be given to Stack.Inject. Each Add is followed by a
// Remove. Both are called under the stack lock and do not block.
type Inlet interface {
	Add(udp bool, local, remote netip.AddrPort)
	Remove(udp bool, local, remote netip.AddrPort)
	// WithoutRoom is how many flows the kernel was not told of, since it has a limit.
	WithoutRoom() uint64
}

// Injected is a packet that came by a link which the stack has no queues of. The
// kernel has found it to be for this host, and whole.
type Injected struct {
	Link          int // its index
	UDP           bool
	Local, Remote netip.AddrPort
	TOS, TTL      uint8
	Data          []byte // from the transport header on
	Summed        bool   // the transport's checksum was verified
}

// inlet is the way in of such packets. It belongs to the holder of the stack lock.
type inlet struct {
	on     link // stands for the link of the packet at hand
	header ip.Header
	ds     []ring.Desc
}

func (n *inlet) init() {
	n.on = link{name: "kernel", mtu: maxPacket}
}

// Has reports whether a connection, or a connected socket, of the stack is
// between those ends.
func (s *Stack) Has(udp bool, local, remote netip.AddrPort) bool {
	s.begin()
	defer s.end()
	if udp {
		return s.demux.udpFlows[makeFlowKey(local, remote)] != nil
	}
	return s.demux.conn(local, remote) != nil || s.demux.timeWaitOf(local, remote) != nil
}

// Inject has the stack receive packets, of which it keeps copies. It may be called
// by several goroutines.
func (s *Stack) Inject(ps []Injected) {
	s.begin()
	defer s.end()
	defer s.rx.repeat.Forget() // no link brought those headers: a frame that has them is judged
	for i := range ps {
		if s.life.closing.Load() {
			return
		}
		s.inject(&ps[i])
	}
}

// InjectError has the stack receive an ICMP error that came by a link which it has no
// queues of. It reports whether that concerns a flow of the stack.
func (s *Stack) InjectError(e *ip.ICMPError) (known bool) {
	s.begin()
	defer s.end()
	if s.life.closing.Load() || !s.icmpError(e) {
		return false
	}
	s.counters.icmpErrors.Add(1)
	return true
}

// inject has the stack receive one packet as though it came by the first queue.
func (s *Stack) inject(p *Injected) {
	n := &s.rx.inlet
	total := n.load(s, p)
	if total == 0 {
		s.counters.inletErrors.Add(1)
		return
	}
	s.counters.inlets.Add(1)
	n.on.index = p.Link
	s.rx.queue, s.rx.on = 0, &n.on
	if ds := s.network(n.ds, total); len(ds) > 0 {
		s.transport(ds)
	}
}

// load copies a packet into frames, behind headers like those that it had. It returns
// its length; 0: there are not enough frames.
func (n *inlet) load(s *Stack, p *Injected) (total int) {
	const ecn = 3
	proto := uint8(ip.ProtoTCP)
	if p.UDP {
		proto = ip.ProtoUDP
	}
	n.header.Init([6]byte{}, [6]byte{}, 0, p.Remote.Addr(), p.Local.Addr(), proto, p.TOS&^ecn, p.TTL)
	h := n.header.Len()
	room := s.arena.FrameSize() - ring.Headroom
	n.ds = n.ds[:0]
	for rest := p.Data; len(rest) > 0; h = 0 {
		f, ok := s.cache.Alloc()
		if !ok {
			s.cache.FreeDescs(n.ds)
			return 0
		}
		to := s.arena.Bytes(f)[ring.Headroom:][:room]
		if h > 0 {
			n.header.Put(to[:h], len(p.Data), p.TOS&ecn, atomicID)
		}
		k := copy(to[h:], rest)
		rest = rest[k:]
		total += h + k
		n.ds = append(n.ds, ring.Desc{Frame: f, Off: ring.Headroom, Len: uint16(h + k), Flags: ring.FlagMore})
	}
	n.ds[len(n.ds)-1].Flags = 0
	switch {
	case p.Summed:
		n.ds[0].Flags |= ring.FlagCsumGood
	case !p.UDP && partial(p):
		n.ds[0].Flags |= ring.FlagCsumPartial
	}
	return total
}

// partial reports whether the checksum field of a segment is only the sum of its
// pseudo-header: it comes from within the machine (checksumOK).
func partial(p *Injected) bool {
	return binary.BigEndian.Uint16(p.Data[tcp.OffsetChecksum:]) == ip.PseudoSum(p.Remote.Addr(), p.Local.Addr(), ip.ProtoTCP, len(p.Data))
}
