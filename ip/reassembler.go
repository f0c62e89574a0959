package ip

import "github.com/onload-go/onload/ring"

// How long the fragments of a datagram wait for the rest, counted from the first
// that came. For IPv4 it is Linux's time (RFC 1122, 3.3.2, asks for more, which
// would only cost memory), for IPv6 that of RFC 8200, 4.5.
const (
	fragTimeout4 = int64(30e9)
	fragTimeout6 = int64(60e9)
)

const (
	maxDatagram = 0xffff // IP's, less the IPv6 header
	// maxFragFrames is the most frames of a datagram: enough for 64 KiB in
	// fragments of 400 bytes. Fragments of 8 bytes would pin 8,192.
	maxFragFrames = 192
)

// FragStats are the counters of a Reassembler. They belong to its caller's
// lock.
type FragStats struct {
	Fragments  uint64 // that came
	Whole      uint64 // datagrams put together
	Timeouts   uint64 // datagrams that stayed incomplete
	Evicted    uint64 // datagrams dropped for memory
	Overlaps   uint64 // datagrams dropped: overlapping or contradicting fragments
	Oversize   uint64 // datagrams dropped: too long, or in too many pieces
	Tiny       uint64 // first fragments without the headers
	Malformed  uint64 // fragments of no length, or of one that is no multiple of 8
	ECN        uint64 // datagrams dropped: contradicting ECN codepoints
	Duplicates uint64 // fragments that were there already
	Late       uint64 // fragments of a datagram dropped before
}

// Reassembler puts fragmented datagrams together without copying (RFC 791, 3.2; RFC
// 8200, 4.5). It bounds the memory that it holds, in frames, not in payload, for
// each peer and in all. It belongs to the stack lock.
type Reassembler struct {
	Stats FragStats

	cache     *ring.Cache
	arena     *ring.Arena
	limit     int // bytes held in all
	peerLimit int

	fragTable
	out []ring.Desc
}

// Init makes r empty. It will hold at most limit bytes, and peerLimit from
// each peer: an IPv4 address or an IPv6 /64.
func (r *Reassembler) Init(c *ring.Cache, limit, peerLimit int) {
	*r = Reassembler{cache: c, arena: c.Arena(), limit: limit, peerLimit: peerLimit}
}

// Held is the number of bytes held.
func (r *Reassembler) Held() int { return r.held }

// Add takes the fragment p, and all frames of ds, which are its part of the
// datagram: p.L4Len bytes from p.L4Off on. If that completes the datagram, Add
// returns it, the transport header first, and makes p describe it. The frames are
// the caller's then; the slice is good until the next Add.
func (r *Reassembler) Add(p *Packet, ds []ring.Desc, now int64) []ring.Desc {
	r.Stats.Fragments++
	r.Expire(now)
	off, end := p.FragOff, p.FragOff+p.L4Len
	key := fragKeyOf(p)
	d := r.find(&key)
	var first firstFragment
	switch {
	case p.L4Len <= 0 || p.MoreFrags && p.L4Len%8 != 0:
		r.Stats.Malformed++
		r.cache.FreeDescs(ds)
		return nil
	case d != nil && d.dead:
		r.Stats.Late++
		r.cache.FreeDescs(ds)
		return nil
	case end+headersOf(p) > maxDatagram: // ping of death
		return r.refuse(d, ds, &r.Stats.Oversize)
	case off == 0 && !first.read(p, r.arena.Data(ds[0])): // RFC 1858, 3; RFC 7112, 5
		return r.refuse(d, ds, &r.Stats.Tiny)
	}
	if d == nil {
		d = r.insert(&key, now)
	}
	if !d.fits(end, p.MoreFrags) {
		return r.refuse(d, ds, &r.Stats.Overlaps)
	}
	prev, next := r.position(d, off)
	if prev != ring.NoFrame && fragOff(r.arena.Meta(prev)) == off && fragEnd(r.arena.Meta(prev)) == end {
		// The network may duplicate (RFC 8200, 4.5).
		r.Stats.Duplicates++
		r.cache.FreeDescs(ds)
		return nil
	}
	if prev != ring.NoFrame && fragEnd(r.arena.Meta(prev)) > off ||
		next != ring.NoFrame && fragOff(r.arena.Meta(next)) < end {
		return r.refuse(d, ds, &r.Stats.Overlaps) // RFC 5722, 4
	}
	if d.frames+len(ds) > maxFragFrames {
		return r.refuse(d, ds, &r.Stats.Oversize)
	}
	if off == 0 {
		d.first = first
	}
	if !p.MoreFrags {
		d.total = end
	}
	r.link(d, ds, prev, next, off, end)
	d.ecn |= 1 << (p.TOS & 3)
	if d.got == d.total {
		return r.finish(d, p)
	}
	r.bound(d)
	return nil
}

// bound drops the oldest datagrams if d, which has grown, makes them too many; d
// itself may be among them.
func (r *Reassembler) bound(d *fragDatagram) {
	for d.peer != nil && d.peer.held > r.peerLimit {
		r.evict(d.peer.oldest)
	}
	for r.held > r.limit {
		r.evict(r.oldest())
	}
}

// refuse drops a datagram with all fragments that are still to come (RFC 5722, 4),
// and the fragment at hand. d may be nil: no fragment is held yet.
func (r *Reassembler) refuse(d *fragDatagram, ds []ring.Desc, counter *uint64) []ring.Desc {
	*counter++
	r.cache.FreeDescs(ds)
	if d != nil {
		r.freeFrames(d)
		d.dead = true
		r.bound(d)
	}
	return nil
}

// headersOf is the length of the headers in front of the fragmentable part of p, as
// far as the datagram's length counts them.
func headersOf(p *Packet) int {
	n := p.L4Off - p.NetOff
	if p.V6 {
		n -= ipv6Len + fragLen
	}
	return n
}

// firstFragment has what only the first fragment shows.
type firstFragment struct {
	proto          uint8
	tos, ttl       uint8
	netOff, l4Off  int
	skip           int // extension headers in front of the transport's
	srcMAC, dstMAC [6]byte
}

// read reads a first fragment, of which b is the first piece. false: it lacks the
// headers that a decision needs.
func (f *firstFragment) read(p *Packet, b []byte) bool {
	*f = firstFragment{
		proto: p.Proto, tos: p.TOS, ttl: p.TTL,
		netOff: p.NetOff, l4Off: p.L4Off, srcMAC: p.SrcMAC, dstMAC: p.DstMAC,
	}
	if p.V6 {
		var none Packet
		x := extChain{b: b, next: p.Proto, frag: true}
		if p.Proto == extHopByHop || x.walk(&none) != nil {
			return false
		}
		f.proto, f.skip = x.next, x.off
	}
	n := 0
	switch f.proto {
	case ProtoTCP:
		n = 20
	case ProtoUDP, ProtoICMP, ProtoICMPv6:
		n = 8
	}
	return len(b)-f.skip >= n
}

// fits reports whether a fragment that ends at end agrees with what is known about
// the datagram's length.
func (d *fragDatagram) fits(end int, more bool) bool {
	if !more {
		return (d.total < 0 || d.total == end) && d.top <= end
	}
	return d.total < 0 || end <= d.total
}

// The first frame of a fragment has, in Meta.Seq, the fragment's part of the
// datagram. The fragment's other frames follow through Meta.TimeNext, and the
// fragments of a datagram, in order, through Meta.Next and Prev.

func fragOff(m *ring.Meta) int { return int(m.Seq >> 16) }
func fragEnd(m *ring.Meta) int { return int(m.Seq & 0xffff) }

// position finds the neighbours of a fragment that begins at off. Fragments
// come mostly in order, or in reverse.
func (r *Reassembler) position(d *fragDatagram, off int) (prev, next ring.Frame) {
	if d.head == ring.NoFrame || fragOff(r.arena.Meta(d.head)) > off {
		return ring.NoFrame, d.head
	}
	prev = d.tail
	for fragOff(r.arena.Meta(prev)) > off {
		prev = r.arena.Meta(prev).Prev
	}
	return prev, r.arena.Meta(prev).Next
}

// link puts a fragment between its neighbours.
func (r *Reassembler) link(d *fragDatagram, ds []ring.Desc, prev, next ring.Frame, off, end int) {
	for i := range ds {
		m := r.arena.Meta(ds[i].Frame)
		m.Off, m.Len, m.TimeNext = ds[i].Off, ds[i].Len, ring.NoFrame
		if i > 0 {
			r.arena.Meta(ds[i-1].Frame).TimeNext = ds[i].Frame
		}
	}
	f := ds[0].Frame
	m := r.arena.Meta(f)
	m.Seq = uint32(off)<<16 | uint32(end)
	m.Prev, m.Next = prev, next
	if prev == ring.NoFrame {
		d.head = f
	} else {
		r.arena.Meta(prev).Next = f
	}
	if next == ring.NoFrame {
		d.tail = f
	} else {
		r.arena.Meta(next).Prev = f
	}
	d.got += end - off
	d.top = max(d.top, end)
	d.frames += len(ds)
	r.hold(d, len(ds)*r.arena.FrameSize())
}

// finish hands out a complete datagram.
func (r *Reassembler) finish(d *fragDatagram, p *Packet) []ring.Desc {
	tos, ok := mergeECN(d.first.tos, d.ecn)
	if !ok {
		return r.refuse(d, nil, &r.Stats.ECN)
	}
	if r.out == nil {
		r.out = make([]ring.Desc, 0, maxFragFrames)
	}
	out := r.out[:0]
	for f := d.head; f != ring.NoFrame; f = r.arena.Meta(f).Next {
		for g := f; g != ring.NoFrame; g = r.arena.Meta(g).TimeNext {
			m := r.arena.Meta(g)
			out = append(out, ring.Desc{Frame: g, Off: m.Off, Len: m.Len, Flags: ring.FlagMore})
		}
	}
	out[len(out)-1].Flags = 0
	out[0].Off += uint16(d.first.skip)
	out[0].Len -= uint16(d.first.skip)
	x := &d.first
	p.Proto, p.TOS, p.TTL, p.SrcMAC, p.DstMAC = x.proto, tos, x.ttl, x.srcMAC, x.dstMAC
	p.NetOff, p.L4Off, p.L4Len = x.netOff, x.l4Off+x.skip, d.total-x.skip
	p.Fragment, p.MoreFrags, p.FragOff = false, false, 0
	r.Stats.Whole++
	r.remove(d)
	return out
}

// mergeECN is the TOS of a datagram whose fragments had the codepoints in seen. Any
// CE counts, and a fragment that is not ECN-capable must not be mixed with others
// (RFC 3168, 5.3).
func mergeECN(tos, seen uint8) (uint8, bool) {
	const notECT, ce = 1 << 0, 1 << 3
	if seen&notECT != 0 && seen != notECT {
		return 0, false
	}
	if seen&ce != 0 {
		tos |= 3
	}
	return tos, true
}

// freeFrames frees the frames that d holds.
func (r *Reassembler) freeFrames(d *fragDatagram) {
	for f := d.head; f != ring.NoFrame; {
		next := r.arena.Meta(f).Next
		for f != ring.NoFrame {
			more := r.arena.Meta(f).TimeNext
			r.cache.Free(f)
			f = more
		}
		f = next
	}
	r.hold(d, -d.frames*r.arena.FrameSize())
	d.head, d.tail, d.frames = ring.NoFrame, ring.NoFrame, 0
}

func (r *Reassembler) evict(d *fragDatagram) {
	r.Stats.Evicted++
	r.freeFrames(d)
	r.remove(d)
}

// Expire drops datagrams whose time is over.
func (r *Reassembler) Expire(now int64) {
	for i := range r.byAge {
		for d := r.byAge[i].oldest; d != nil && d.expires <= now; d = r.byAge[i].oldest {
			if !d.dead {
				r.Stats.Timeouts++
			}
			r.freeFrames(d)
			r.remove(d)
		}
	}
}

// Flush drops everything held.
func (r *Reassembler) Flush() {
	for d := r.oldest(); d != nil; d = r.oldest() {
		r.freeFrames(d)
		r.remove(d)
	}
}
