package neigh

import (
	"net/netip"
	"slices"
	"time"

	"github.com/onload-go/onload/ip"
)

// own is one of the host's addresses.
type own struct {
	netip.Prefix
	by     origin
	state  ownState
	sent   int   // probes, then announcements
	at     int64 // when the next one is due; 0: none
	defend int64 // not before then is the address defended again
}

// origin is where an address comes from.
type origin uint8

const (
	byConfig origin = iota
	byDHCP
	byRouter
)

type ownState uint8

const (
	tentative ownState = iota // somebody else may have it
	ready
	duplicate
)

// IPv4 probes (RFC 5227, 1.1) wait a tenth of what the RFC says. Its constants are
// for links whose switches take seconds to forward; a program that starts does not
// wait for seven seconds.
const (
	probeWait        = int64(100 * time.Millisecond)
	probeNum         = 3
	probeMin         = int64(100 * time.Millisecond)
	probeMax         = int64(200 * time.Millisecond)
	announceWait     = int64(200 * time.Millisecond)
	announceNum      = 2
	announceInterval = int64(2 * time.Second)
	defendInterval   = int64(10 * time.Second)
)

// IPv6 addresses are asked for once (RFC 4862, 5.1).
const dupAddrDetectTransmits = 1

// add makes p one of the host's addresses.
func (h *Host) add(p netip.Prefix, by origin, now int64) {
	o := &own{Prefix: p, by: by, at: now + h.rng.Int64N(probeWait)}
	h.own = append(h.own, o)
	h.solicited(p.Addr(), 1, now) // before it is asked for (RFC 4862, 5.4.2)
	if h.noDAD {
		h.gotReady(o, now)
	}
	h.at(o.at)
}

// remove ends the use of an address that comes from by. A server may have given one that
// is configured too: that one stays.
func (h *Host) remove(p netip.Prefix, by origin, now int64) {
	for _, o := range h.own {
		if o.Prefix == p && o.by == by {
			h.forget(o, now)
			break
		}
	}
	if !slices.ContainsFunc(h.own, func(o *own) bool { return o.Prefix == p }) {
		h.out.Removed(p)
	}
}

// forget takes an address off the host's.
func (h *Host) forget(o *own, now int64) {
	h.solicited(o.Addr(), -1, now)
	h.own = slices.DeleteFunc(h.own, func(x *own) bool { return x == o })
}

// ours returns the address a of ours, or nil. One that a server has given may be
// configured too, and another host may have had it then: the one that is ready counts.
func (h *Host) ours(a netip.Addr) (best *own) {
	for _, o := range h.own {
		if o.Addr() == a && (best == nil || best.state != ready && (o.state == ready || best.state == duplicate)) {
			best = o
		}
	}
	return best
}

// onLink reports whether a is in a subnet of ours, or link-local.
func (h *Host) onLink(a netip.Addr) bool {
	if a.Is6() && a.IsLinkLocalUnicast() {
		return true
	}
	for _, o := range h.own {
		if o.Contains(a) {
			return true
		}
	}
	return onLink(h.learned.Routes, a)
}

// source returns the address from which a neighbour is asked for, which is then
// where it answers to: one of its subnet, else any of the same family.
func (h *Host) source(to netip.Addr) (netip.Addr, bool) {
	var any *own
	for _, o := range h.own {
		switch {
		case o.state != ready || o.Addr().Is4() != to.Is4():
		case o.Contains(to):
			return o.Addr(), true
		case any == nil:
			any = o
		}
	}
	if any == nil {
		return netip.Addr{}, false
	}
	return any.Addr(), true
}

// dad does what is due for an address: it asks who else has it, and announces it
// (RFC 5227, 2.1.1 and 2.3; RFC 4862, 5.4.2).
func (h *Host) dad(o *own, now int64) {
	if o.at == 0 || now < o.at {
		return
	}
	if o.state == tentative {
		if probes := h.probes(o); o.sent < probes {
			o.sent++
			h.probe(o)
			switch {
			case o.Addr().Is6():
				o.at = now + retransTimer
			case o.sent == probes:
				o.at = now + announceWait
			default:
				o.at = now + probeMin + h.rng.Int64N(probeMax-probeMin)
			}
			return
		}
		h.gotReady(o, now)
		return
	}
	h.announce(o)
	if o.sent++; o.sent < announceNum {
		o.at = now + announceInterval
	} else {
		o.at = 0
	}
}

func (h *Host) probes(o *own) int {
	if o.Addr().Is6() {
		return dupAddrDetectTransmits
	}
	return probeNum
}

// gotReady makes o ours, and announces it: neighbours may know another host by it.
func (h *Host) gotReady(o *own, now int64) {
	o.state, o.sent = ready, 1
	o.at = now + announceInterval
	h.announce(o)
	h.out.Address(o.Prefix, h.mac, nil)
	if o.by == byDHCP {
		h.dhcp.free()
	}
}

// probe asks whether anybody has the address.
func (h *Host) probe(o *own) {
	if o.Addr().Is4() {
		h.sendARP(broadcast, ip.ARP{Op: ip.ARPRequest, Sender: netip.IPv4Unspecified(), Target: o.Addr()})
		return
	}
	group := ip.SolicitedNode(o.Addr())
	mac, _ := ip.MulticastMAC(group)
	h.sendNDP(mac, netip.IPv6Unspecified(), group, ip.NDP{Type: ip.NeighborSolicitation, Target: o.Addr()})
}

// announce has neighbours that know the address learn that it is ours.
func (h *Host) announce(o *own) {
	if o.Addr().Is4() { // RFC 5227, 3: a request, not a reply
		h.sendARP(broadcast, ip.ARP{Op: ip.ARPRequest, Sender: o.Addr(), Target: o.Addr()})
		return
	}
	mac, _ := ip.MulticastMAC(allNodes) // RFC 4861, 7.2.6
	h.sendNDP(mac, o.Addr(), allNodes, ip.NDP{Type: ip.NeighborAdvertisement, Target: o.Addr(), Override: true, MAC: h.mac, HasMAC: true})
}

// conflict takes the news that the host with mac uses an address of ours, wherever we
// have it from.
func (h *Host) conflict(a netip.Addr, mac [6]byte, now int64) {
	h.counters.Conflicts++
	for i := len(h.own) - 1; i >= 0; i-- { // from the end, since contest may take one out
		if o := h.own[i]; o.Addr() == a {
			h.contest(o, mac, now)
		}
	}
}

// contest decides whose an address is that the host with mac uses. One that is tentative
// is lost. One that is ours is defended, once in a while (RFC 5227, 2.4(c)): it was
// configured, and connections depend on it.
func (h *Host) contest(o *own, mac [6]byte, now int64) {
	switch o.state {
	case tentative:
		o.state, o.at = duplicate, 0
		switch o.by {
		case byDHCP:
			h.forget(o, now)
			h.dhcp.taken(now)
		case byRouter:
			h.forget(o, now)
			h.slaac.taken(o.Addr(), now)
		}
	case ready:
		if now < o.defend {
			return
		}
		o.defend = now + defendInterval
		h.announce(o)
	case duplicate:
		return
	}
	h.out.Address(o.Prefix, mac, ErrDuplicate)
}
