package neigh

import (
	"net/netip"
	"slices"

	"github.com/onload-go/onload/ip"
)

// allRouters is the group of all routers of the link (RFC 4291, 2.7.1).
var allRouters = netip.AddrFrom16([16]byte{0: 0xff, 1: 0x02, 15: 2})

// advance does what is due: it solicits routers, and ends what has had its time.
func (s *slaac) advance(now int64) {
	if now >= s.at {
		s.solicit(now)
	}
	next := s.at
	// keep reports whether something still has time. An end of 0 was seen before.
	keep := func(end int64) bool {
		if end > now {
			next = min(next, end)
		} else if end > 0 {
			s.dirty = true
		}
		return end > now
	}
	had := len(s.routers)
	s.routers = slices.DeleteFunc(s.routers, func(r *router) bool {
		r.routes = slices.DeleteFunc(r.routes, func(a advertised) bool { return !keep(a.until) })
		if !keep(r.until) {
			r.until = 0
		}
		return r.until == 0 && len(r.routes) == 0
	})
	if had > 0 && len(s.routers) == 0 { // there may be others
		s.sent, s.at = 0, now+solicitFirst
		next = min(next, s.at)
	}
	s.dns = slices.DeleteFunc(s.dns, func(d nameServer) bool { return !keep(d.until) })
	s.prefixes = slices.DeleteFunc(s.prefixes, func(p *prefix) bool {
		lives := p.valid > 0 && keep(p.valid)
		if p.valid > 0 && !lives {
			s.h.remove(netip.PrefixFrom(p.addr, 128), byRouter, now)
			p.addr, p.valid, p.old = netip.Addr{}, 0, false
		}
		if lives && p.preferred > now {
			next = min(next, p.preferred)
		}
		if !keep(p.onLink) {
			p.onLink = 0
		}
		if p.refused > 0 && !keep(p.refused) {
			p.addr, p.refused = netip.Addr{}, 0 // it is tried again
		}
		return p.refused == 0 && p.onLink == 0 && !lives
	})
	s.h.at(next)
	s.news(now)
}

// turns reports whether Out is to hear that the prefix's address is not to be chosen for
// new flows any more, or is again (RFC 4862, 5.5.4).
func (p *prefix) turns(now int64) bool { return p.valid > 0 && p.old == (p.preferred > now) }

// solicit asks for routers, more rarely each time, until one has been heard (RFC 7559). An
// address of ours that is not sure yet does not ask (RFC 4861, 6.3.7).
func (s *slaac) solicit(now int64) {
	h := s.h
	m := ip.NDP{Type: ip.RouterSolicitation, MAC: h.mac, HasMAC: true}
	src, ok := h.source(allRouters)
	for _, o := range h.own {
		if o.state == ready && o.Addr().Is6() && o.Addr().IsLinkLocalUnicast() {
			src, ok = o.Addr(), true
		}
	}
	if !ok {
		src, m.HasMAC = netip.IPv6Unspecified(), false
	}
	to, _ := ip.MulticastMAC(allRouters)
	h.sendNDP(to, src, allRouters, m)
	wait := min(solicitFirst<<min(s.sent, 16), solicitLast)
	s.sent++
	s.at = now + wait - wait/10 + h.rng.Int64N(wait/5) // RFC 7559, 2: a tenth more or less
}

// news tells Out, not too often.
func (s *slaac) news(now int64) {
	turns := func(p *prefix) bool { return p.turns(now) }
	turned := slices.ContainsFunc(s.prefixes, turns)
	if s.dirty = s.dirty && s.h.unsaid(); !s.dirty && !turned {
		return
	}
	if due := s.told + tellEvery; now < due {
		s.h.at(due)
		return
	}
	s.told, s.dirty = now, false
	for _, p := range s.prefixes {
		if turns(p) {
			p.old = !p.old
			s.h.out.Deprecated(p.addr, p.old)
		}
	}
	s.h.tell()
}

// learned adds what is valid to l.
func (s *slaac) learned(l *Learned) {
	for _, p := range s.prefixes {
		if p.onLink > 0 {
			l.Routes = append(l.Routes, Route{Dst: p.Prefix})
		}
	}
	every := netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	if r := s.best(func(r *router) (int8, bool) { return r.pref, r.until > 0 }); r != nil {
		l.Routes = append(l.Routes, Route{Dst: every, Via: r.addr})
	}
	for _, r := range s.routers {
		for _, a := range r.routes {
			if !slices.ContainsFunc(l.Routes, func(o Route) bool { return o.Dst == a.dst }) {
				l.Routes = append(l.Routes, Route{Dst: a.dst, Via: s.best(leads(a.dst)).addr})
			}
		}
	}
	for _, d := range s.dns {
		l.DNS = append(l.DNS, d.addr)
	}
	if s.mtu > 0 && (l.MTU == 0 || s.mtu < l.MTU) {
		l.MTU = s.mtu
	}
}

// leads is the preference of a router's route to dst, if it has one.
func leads(dst netip.Prefix) func(*router) (int8, bool) {
	return func(r *router) (int8, bool) {
		for _, a := range r.routes {
			if a.dst == dst {
				return a.pref, true
			}
		}
		return 0, false
	}
}

// best is the router with the highest preference, of those that answer if there is any;
// of equal ones the first that was heard (RFC 4861, 6.3.6; RFC 4191, 3.2).
func (s *slaac) best(of func(*router) (pref int8, ok bool)) (best *router) {
	var most int8
	for _, r := range s.routers {
		pref, ok := of(r)
		if !ok {
			continue
		}
		if best == nil || best.lost && !r.lost || best.lost == r.lost && pref > most {
			best, most = r, pref
		}
	}
	return best
}
