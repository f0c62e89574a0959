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
	// fragments of 272 bytes (241), for an MTU of 296 as serial lines had. Fragments
	// of 8 bytes would pin 8,192.
	maxFragFrames = 256
	// maxFragDist is how many fragments of an IPv4 peer may come between two of one
	// datagram: later ones are of another, whose identification is the same (RFC
	// 4963; Linux's ipfrag_max_dist).
	maxFragDist = 64
)

// Reassembler puts fragmented datagrams together without copying (RFC 791,
// 3.2; RFC 8200, 4.5), and drops what Linux drops. What it holds is bounded, for
// each peer and in all, in the memory of the frames, not in payload. It belongs to
// the stack lock.
type Reassembler struct {
	Stats FragStats

	// Return gives the kernel a copy of a fragment, which is all of ds, from its
	// Ethernet header on; from is what Add was told. nil: no kernel stands behind
	// the links.
	Return func(from int, ds []ring.Desc)
	// TimedOut hears of the first fragment of a datagram of ours that stayed
	// incomplete: all of it is ds, from its Ethernet header on, and it came by the
	// queue from. nil: nobody is told.
	TimedOut func(from int, ds []ring.Desc)
	// MayAnswer reports whether at now, in ns, the kernel may be given a fragment of
	// ours that it answers with an error. nil: always.
	MayAnswer func(now int64) bool

	cache     *ring.Cache
	arena     *ring.Arena
	limit     int // bytes held in all
	peerLimit int

	fragTable
	out []ring.Desc
	one []ring.Desc // see fragment
}

// Init makes r empty. It will hold at most limit bytes, and peerLimit from
// each peer: an IPv4 address or an IPv6 /64.
func (r *Reassembler) Init(c *ring.Cache, limit, peerLimit int) {
	*r = Reassembler{cache: c, arena: c.Arena(), limit: limit, peerLimit: peerLimit, Return: r.Return, TimedOut: r.TimedOut, MayAnswer: r.MayAnswer}
}

// Held is the number of bytes held.
func (r *Reassembler) Held() int { return r.held }

// Add takes the fragment p, and all frames of ds, which are its part of the
// datagram: p.L4Len bytes from p.L4Off on, the headers in front of them. It came
// by the queue from. When with it the datagram is whole, Add returns that, the
// transport header first, and makes p describe it. The frames are the caller's
// then; the slice is good until the next Add.
func (r *Reassembler) Add(p *Packet, ds []ring.Desc, from int, now int64) []ring.Desc {
	r.Stats.Fragments++
	r.Expire(now)
	key := fragKeyOf(p)
	d := r.find(&key)
	if d != nil && d.state == kernels && now-d.since() > kernelsFor {
		r.remove(d)
		d = nil
	}
	if ds[0].Flags&ring.FlagKernels != 0 {
		r.isKernels(d, p, ds, from, now)
		return nil
	}
	if d != nil && d.state == kernels {
		if p.FragOff != 0 {
			r.giveBack(p, ds, from)
			return nil
		}
		r.remove(d) // the identification again, and ours
		d = nil
	}
	if p.MoreFrags && p.L4Len%8 != 0 {
		if p.V6 {
			return r.malformed(d, p, ds, from, now)
		}
		ds = r.cut(p, ds) // as Linux does
	}
	var first firstFragment
	if p.FragOff == 0 && p.L4Len > 0 { // else it has no ports
		whole := first.read(p, r.arena.Data(ds[0]))
		if !whole && p.V6 { // d waits on, for a first that is one
			r.Stats.Tiny++
			return r.malformed(d, p, ds, from, now)
		}
		if d != nil {
			r.own(d, &first)
		}
		if !whole { // RFC 1858, 3; RFC 7112, 5
			return r.refuse(d, p, ds, from, &r.Stats.Tiny)
		}
	}
	if p.V6 && p.FragOff == 0 && p.L4Len == 0 { // likewise
		return r.malformed(d, p, ds, from, now)
	}
	if d == nil {
		d = r.begin(&key, &first, now)
	} else {
		d = r.distance(d, &first, now)
	}
	off, end := p.FragOff, p.FragOff+p.L4Len
	if p.V6 && end+headersOf(p) > maxDatagram { // RFC 8200, 4.5; of IPv4's, finish
		return r.malformed(d, p, ds, from, now)
	}
	if !d.fits(end, p.MoreFrags) {
		return r.refuse(d, p, ds, from, &r.Stats.Overlaps)
	}
	if p.L4Len <= 0 {
		return r.refuse(d, p, ds, from, &r.Stats.Malformed)
	}
	prev, next := r.position(d, off)
	switch r.compare(prev, next, off, end) {
	case fragSame:
		// The network may duplicate (RFC 8200, 4.5).
		r.Stats.Duplicates++
		r.cache.FreeDescs(ds)
		return nil
	case fragOverlap:
		return r.refuse(d, p, ds, from, &r.Stats.Overlaps) // RFC 5722, 4
	}
	if d.frames+len(ds) > maxFragFrames {
		return r.refuse(d, p, ds, from, &r.Stats.Oversize)
	}
	r.link(d, ds, prev, next, p, from)
	d.ecn |= 1 << (p.TOS & 3)
	if d.ended && d.got == d.top {
		return r.finish(d, p)
	}
	r.lendOne(d, ds[0].Frame)
	r.bound(d)
	return nil
}

// cut shortens an IPv4 fragment to a multiple of 8 bytes, and has its header say so
// where a kernel may get it: that drops packets that are shorter than they say.
func (r *Reassembler) cut(p *Packet, ds []ring.Desc) []ring.Desc {
	p.L4Len &^= 7
	if r.Return != nil {
		h := r.arena.Bytes(ds[0].Frame)[:ds[0].Off][int(ds[0].Off)-p.L4Off+p.NetOff:]
		putLength4(h, len(h)+p.L4Len)
	}
	n := p.L4Len
	for i := range ds {
		if int(ds[i].Len) >= n {
			ds[i].Len, ds[i].Flags = uint16(n), ds[i].Flags&^ring.FlagMore
			r.cache.FreeDescs(ds[i+1:])
			return ds[:i+1]
		}
		n -= int(ds[i].Len)
	}
	return ds
}

// begin adds a datagram. Where first is not its first fragment, it may be the
// kernel's.
func (r *Reassembler) begin(key *fragKey, first *firstFragment, now int64) *fragDatagram {
	d := r.insert(key, now)
	d.first = *first
	d.peer.n++
	d.peerN = d.peer.n
	if r.isDoubtful(d) {
		r.doubtful.push(d, listDoubt)
	}
	return d
}

// own notes that the first fragment of d has come, and is ours.
func (r *Reassembler) own(d *fragDatagram, first *firstFragment) {
	if !d.first.there {
		d.first = *first
		r.doubtful.remove(d, listDoubt)
	}
}

// distance notes that a fragment of d came, and has the datagram begin anew where
// too many others came meanwhile.
func (r *Reassembler) distance(d *fragDatagram, first *firstFragment, now int64) *fragDatagram {
	d.peer.n++
	far := d.peer.n-d.peerN > maxFragDist
	d.peerN = d.peer.n
	if !far || d.key.v6 || d.head == ring.NoFrame {
		return d
	}
	r.Stats.TooFar++
	key := d.key
	r.drop(d)
	r.remove(d)
	return r.begin(&key, first, now)
}

// bound evicts what is too much after d grew, the oldest first; d itself may
// be among it.
func (r *Reassembler) bound(d *fragDatagram) {
	for d.peer != nil && d.peer.held > r.peerLimit {
		r.evict(d.peer.list.oldest)
	}
	for r.held > r.limit {
		r.evict(r.oldest())
	}
}

// refuse forgets a datagram and the fragment at hand, as Linux does. d may be
// nil: none is held yet.
func (r *Reassembler) refuse(d *fragDatagram, p *Packet, ds []ring.Desc, from int, counter *uint64) []ring.Desc {
	*counter++
	kernels := d != nil && r.isDoubtful(d)
	if d != nil {
		r.drop(d)
		r.remove(d)
	}
	if kernels {
		r.giveBack(p, ds, from)
	} else {
		r.cache.FreeDescs(ds)
	}
	return nil
}

// malformed drops an IPv6 fragment that is none; what is held of its datagram waits
// on. The kernel gets it: it answers with a parameter problem (RFC 8200, 4.5), or it
// may be the kernel's.
func (r *Reassembler) malformed(d *fragDatagram, p *Packet, ds []ring.Desc, from int, now int64) []ring.Desc {
	r.Stats.Malformed++
	doubt := d == nil && p.FragOff != 0 || d != nil && r.isDoubtful(d)
	if doubt || r.MayAnswer == nil || r.MayAnswer(now) {
		r.giveBack(p, ds, from)
	} else {
		r.cache.FreeDescs(ds)
	}
	if d != nil && d.head == ring.NoFrame && d.state == gathering {
		r.remove(d)
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
	there          bool
	proto          uint8
	tos, ttl       uint8
	netOff, l4Off  int
	skip           int // extension headers in front of the transport's
	headers        int // see headersOf
	srcMAC, dstMAC [6]byte
}

// read reads a first fragment, of which b is the first piece. false: it lacks the
// headers that a decision needs.
func (f *firstFragment) read(p *Packet, b []byte) bool {
	*f = firstFragment{
		there: true,
		proto: p.Proto, tos: p.TOS, ttl: p.TTL,
		netOff: p.NetOff, l4Off: p.L4Off, headers: headersOf(p), srcMAC: p.SrcMAC, dstMAC: p.DstMAC,
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

// fits reports whether a fragment that ends at end agrees with what is known of
// the datagram's length, and notes what it adds to that.
func (d *fragDatagram) fits(end int, more bool) bool {
	switch {
	case !more && (end < d.top || d.ended && end != d.top), more && end > d.top && d.ended:
		return false
	case !more:
		d.ended = true
	}
	d.top = max(d.top, end)
	return true
}

// A fragment's first frame carries the part of the datagram that it is in
// Meta.Seq, the length of its headers in Meta.Flags, and its queue in
// Meta.TimePrev; its other frames follow through Meta.TimeNext, and the fragments
// of a datagram, in order, through Meta.Next and Prev.

const (
	fragHead = 0x7fff // bits of Meta.Flags: bytes of headers
	fragRun  = 0x8000 // it came behind all others, where the last of them ends
)

// putPart says in m that a fragment is the bytes from off, a multiple of 8 below
// 1<<16, to end. An end may be beyond what a datagram can have.
func putPart(m *ring.Meta, off, end int) { m.Seq = uint32(off/8)<<18 | uint32(end) }

func fragOff(m *ring.Meta) int { return int(m.Seq>>18) * 8 }
func fragEnd(m *ring.Meta) int { return int(m.Seq & (1<<18 - 1)) }

// How a fragment is to those that are there.
const (
	fragNew = iota
	fragSame
	fragOverlap
)

// compare says how the fragment from off to end is to those that are there, of
// which prev and next are its neighbours. As in Linux (inet_frag_queue_insert) it
// is a duplicate where it lies within a run of fragments that came in order, though
// it may be cut otherwise.
func (r *Reassembler) compare(prev, next ring.Frame, off, end int) int {
	if prev == ring.NoFrame || fragEnd(r.arena.Meta(prev)) <= off {
		if next != ring.NoFrame && fragOff(r.arena.Meta(next)) < end {
			return fragOverlap
		}
		return fragNew
	}
	for m := r.arena.Meta(prev); fragEnd(m) < end; {
		if m.Next == ring.NoFrame {
			return fragOverlap
		}
		if m = r.arena.Meta(m.Next); m.Flags&fragRun == 0 {
			return fragOverlap
		}
	}
	return fragSame
}

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

// link puts the fragment p between its neighbours.
func (r *Reassembler) link(d *fragDatagram, ds []ring.Desc, prev, next ring.Frame, p *Packet, from int) {
	off, end := p.FragOff, p.FragOff+p.L4Len
	for i := range ds {
		m := r.arena.Meta(ds[i].Frame)
		m.Off, m.Len, m.TimeNext = ds[i].Off, ds[i].Len, ring.NoFrame
		if i > 0 {
			r.arena.Meta(ds[i-1].Frame).TimeNext = ds[i].Frame
		}
	}
	f := ds[0].Frame
	m := r.arena.Meta(f)
	putPart(m, off, end)
	m.Flags, m.TimePrev = uint16(p.L4Off), ring.Frame(from)
	if prev != ring.NoFrame && next == ring.NoFrame && fragEnd(r.arena.Meta(prev)) == off {
		m.Flags |= fragRun
	}
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
	d.frames += len(ds)
	r.hold(d, len(ds)*r.arena.FrameSize())
}

// finish hands out a complete datagram.
func (r *Reassembler) finish(d *fragDatagram, p *Packet) []ring.Desc {
	tos, ok := mergeECN(d.first.tos, d.ecn)
	if !ok {
		return r.forget(d, &r.Stats.ECN)
	}
	if d.top+d.first.headers > maxDatagram { // ping of death
		return r.forget(d, &r.Stats.Oversize)
	}
	// The first that was read may have been refused, and another, shorter, be held.
	if d.first.skip > int(r.arena.Meta(d.head).Len) {
		return r.forget(d, &r.Stats.Malformed)
	}
	if r.out == nil {
		r.out = make([]ring.Desc, 0, maxFragFrames)
	}
	out := r.out[:0]
	for f := d.head; f != ring.NoFrame; f = r.arena.Meta(f).Next {
		for g := f; g != ring.NoFrame; g = r.arena.Meta(g).TimeNext {
			m := r.arena.Meta(g)
			out = append(out, ring.Desc{Frame: g, Off: m.Off, Len: m.Len, Flags: ring.FlagMore})
			m.Flags = 0
		}
	}
	out[len(out)-1].Flags = 0
	out[0].Off += uint16(d.first.skip)
	out[0].Len -= uint16(d.first.skip)
	x := &d.first
	p.Proto, p.TOS, p.TTL, p.SrcMAC, p.DstMAC = x.proto, tos, x.ttl, x.srcMAC, x.dstMAC
	p.NetOff, p.L4Off, p.L4Len = x.netOff, x.l4Off+x.skip, d.top-x.skip
	p.Fragment, p.MoreFrags, p.FragOff = false, false, 0
	r.Stats.Whole++
	r.remove(d)
	if len(out)*r.arena.FrameSize() > sparse*p.L4Len {
		return r.compact(out)
	}
	return out
}

// sparse is how many times its length the frames of a datagram may take: a socket
// counts frames, of which small fragments would fill its buffer.
const sparse = 4

// compact copies what fits into the frame before it.
func (r *Reassembler) compact(ds []ring.Desc) []ring.Desc {
	last := 0
	for _, d := range ds[1:] {
		to := &ds[last]
		if at := int(to.Off) + int(to.Len); at+int(d.Len) <= r.arena.FrameSize() {
			copy(r.arena.Bytes(to.Frame)[at:], r.arena.Data(d))
			to.Len += d.Len
			r.cache.Free(d.Frame)
			continue
		}
		last++
		ds[last] = d
	}
	ds[last].Flags = 0
	return ds[:last+1]
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

// forget drops a whole datagram that may not be delivered.
func (r *Reassembler) forget(d *fragDatagram, counter *uint64) []ring.Desc {
	*counter++
	r.drop(d)
	r.remove(d)
	return nil
}

func (r *Reassembler) evict(d *fragDatagram) {
	r.Stats.Evicted++
	r.drop(d)
	r.remove(d)
}

// Expire drops datagrams whose time is over, and lends the kernel what may be its.
func (r *Reassembler) Expire(now int64) {
	r.lend(now)
	for i := range r.byAge {
		for d := r.byAge[i].oldest; d != nil && d.expires <= now; d = r.byAge[i].oldest {
			if d.state != kernels {
				r.Stats.Timeouts++
				r.tellTimeout(d)
			}
			r.drop(d)
			r.remove(d)
		}
	}
}

// tellTimeout tells of the end of d, if its first fragment is there and has ports
// (RFC 792, time exceeded; RFC 8200, 4.5).
func (r *Reassembler) tellTimeout(d *fragDatagram) {
	if r.TimedOut == nil || !d.first.there || d.head == ring.NoFrame || fragOff(r.arena.Meta(d.head)) != 0 {
		return
	}
	if d.first.proto == ProtoTCP || d.first.proto == ProtoUDP {
		r.TimedOut(r.fragment(d.head))
	}
}

// Flush drops everything held.
func (r *Reassembler) Flush() {
	for d := r.oldest(); d != nil; d = r.oldest() {
		r.drop(d)
		r.remove(d)
	}
}
