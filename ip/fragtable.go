package ip

import (
	"math"

	"github.com/onload-go/onload/ring"
)

// fragTable finds the datagrams under reassembly, and keeps them by age. Go's
// maps hash with a secret of their own (attack 24).
type fragTable struct {
	datagrams map[fragKey]*fragDatagram
	peers     map[peerKey]*fragPeer
	byAge     [2]fragList // IPv4, IPv6: within one, older is due sooner
	doubtful  fragList    // the first is not there, so they may be the kernel's
	held      int         // bytes
	spare     *fragDatagram
	sparePeer *fragPeer
}

// fragKey is what the fragments of a datagram have in common (RFC 791, 3.2;
// RFC 8200, 4.5: there without the protocol). They may come by several links.
type fragKey struct {
	src, dst [16]byte
	id       uint32
	proto    uint8
	v6       bool
}

func fragKeyOf(p *Packet) fragKey {
	k := fragKey{src: p.Src.As16(), dst: p.Dst.As16(), id: p.FragID, v6: p.V6}
	if !p.V6 {
		k.proto = p.Proto
	}
	return k
}

// peerKey is a sender. An IPv6 host has a whole /64 to send from.
type peerKey [16]byte

func (k *fragKey) peer() (p peerKey) {
	p = k.src
	if k.v6 {
		clear(p[8:])
	}
	return p
}

// fragCost is what a datagram costs beside its frames, in bytes.
const fragCost = 512

// fragDatagram is a datagram of which some fragments have come.
type fragDatagram struct {
	key     fragKey
	expires int64 // ns
	first   firstFragment
	head    ring.Frame // fragments by offset
	tail    ring.Frame
	held    int // bytes counted for it
	frames  int
	got     int    // bytes
	top     int    // end of the last fragment, as far as is known
	ended   bool   // top is the datagram's end
	ecn     uint8  // codepoints seen, a bit each
	peerN   uint32 // the peer's count when a fragment of it came last
	state   fragState
	lent    bool // doubtful for so long that the kernel has copies

	peer *fragPeer
	at   [3]struct{ older, newer *fragDatagram } // in each list
}

type fragState uint8

const (
	gathering fragState = iota
	kernels             // all of it goes back
)

// fragPeer is a sender of fragments.
type fragPeer struct {
	key   peerKey
	held  int
	n     uint32 // fragments that came while something of it was held
	list  fragList
	spare *fragPeer
}

// Lists of datagrams, by age: the index is that of fragDatagram.at.
const (
	listAge = iota
	listPeer
	listDoubt
)

type fragList struct{ oldest, newest *fragDatagram }

func (l *fragList) push(d *fragDatagram, i int) {
	a := &d.at[i]
	a.older, a.newer = l.newest, nil
	if a.older != nil {
		a.older.at[i].newer = d
	} else {
		l.oldest = d
	}
	l.newest = d
}

// remove does nothing where d is not on the list.
func (l *fragList) remove(d *fragDatagram, i int) {
	a := &d.at[i]
	if a.older == nil && l.oldest != d {
		return
	}
	if a.older != nil {
		a.older.at[i].newer = a.newer
	} else {
		l.oldest = a.newer
	}
	if a.newer != nil {
		a.newer.at[i].older = a.older
	} else {
		l.newest = a.older
	}
	a.older, a.newer = nil, nil
}

func (t *fragTable) find(k *fragKey) *fragDatagram { return t.datagrams[*k] }

// family is the index in byAge.
func (d *fragDatagram) family() int {
	if d.key.v6 {
		return 1
	}
	return 0
}

// timeout is how long d waits for its rest, in ns.
func (d *fragDatagram) timeout() int64 {
	if d.key.v6 {
		return fragTimeout6
	}
	return fragTimeout4
}

// since is when the first fragment of d came, ns.
func (d *fragDatagram) since() int64 { return d.expires - d.timeout() }

// insert adds an empty datagram.
func (t *fragTable) insert(k *fragKey, now int64) *fragDatagram {
	if t.datagrams == nil {
		t.datagrams, t.peers = map[fragKey]*fragDatagram{}, map[peerKey]*fragPeer{}
	}
	d := t.spare
	if d != nil {
		t.spare = d.at[listAge].older
	} else {
		d = new(fragDatagram)
	}
	*d = fragDatagram{key: *k, head: ring.NoFrame, tail: ring.NoFrame, peer: t.peer(k.peer())}
	d.expires = now + d.timeout()
	t.byAge[d.family()].push(d, listAge)
	d.peer.list.push(d, listPeer)
	t.datagrams[*k] = d
	t.hold(d, fragCost)
	return d
}

func (t *fragTable) peer(k peerKey) *fragPeer {
	p := t.peers[k]
	if p != nil {
		return p
	}
	if p = t.sparePeer; p != nil {
		t.sparePeer = p.spare
	} else {
		p = new(fragPeer)
	}
	*p = fragPeer{key: k}
	t.peers[k] = p
	return p
}

// remove forgets d. The caller frees its frames.
func (t *fragTable) remove(d *fragDatagram) {
	p := d.peer
	t.hold(d, -d.held)
	delete(t.datagrams, d.key)
	t.byAge[d.family()].remove(d, listAge)
	t.doubtful.remove(d, listDoubt)
	p.list.remove(d, listPeer)
	if p.list.oldest == nil {
		delete(t.peers, p.key)
		p.spare, t.sparePeer = t.sparePeer, p
	}
	*d = fragDatagram{}
	d.at[listAge].older, t.spare = t.spare, d
}

// hold adds n bytes to the memory that d holds.
func (t *fragTable) hold(d *fragDatagram, n int) {
	d.held += n
	d.peer.held += n
	t.held += n
}

// oldest returns the datagram that came first, or nil.
func (t *fragTable) oldest() *fragDatagram {
	a, b := t.byAge[0].oldest, t.byAge[1].oldest
	if a == nil || b != nil && b.since() < a.since() {
		return b
	}
	return a
}

// Deadline returns when Expire has something to do, in ns; math.MaxInt64 if
// nothing is held.
func (t *fragTable) Deadline() int64 {
	at := int64(math.MaxInt64)
	for i := range t.byAge {
		if d := t.byAge[i].oldest; d != nil {
			at = min(at, d.expires)
		}
	}
	if d := t.doubtful.oldest; d != nil {
		at = min(at, d.since()+lendAfter)
	}
	return at
}
