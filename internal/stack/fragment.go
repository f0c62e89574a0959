package stack

import (
	"encoding/binary"
	"math/rand/v2"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/ip"
	"github.com/onload-go/onload/ring"
)

// fragment adds a fragment to its datagram, and dispatches that when it is
// whole.
func (s *Stack) fragment(ds []ring.Desc) {
	p := &s.rx.pkt
	s.counters.rxFragments.Add(1)
	ds = s.trim(ds, p.L4Off, p.L4Len)
	if ds == nil {
		s.counters.rxMalformed.Add(1)
		return
	}
	done := s.fragments.Add(p, ds, s.rx.queue, s.now)
	s.setTimer(&s.fragments.timer, s.fragments.Deadline())
	if done != nil {
		s.rx.pseudo = ip.PseudoSum(p.Src, p.Dst, p.Proto, 0)
		s.transport(done)
	}
}

// Memory for incomplete datagrams, in all and per peer (attack 11).
const (
	maxFragBytes  = 4 << 20 // and an eighth of the arena
	fragPeerShare = 4       // a peer may have this part of it
	// leastFragFrames is what a peer may have in any case, in frames: a datagram of
	// 64 KiB at the least MTU that IPv4 hosts need to take (576, RFC 791 section 3.2)
	// is 119 fragments. A small arena lends a quarter of itself for that, half of it
	// to one peer: forged fragments of two keep 30 s others' out, and never the stack
	// from other packets.
	leastFragFrames = 128
)

// fragLimits returns how many bytes of an arena may be held by each of so many stacks,
// in all and of one peer.
func fragLimits(arena *ring.Arena, stacks int) (limit, peer int) {
	all, least := len(arena.Mem()), leastFragFrames*arena.FrameSize()
	limit = max(min(maxFragBytes, all/8)/stacks, min(2*least, all/4/stacks))
	return limit, max(limit/fragPeerShare, min(least, limit/2))
}

// fragments are the datagrams that are being put together, and the one that is
// being cut. They belong to the holder of the stack lock.
type fragments struct {
	ip.Reassembler
	timer ring.Timer
	tx    [24]ring.Desc // the fragment under construction
}

func (f *fragments) init(arena *ring.Arena, cache *ring.Cache, stacks int) {
	limit, peer := fragLimits(arena, stacks)
	f.Init(cache, limit, peer)
	f.timer.Kind = ofFragments
}

// returnPacket gives the kernel a copy of the packet ds that came by queue from. It is
// no hot path: such packets are fragments that overtook the first of their
// datagram, or have headers that nobody accepts.
func (s *Stack) returnPacket(from int, ds []ring.Desc) {
	if to := s.home[from].returner; to != nil {
		returnFrame(to, s.copyOut(ds))
	}
}

// returnFrame gives the kernel a frame, in fragments if it is a large one.
func returnFrame(to driver.Returner, frame []byte) {
	if len(frame) <= driver.MaxReturn {
		to.Return(frame)
		return
	}
	ip.Refragment(frame, driver.MaxReturn, to.Return)
}

// sendAny is send for packets of any size: UDP's may be larger than the MTU,
// or in more pieces than the device takes, and are cut.
func (s *Stack) sendAny(d *dst, qi int, pkt []ring.Desc, ecn uint8) bool {
	if !d.ready && d.detour {
		return s.dests.detour.send(s, d, pkt, ecn, d.key.proto == ip.ProtoUDP)
	}
	if !d.ready || d.key.proto != ip.ProtoUDP {
		return s.send(d, qi, pkt, ecn)
	}
	l4 := 0
	for i := range pkt {
		l4 += int(pkt[i].Len)
	}
	if l4+d.hdr.NetLen() > s.dests.mtuOf(d, s.now) || len(pkt) > s.host.MaxFrags {
		return s.sendFragments(d, qi, pkt, l4, ecn)
	}
	return s.send(d, qi, pkt, ecn)
}

// sendFragments cuts the datagram pkt, which is l4 bytes and larger than the
// MTU, into fragments (RFC 791, 3.2; RFC 8200, 4.5). false: the transmit ring
// is full, and nothing was sent. It copies the payload.
func (s *Stack) sendFragments(d *dst, qi int, pkt []ring.Desc, l4 int, ecn uint8) bool {
	if d.stale {
		s.dests.ask(d, s.now)
	}
	plan, ok := d.hdr.Fragments(l4, s.dests.mtuOf(d, s.now))
	if !ok {
		return true
	}
	room := s.arena.FrameSize() - ring.Headroom
	each := (plan.Step() + room - 1) / room
	need := (l4/plan.Step() + 1) * each
	tx := int(d.on.tx[qi])
	q := s.queues[tx]
	if need > q.Caps().TxRing || each > s.host.MaxFrags {
		return true
	}
	if q.TxSpace() < need && !s.makeRoom(tx, q, need) {
		return false
	}
	if pkt[0].Flags&ring.FlagCsumPartial != 0 {
		s.complete(pkt)
	}
	src := reader{s: s, pkt: pkt}
	id := rand.Uint32() // of a keyed generator (RFC 7739 section 5.3)
	for {
		off, n, more, ok := plan.Next()
		if !ok {
			return true
		}
		frag, whole := s.fill(&src, n)
		if whole {
			hl := d.hdr.FragLen()
			d.hdr.PutFragment(s.front(frag, hl), n, ecn, id, off, more)
			s.post(tx, frag, hl)
		}
		for i := range frag {
			s.cache.Release(frag[i].Frame)
		}
		if !whole {
			return true // without this one, the others are worth nothing
		}
	}
}

// complete fills in the checksum of a datagram that no device can: it sees
// fragments. CsumStart is the first byte of pkt.
func (s *Stack) complete(pkt []ring.Desc) {
	sum := s.sum(pkt)
	if sum == 0xffff {
		sum = 0 // RFC 768: zero means no checksum
	}
	binary.BigEndian.PutUint16(s.arena.Data(pkt[0])[pkt[0].CsumOff:], ^sum)
	pkt[0].Flags &^= ring.FlagCsumPartial
}

// reader reads the bytes of a packet one after the other.
type reader struct {
	s    *Stack
	head []byte // in front of pkt
	pkt  []ring.Desc
	off  int // in pkt[0]
}

// read fills b; it returns how much there was.
func (r *reader) read(b []byte) (n int) {
	n = copy(b, r.head)
	r.head = r.head[n:]
	for n < len(b) && len(r.pkt) > 0 {
		k := copy(b[n:], r.s.arena.Data(r.pkt[0])[r.off:])
		n += k
		if r.off += k; r.off == int(r.pkt[0].Len) {
			r.pkt, r.off = r.pkt[1:], 0
		}
	}
	return n
}

// fill copies the next n bytes of src into new frames. ok is false where
// there are not enough.
func (s *Stack) fill(src *reader, n int) (pkt []ring.Desc, ok bool) {
	pkt = s.fragments.tx[:0]
	for n > 0 && len(pkt) < cap(pkt) {
		f, ok := s.cache.Alloc()
		if !ok {
			break
		}
		k := src.read(s.arena.Bytes(f)[ring.Headroom:][:min(n, s.arena.FrameSize()-ring.Headroom)])
		pkt = append(pkt, ring.Desc{Frame: f, Off: ring.Headroom, Len: uint16(k), Flags: ring.FlagMore})
		n -= k
	}
	if len(pkt) > 0 {
		pkt[len(pkt)-1].Flags = 0
	}
	return pkt, n == 0
}
