package neigh

import (
	"net/netip"
	"slices"
	"time"
)

// entry is what the host knows of a neighbour: a conceptual row of RFC 4861's
// neighbour cache (5.1), for ARP too (RFC 1122, 2.3.2.1 leaves the means open).
type entry struct {
	addr  netip.Addr
	mac   [6]byte // zero in state incomplete, unless it was known before
	state state
	at    int64 // when the state ends, or something is due in it
	sent  int   // solicitations in the state
	moved int64 // when mac came
	used  int64 // when the entry was last known to be of use
	sure  int64 // not before then is the neighbour asked because of a doubt
	asked bool  // Out's user wanted it and hears of it; otherwise it only spoke to us
}

type state uint8

const (
	incomplete state = iota // asked for by multicast or broadcast
	reachable               // it answered a moment ago
	stale                   // it may have moved
	delay                   // in use while stale: the upper layers may hear of it
	probe                   // asked whether it is there still
)

// Constants of RFC 4861, 10. Linux has the same.
const (
	maxMulticastSolicit = 3
	maxUnicastSolicit   = 3
	retransTimer        = int64(time.Second)
	reachableTime       = int64(30 * time.Second) // mean; each is drawn from half of it to one and a half
	delayFirstProbe     = int64(5 * time.Second)
)

const (
	// lockTime is how long a neighbour's address stays, whatever unsolicited
	// messages say: two hosts that have one address do not make us change sides
	// with each packet (Linux's locktime).
	lockTime = int64(time.Second)
	// staleCheck is how often a stale entry is looked at: is it in use again?
	staleCheck = int64(5 * time.Second)
	// staleMost is how long an entry lives that is not in use.
	staleMost = int64(60 * time.Second)

	// MaxNeighbors bounds the cache, as Linux's gc_thresh3 (attack 22).
	MaxNeighbors = 1024
	// maxHeard bounds the entries that nobody asked for.
	maxHeard = MaxNeighbors / 2
)

// Resolve asks for a neighbour. The answer is Out's Neighbor or Gone. It comes
// within the call where the address is known, or there is no room to ask.
func (h *Host) Resolve(addr netip.Addr, now int64) {
	e := h.cache[addr]
	switch {
	case e == nil:
		if e = h.insert(addr, true, now); e == nil {
			h.out.Gone(addr)
			return
		}
		h.solicit(e, now)
	case e.state == incomplete:
		e.asked = true // it is under way
	default:
		e.asked = true
		h.out.Neighbor(addr, e.mac)
	}
}

// Confirm takes the news that a neighbour answers: what was sent to it has been
// acknowledged (RFC 4861, 7.3.1).
func (h *Host) Confirm(addr netip.Addr, now int64) {
	if e := h.cache[addr]; e != nil && e.state != incomplete {
		h.confirm(e, now)
	}
}

// Doubt takes the news that nothing is heard of what was sent to a neighbour: it is asked
// whether it is there, unless it was a moment ago.
func (h *Host) Doubt(addr netip.Addr, now int64) {
	e := h.cache[addr]
	if e == nil || e.state == incomplete || e.state == probe || now < e.sure {
		return
	}
	h.enter(e, probe, now)
	h.solicit(e, now)
}

// confirm makes e reachable.
func (h *Host) confirm(e *entry, now int64) {
	e.sure = now + delayFirstProbe
	h.enter(e, reachable, now+reachableTime/2+h.rng.Int64N(reachableTime))
	h.slaac.reached(e.addr, now)
}

// enter puts e into a state that ends at a time.
func (h *Host) enter(e *entry, s state, at int64) {
	e.state, e.at, e.sent = s, at, 0
	h.at(at)
}

// age does what is due for e.
func (h *Host) age(e *entry, now int64) {
	switch e.state {
	case incomplete:
		if e.sent >= maxMulticastSolicit {
			h.drop(e)
			h.slaac.unreached(e.addr, now)
			return
		}
		h.solicit(e, now)
	case reachable:
		e.used = now
		h.enter(e, stale, now)
		h.age(e, now)
	case stale:
		switch {
		case e.asked && h.out.InUse(e.addr):
			h.enter(e, delay, now+delayFirstProbe)
		case now-e.used >= staleMost && !slices.Contains(h.gateways, e.addr):
			h.drop(e)
		default:
			e.at = now + staleCheck
		}
	case delay:
		h.enter(e, probe, now)
		h.solicit(e, now)
	case probe:
		if e.sent >= maxUnicastSolicit {
			// It may have moved to another link-layer address without a word: ask
			// all, as though it were new (RFC 7048, 3), and send to the old
			// address meanwhile.
			h.enter(e, incomplete, now)
		}
		h.solicit(e, now)
	}
}

// solicit asks for e: all hosts of the link, or in state probe itself. The next time
// is due a second later (RFC 1122, 2.3.2.1; RFC 4861, 7.2.2).
func (h *Host) solicit(e *entry, now int64) {
	e.sent++
	e.at = now + retransTimer
	h.at(e.at)
	if e.addr.Is4() {
		h.solicit4(e)
	} else {
		h.solicit6(e)
	}
}

// insert makes an entry for addr, in state incomplete, or returns nil if there is no
// room: entries that are worth more have it.
func (h *Host) insert(addr netip.Addr, asked bool, now int64) *entry {
	if !h.room(asked) {
		h.counters.Full++
		return nil
	}
	e := &entry{addr: addr, used: now, at: now, asked: asked}
	h.cache[addr] = e
	return e
}

// room makes room for one more entry, and reports whether there is any. Of entries
// that nobody asked for the oldest goes, then of those that do not answer any: one
// that does has a chance to stay, however many are asked for. Entries that answered,
// and gateways, stay until they are not in use.
func (h *Host) room(asked bool) bool {
	var heard int
	var old, dumb *entry
	for _, e := range h.cache { // in an order that nobody can predict
		switch {
		case !e.asked && !slices.Contains(h.gateways, e.addr):
			if heard++; old == nil || e.used < old.used {
				old = e
			}
		case e.state == incomplete && e.mac == [6]byte{}:
			dumb = e
		}
	}
	switch {
	case !asked && heard >= maxHeard:
		h.drop(old)
	case len(h.cache) < MaxNeighbors:
	case old != nil:
		h.drop(old)
	case dumb != nil && asked:
		h.drop(dumb)
	default:
		return false
	}
	return true
}

// drop removes e.
func (h *Host) drop(e *entry) {
	delete(h.cache, e.addr)
	if e.asked {
		h.out.Gone(e.addr)
	}
}

// news is what a message says of a neighbour's link-layer address.
type news struct {
	addr      netip.Addr
	mac       [6]byte
	solicited bool // the answer to a question of ours: the neighbour hears us
	override  bool // another address than the one that is known is believed
	create    bool // worth an entry: the neighbour is about to get an answer
}

// learn takes news of a neighbour (RFC 826's merge; RFC 4861, 7.2.3 and 7.2.5).
func (h *Host) learn(n news, now int64) {
	e := h.cache[n.addr]
	if e == nil {
		if !n.create || !h.onLink(n.addr) {
			return
		}
		if e = h.insert(n.addr, false, now); e == nil {
			return
		}
	}
	switch moved := e.mac != n.mac; {
	case e.state == incomplete:
		h.move(e, n.mac, now)
	case moved && (!n.override || now-e.moved < lockTime && e.state != probe):
		if e.sure = now; e.state == reachable {
			h.enter(e, stale, now) // 7.2.5, I: two answers make it doubtful
		}
		return
	case moved:
		h.move(e, n.mac, now)
	}
	if n.solicited {
		h.confirm(e, now)
	}
}

// move takes a neighbour's new address. Whether it is there is found out when the
// entry is used. An entry that nobody asked for is no news: those who forge senders
// would have each user of the news work for them (attack 22).
func (h *Host) move(e *entry, mac [6]byte, now int64) {
	e.mac, e.moved, e.used = mac, now, now
	h.enter(e, stale, now)
	if e.asked {
		h.out.Neighbor(e.addr, mac)
	}
}
