package neigh

import (
	"net/netip"
	"slices"
)

// LinkUp takes the news that the link has come up after it was down. It may be another
// link by now, or lead to another port of a switch: what the Host says once at the start
// it says again, and what it knows of others is in doubt.
func (h *Host) LinkUp(now int64) {
	for _, o := range h.own {
		if o.state == duplicate {
			continue
		}
		// RFC 5227, 2.1 and 2.3: it is asked for, or announced, from the beginning.
		o.sent, o.at, o.defend = 0, now+h.rng.Int64N(probeWait), now
		h.at(o.at)
	}
	h.igmp.linkUp(now)
	h.mld.linkUp(now)
	if h.dhcp != nil {
		h.dhcp.linkUp(now)
	}
	if h.slaac != nil {
		h.slaac.linkUp(now)
	}
	for _, e := range h.cache {
		h.linkUp(e, now)
	}
}

// linkUp has a neighbour that packets go to be asked whether it is there. Another
// link-layer address of its is believed at once.
func (h *Host) linkUp(e *entry, now int64) {
	e.moved, e.sure = now-lockTime, now
	switch {
	case e.state == incomplete:
		e.sent = 0
		h.solicit(e, now)
	case e.asked && h.out.InUse(e.addr) || slices.Contains(h.gateways, e.addr):
		h.enter(e, probe, now)
		h.solicit(e, now)
	default:
		h.enter(e, stale, now+staleCheck)
	}
}

// linkUp reports the memberships, to routers that know nothing of them, whose version is
// not known either (RFC 3376, 5.1 and 7.2.1; RFC 3810, 6.1 and 8.2.1). What was left is
// nothing to them.
func (g *groups) linkUp(now int64) {
	g.older, g.answer = [2]int64{}, 0
	for _, m := range g.members {
		m.changes, m.at, m.answer, m.sources, m.mine = nil, 0, 0, nil, false
		if !m.filter.None() {
			g.changed(m, Filter{Include: true}, now)
		}
	}
	g.h.at(now) // those that were left go
}

// linkUp asks whether the lease is valid here (RFC 2131, 3.2 and 4.4.2), or for one.
func (d *dhcp) linkUp(now int64) {
	switch delay := d.h.rng.Int64N(dhcpStart); {
	case d.holds:
		d.transaction(now)
		d.enter(dhcpRebooting, now+delay)
	case d.state == dhcpChecking:
	case d.state == dhcpInit:
		d.wake(min(d.at, now+dhcpDecline)) // no earlier than a refused address allows
	default:
		d.fails = 0
		d.restart(now, delay)
	}
}

// linkUp solicits routers (RFC 4861, 6.3.7). Those that are known stay while they answer.
// An address that another host has on the old link may be free on this one.
func (s *slaac) linkUp(now int64) {
	for _, p := range s.prefixes {
		if p.refused > 0 {
			p.addr, p.refused = netip.Addr{}, 0
		}
	}
	s.sent, s.at = 0, now+s.h.rng.Int64N(solicitStart)
	s.h.at(s.at)
}
