package ip

import "github.com/onload-go/onload/ring"

// A fragment that overtakes the first of its datagram has no ports, so nobody knows
// whose it is. Where a kernel stands behind the link (Reassembler.Return) it is
// held in doubt:
//
//   - The first comes, and is ours: so are all.
//   - The first comes, marked as the kernel's: all goes back, also what is still to
//     come.
//   - The first stays away for lendAfter: it may have gone to the kernel by another
//     link. The kernel gets copies, and what we hold waits on.
//   - The datagram leaves in any other way, for memory or for a fragment that no
//     datagram can have: the kernel gets all, and judges by its own rules.

// lendAfter is how long the first fragment may stay away, in ns, before the kernel
// gets copies of the others: as long as a kernel's socket waits in the worst case.
const lendAfter = int64(50e6)

// kernelsFor is how long a first fragment makes its datagram the kernel's, in ns:
// identifications of IPv4 return soon (RFC 4963). Keep in step with FRAG_TTL_NS in
// driver/afxdp/bpf/steer.c.
const kernelsFor = int64(1e9)

// isDoubtful reports whether d may be the kernel's.
func (r *Reassembler) isDoubtful(d *fragDatagram) bool {
	return r.Return != nil && d.state != kernels && !d.first.there
}

// giveBack gives the kernel the fragment p, of which ds are the part of the
// datagram, and frees it.
func (r *Reassembler) giveBack(p *Packet, ds []ring.Desc, from int) {
	if r.Return != nil {
		r.Stats.Returned++
		head := uint16(p.L4Off)
		ds[0].Off -= head
		ds[0].Len += head
		r.Return(from, ds)
	}
	r.cache.FreeDescs(ds)
}

// giveBackHeld gives the kernel the fragments that d holds; they stay.
func (r *Reassembler) giveBackHeld(d *fragDatagram) {
	for f := d.head; f != ring.NoFrame; f = r.arena.Meta(f).Next {
		r.Stats.Returned++
		r.Return(r.fragment(f))
	}
}

// fragment returns the fragment whose first frame is f, and by which queue it came.
// The slice is good until the next call.
func (r *Reassembler) fragment(f ring.Frame) (from int, ds []ring.Desc) {
	ds = r.one[:0]
	first := r.arena.Meta(f)
	for g := f; g != ring.NoFrame; g = r.arena.Meta(g).TimeNext {
		m := r.arena.Meta(g)
		ds = append(ds, ring.Desc{Frame: g, Off: m.Off, Len: m.Len, Flags: ring.FlagMore})
	}
	ds[len(ds)-1].Flags = 0
	head := first.Flags & fragHead
	ds[0].Off -= head
	ds[0].Len += head
	r.one = ds
	return int(first.TimePrev), ds
}

// isKernels notes that the datagram of p, d unless that is nil, is the kernel's. p
// is its first fragment. Where another first was ours, that decides: whoever can
// forge one of another port must not take the datagram away.
func (r *Reassembler) isKernels(d *fragDatagram, p *Packet, ds []ring.Desc, from int, now int64) {
	if d != nil && d.first.there {
		r.giveBack(p, ds, from)
		return
	}
	if d == nil {
		key := fragKeyOf(p)
		d = r.insert(&key, now)
	}
	r.drop(d)
	d.state = kernels
	r.doubtful.remove(d, listDoubt)
	r.giveBack(p, ds, from)
	r.bound(d)
}

// lend gives the kernel copies of what has been doubtful for too long.
func (r *Reassembler) lend(now int64) {
	for d := r.doubtful.oldest; d != nil && d.since()+lendAfter <= now; d = r.doubtful.oldest {
		r.doubtful.remove(d, listDoubt)
		r.giveBackHeld(d)
		d.lent = true
	}
}

// lendOne gives the kernel a copy of the fragment f, which has just been linked,
// where it has copies of the others.
func (r *Reassembler) lendOne(d *fragDatagram, f ring.Frame) {
	if d.lent && r.isDoubtful(d) {
		r.Stats.Returned++
		r.Return(r.fragment(f))
	}
}

// drop frees the frames of d, and gives the kernel what may be its.
func (r *Reassembler) drop(d *fragDatagram) {
	if r.isDoubtful(d) && !d.lent {
		r.giveBackHeld(d)
	}
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
	d.head, d.tail, d.frames, d.got = ring.NoFrame, ring.NoFrame, 0, 0
}
