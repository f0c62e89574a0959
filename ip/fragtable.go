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
	byAge     [2]ageList // IPv4, IPv6: within one, older is due sooner
	held      int        // bytes
	spare     *fragDatagram
	sparePeer *fragPeer
}

// fragKey is what the fragments of a datagram have in common (RFC 791, 3.2;
// RFC 8200, 4.5: there without the protocol).
type fragKey struct {
	src, dst [16]byte
	id       uint32
	vlan     uint16
	proto    uint8
	v6       bool
}

func fragKeyOf(p *Packet) fragKey {
	k := fragKey{src: p.Src.As16(), dst: p.Dst.As16(), id: p.FragID, vlan: p.VLAN, v6: p.V6}
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
	expires int64
	first   firstFragment
	head    ring.Frame // fragments by offset
	tail    ring.Frame
	held    int // bytes counted for it
	frames  int
	got     int   // bytes
	top     int   // end of the last fragment
	total   int   // length, -1: not yet known
	ecn     uint8 // codepoints seen, a bit each
	dead    bool  // it was dropped, and is kept to refuse later fragments

	peer         *fragPeer
	older, newer *fragDatagram // of all
	peerAge      struct{ older, newer *fragDatagram }
}

// fragPeer is a sender of fragments.
type fragPeer struct {
	key            peerKey
	held           int
	oldest, newest *fragDatagram
	spare          *fragPeer
}

type ageList struct{ oldest, newest *fragDatagram }

func (t *fragTable) find(k *fragKey) *fragDatagram { return t.datagrams[*k] }

// insert adds an empty datagram.
func (t *fragTable) insert(k *fragKey, now int64) *fragDatagram {
	if t.datagrams == nil {
		t.datagrams, t.peers = map[fragKey]*fragDatagram{}, map[peerKey]*fragPeer{}
	}
	d := t.spare
	if d != nil {
		t.spare = d.older
	} else {
		d = new(fragDatagram)
	}
	*d = fragDatagram{key: *k, head: ring.NoFrame, tail: ring.NoFrame, total: -1, expires: now + fragTimeout4}
	i := 0
	if k.v6 {
		i, d.expires = 1, now+fragTimeout6
	}
	l := &t.byAge[i]
	if d.older = l.newest; d.older != nil {
		d.older.newer = d
	} else {
		l.oldest = d
	}
	l.newest = d
	t.datagrams[*k] = d

	p := t.peer(k.peer())
	d.peer = p
	if d.peerAge.older = p.newest; p.newest != nil {
		p.newest.peerAge.newer = d
	} else {
		p.oldest = d
	}
	p.newest = d
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
	i := 0
	if d.key.v6 {
		i = 1
	}
	l := &t.byAge[i]
	if d.older != nil {
		d.older.newer = d.newer
	} else {
		l.oldest = d.newer
	}
	if d.newer != nil {
		d.newer.older = d.older
	} else {
		l.newest = d.older
	}
	a := &d.peerAge
	if a.older != nil {
		a.older.peerAge.newer = a.newer
	} else {
		p.oldest = a.newer
	}
	if a.newer != nil {
		a.newer.peerAge.older = a.older
	} else {
		p.newest = a.older
	}
	if p.oldest == nil {
		delete(t.peers, p.key)
		p.spare, t.sparePeer = t.sparePeer, p
	}
	*d = fragDatagram{older: t.spare}
	t.spare = d
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
	if a == nil || b != nil && b.expires-fragTimeout6 < a.expires-fragTimeout4 {
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
	return at
}
