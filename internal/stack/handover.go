package stack

import (
	"math/bits"
	"net/netip"
	"sync"

	"github.com/onload-go/onload/ip"
	"github.com/onload-go/onload/ring"
	"github.com/onload-go/onload/tcp"
)

// Packets of a stack of a team that come by a queue of another one are put into the
// inbox of the first, frames and all. At the end of its section, without its lock,
// the other one has them taken: by itself if the first one's lock is free, else by
// the holder of that. So nobody has to be woken for them.

// What is handed over.
const (
	handedPacket   uint8 = iota // at the transport header, for the stack that has the flow
	handedFragment              // whole, for the stack that puts the datagram together
	handedError                 // an ICMP error that has been read
)

// handed is a packet on its way to another stack.
type handed struct {
	kind  uint8
	link  int       // the index of the interface that it came by
	descs int       // how many Descs of the inbox it has
	pkt   ip.Packet // as parsed
	err   ip.ICMPError
}

// inbox has the packets that other stacks received for this one.
type inbox struct {
	work ring.Work // to take them

	mu    sync.Mutex // leaf
	pkts  []handed
	descs []ring.Desc
	frags int // descs of fragments

	// Memory for the next ones; under the stack lock.
	sparePkts  []handed
	spareDescs []ring.Desc
}

// inboxMost bounds the packets that wait in an inbox; those of all inboxes of a team
// have at most an eighth of the arena. Fragments have at most half of an inbox, since
// anybody can send them: they come without a flow.
const inboxMost = 4096

// inboxFrames is how many frames an inbox may have, of that many in the arena.
func inboxFrames(frames, stacks int) int { return max(frames/8/stacks, 1) }

// put adds a packet. false: there are too many, or most frames.
func (in *inbox) put(h *handed, ds []ring.Desc, most int) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	if len(in.pkts) >= inboxMost || len(in.descs)+len(ds) > most {
		return false
	}
	if h.kind == handedFragment {
		if in.frags+len(ds) > min(inboxMost, most)/2 {
			return false
		}
		in.frags += len(ds)
	}
	in.pkts = append(in.pkts, *h)
	in.descs = append(in.descs, ds...)
	return true
}

// takeAll empties the inbox. The stack lock is held.
func (in *inbox) takeAll() (pkts []handed, descs []ring.Desc) {
	in.mu.Lock()
	pkts, descs = in.pkts, in.descs
	in.pkts, in.descs, in.frags = in.sparePkts[:0], in.spareDescs[:0], 0
	in.mu.Unlock()
	in.sparePkts, in.spareDescs = pkts, descs
	return pkts, descs
}

// handTo gives the i-th stack what came as rx.pkt, or err. ds are its frames, and
// are freed if that stack has too much to do.
func (s *Stack) handTo(i int, kind uint8, ds []ring.Desc, err *ip.ICMPError) {
	m := &s.demux.mates
	h := handed{kind: kind, link: s.rx.on.index, descs: len(ds)}
	if err != nil {
		h.err = *err
	} else {
		h.pkt = s.rx.pkt
	}
	if !m.team.mate(i).demux.mates.in.put(&h, ds, inboxFrames(s.arena.Frames(), m.team.size())) {
		if len(ds) > 0 {
			s.drop(ds, &s.counters.handDrops)
		} else {
			s.counters.handDrops.Add(1)
		}
		return
	}
	m.due |= 1 << i
	s.counters.handOvers.Add(1)
}

// deliver has the stacks of due take what is in their inboxes. The lock is not held.
// It returns how many goroutines were woken.
//
//go:noinline
func (s *Stack) deliver(due uint64) (woken int) {
	for due != 0 {
		i := bits.TrailingZeros64(due)
		due &^= 1 << i
		m := s.demux.mates.team.mate(i)
		if w := &m.demux.mates.in.work; m.beginOrDefer(w) {
			m.doWork(w)
			woken += m.end()
		}
	}
	return woken
}

// takeHanded takes the packets that other stacks received for this one. The lock is
// held.
func (s *Stack) takeHanded() {
	pkts, descs := s.demux.mates.in.takeAll()
	for i := range pkts {
		h := &pkts[i]
		ds := descs[:h.descs]
		descs = descs[h.descs:]
		k, queue := s.linkOf(h.link), 0
		if k == nil { // the other stack has it from the inlet
			k = &s.rx.inlet.on
			k.index = h.link
		} else {
			queue = bits.TrailingZeros64(k.mask)
		}
		if s.life.closing.Load() || k.down != 0 {
			s.cache.FreeDescs(ds)
			continue
		}
		s.rx.queue, s.rx.on = queue, k
		s.take(h, ds)
	}
	s.rx.handed = false
	s.rx.repeat.Forget() // rx.pkt is of no queue of ours
	s.demux.lastPorts = 0
}

// take processes a packet that another stack received on rx.queue's link.
func (s *Stack) take(h *handed, ds []ring.Desc) {
	s.rx.again, s.rx.group = false, false
	switch s.rx.pkt = h.pkt; h.kind {
	case handedFragment:
		s.rx.handed = false // the datagram may be another's
		s.rx.group = s.groups.has(h.pkt.Dst, h.pkt.Proto)
		s.fragment(ds)
	case handedError:
		s.icmpError(&h.err)
	default:
		s.rx.handed = true
		s.rx.pseudo = ip.PseudoSum(h.pkt.Src, h.pkt.Dst, h.pkt.Proto, 0)
		s.transport(ds)
	}
}

// handSegment gives a segment that belongs to no connection of this stack to the one
// that it belongs to, if there is another. rx.seg has been read, and its payload
// begins hl bytes behind the TCP header.
func (s *Stack) handSegment(hl int) bool {
	m, seg := &s.demux.mates, &s.rx.seg
	if s.rx.handed || m.team.size() == 0 {
		return false
	}
	i, ok := m.owner(ip.ProtoTCP, seg.Local, seg.Remote)
	if !ok && s.demux.timeWaitOf(seg.Local, seg.Remote) == nil {
		i, ok = m.handshake(seg, s.now)
	}
	if !ok {
		return false
	}
	ds := seg.Payload
	ds[0].Off -= uint16(hl)
	ds[0].Len += uint16(hl)
	s.handTo(i, handedPacket, ds, nil)
	return true
}

// handshake returns the other stack that took the SYN of a flow, which no connection
// has yet. If none did, and seg is a SYN, this one does.
func (m *mates) handshake(seg *tcp.Segment, now int64) (i int, ok bool) {
	h := &m.team.began
	hash := flowHash(m.team.flows.seed, seg.Local, seg.Remote)
	if i, ok = h.taker(hash, now); ok {
		return i, i != m.index
	}
	if seg.Flags&(tcp.FlagSYN|tcp.FlagACK) == tcp.FlagSYN {
		h.take(hash, m.index, now)
	}
	return 0, false
}

// handDatagram gives a datagram to the stack that has a socket connected to its
// sender, if there is another. u is what this one found: nil, or any socket.
func (s *Stack) handDatagram(u *UDPConn, src, dst netip.AddrPort, ds []ring.Desc) bool {
	if s.rx.handed || u != nil && u.remote.IsValid() {
		return false
	}
	i, ok := s.demux.mates.owner(ip.ProtoUDP, dst, src)
	if !ok || s.demux.mates.team.size() == 0 {
		return false
	}
	s.handTo(i, handedPacket, ds, nil)
	return true
}

// handFragment gives a fragment to the stack that puts its datagram together, if that
// is another one. It is the same for all fragments between two addresses, so that
// datagrams in fragments stay in order.
func (s *Stack) handFragment(ds []ring.Desc) bool {
	p, m := &s.rx.pkt, &s.demux.mates
	n := m.team.size()
	if n == 0 {
		return false
	}
	i := int(flowHash(m.team.flows.seed, netip.AddrPortFrom(p.Dst, 0), netip.AddrPortFrom(p.Src, 0)) % uint64(n))
	if i == m.index {
		return false
	}
	s.handTo(i, handedFragment, ds, nil)
	return true
}

// handError gives an ICMP error about a flow that this stack does not have to the one
// that does. Only what a router
// says about the size of datagrams concerns bound sockets, and any stack may have
// sent those.
func (s *Stack) handError(e *ip.ICMPError) {
	m := &s.demux.mates
	if i, ok := m.owner(e.Proto, e.Local, e.Remote); ok && m.team.size() > 0 {
		s.handTo(i, handedError, nil, e)
		return
	}
	if e.Proto != ip.ProtoUDP || !e.IsPTB() {
		return
	}
	for i := range m.team.size() {
		if i != m.index {
			s.handTo(i, handedError, nil, e)
		}
	}
}
