package tcp

import (
	"math"
	"net/netip"
)

// synRetries is how often a SYN-ACK is sent again; the first wait is
// synTimeout, and each further one doubles (RFC 6298, Linux's defaults).
const (
	synRetries      = 5
	synRetriesTight = 2 // while the queue is more than half full
	synTimeout      = 1e9
)

// synEntry is a connection whose handshake is not complete: all the memory that a
// SYN costs us. It has no pointers.
type synEntry struct {
	local, remote         [16]byte
	localPort, remotePort uint16
	iss, irs              uint32
	tsFirst               uint32 // our timestamp in the first SYN-ACK
	tsRecent              uint32 // the peer's
	mss                   uint16
	wnd                   uint16 // window of the SYN-ACKs, bytes
	sndWS                 int8
	flags                 uint8
	retries               uint8 // by the timer; also which list the entry is on
	resent                uint8 // in all, by the timer or for a repeated SYN
	chain                 uint32
	prev, next            uint32 // on the list by time
	deadline              int64
	sentAt                int64 // the SYN-ACK last sent
	ackAt                 int64 // last answer to an unacceptable segment; 0: none
}

// Bits of synEntry.flags.
const (
	synV6 = 1 << iota
	synSACK
	synTS
	synAcked // the final ACK came, and the accept queue was full
	synECN   // ECN is agreed on (RFC 3168)
	synNoECT // but a SYN came too that did not ask for it
)

func (e *synEntry) has(f uint8) bool { return e.flags&f != 0 }

func unpackAddr(a [16]byte, v6 bool) netip.Addr {
	if v6 {
		return netip.AddrFrom16(a)
	}
	return netip.AddrFrom4([4]byte(a[12:]))
}

func (e *synEntry) ends() (local, remote netip.AddrPort) {
	v6 := e.has(synV6)
	return netip.AddrPortFrom(unpackAddr(e.local, v6), e.localPort),
		netip.AddrPortFrom(unpackAddr(e.remote, v6), e.remotePort)
}

// synQueue holds the entries of a listener. A keyed hash finds them by address, and
// one list per number of retries by time: all entries of a list wait equally long,
// so each list is in order of deadlines. Entries are named by index; 0 is none.
type synQueue struct {
	key     *[16]byte
	slab    []synEntry // slab[0] is not used
	buckets []uint32   // a power of two; nil while empty
	free    uint32     // through chain
	n       int
	lists   [synRetries + 1]struct{ head, tail uint32 }
}

// hashSYN distinguishes the hash of the queue from the other uses of the key.
const hashSYN = 1

func (q *synQueue) bucket(local, remote netip.AddrPort) uint32 {
	return uint32(hashPair(q.key, local, remote, hashSYN)) & uint32(len(q.buckets)-1)
}

// find returns the entry of the two endpoints, nil if there is none.
func (q *synQueue) find(local, remote netip.AddrPort) (uint32, *synEntry) {
	if q.n == 0 {
		return 0, nil
	}
	l, r := local.Addr().As16(), remote.Addr().As16()
	for i := q.buckets[q.bucket(local, remote)]; i != 0; i = q.slab[i].chain {
		e := &q.slab[i]
		if e.remotePort == remote.Port() && e.localPort == local.Port() && e.remote == r && e.local == l {
			return i, e
		}
	}
	return 0, nil
}

// add makes an entry, which is on no list yet. The pointer is good until the next
// add.
func (q *synQueue) add(local, remote netip.AddrPort) (uint32, *synEntry) {
	if q.free == 0 {
		q.grow()
	}
	i := q.free
	e := &q.slab[i]
	q.free = e.chain
	*e = synEntry{
		local: local.Addr().As16(), remote: remote.Addr().As16(),
		localPort: local.Port(), remotePort: remote.Port(),
	}
	if local.Addr().Is6() {
		e.flags |= synV6
	}
	b := &q.buckets[q.bucket(local, remote)]
	e.chain, *b = *b, i
	q.n++
	return i, e
}

// grow doubles the room. A listener that never saw a SYN has none.
func (q *synQueue) grow() {
	old := len(q.slab)
	size := max(2*old, 16)
	slab := make([]synEntry, size)
	copy(slab, q.slab)
	q.slab = slab
	for i := size - 1; i >= max(old, 1); i-- {
		slab[i].chain, q.free = q.free, uint32(i)
	}
	q.buckets = make([]uint32, size)
	for l := range q.lists {
		for i := q.lists[l].head; i != 0; i = slab[i].next {
			b := &q.buckets[q.bucket(slab[i].ends())]
			slab[i].chain, *b = *b, i
		}
	}
}

// remove forgets entry i. With the last one a large queue gives its memory
// back.
func (q *synQueue) remove(i uint32) {
	e := &q.slab[i]
	q.unlink(i)
	at := &q.buckets[q.bucket(e.ends())]
	for *at != i {
		at = &q.slab[*at].chain
	}
	*at = e.chain
	e.chain, q.free = q.free, i
	if q.n--; q.n == 0 && len(q.slab) > 256 {
		q.slab, q.buckets, q.free = nil, nil, 0
	}
}

// schedule puts entry i at the end of the list of its retries.
func (q *synQueue) schedule(i uint32, now int64) {
	e := &q.slab[i]
	e.deadline = now + synTimeout<<e.retries
	l := &q.lists[e.retries]
	e.prev, e.next = l.tail, 0
	if l.tail == 0 {
		l.head = i
	} else {
		q.slab[l.tail].next = i
	}
	l.tail = i
}

func (q *synQueue) unlink(i uint32) {
	e := &q.slab[i]
	l := &q.lists[e.retries]
	if e.prev == 0 {
		l.head = e.next
	} else {
		q.slab[e.prev].next = e.next
	}
	if e.next == 0 {
		l.tail = e.prev
	} else {
		q.slab[e.next].prev = e.prev
	}
}

// earliest returns the entry with the next deadline.
func (q *synQueue) earliest() (i uint32, at int64) {
	at = math.MaxInt64
	for l := range q.lists {
		if h := q.lists[l].head; h != 0 && q.slab[h].deadline < at {
			i, at = h, q.slab[h].deadline
		}
	}
	return i, at
}
