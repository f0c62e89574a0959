package neigh

import (
	"net/netip"
	"slices"
	"time"

	"github.com/onload-go/onload/ip"
)

// slaac takes what routers of the link advertise: default routers and more specific
// routes (RFC 4861, 6.3; RFC 4191), prefixes, of which addresses are made (RFC 4862, 5.5),
// the MTU and name servers (RFC 8106). All of it has a lifetime. Times are the Host's.
type slaac struct {
	h        *Host
	sent     int   // solicitations
	at       int64 // when the next one is due; never: a router has been heard
	told     int64 // when Out was told
	dirty    bool  // what is known may have changed since
	routers  []*router
	prefixes []*prefix
	dns      []nameServer
	mtu      int
}

// router is one that advertises.
type router struct {
	addr  netip.Addr
	pref  int8
	until int64 // a default router until then
	// lost says that it did not answer when it was asked; what it advertises brings it
	// back.
	lost   bool
	routes []advertised
}

// advertised is a more specific route.
type advertised struct {
	dst   netip.Prefix
	pref  int8
	until int64
}

// prefix is an advertised one.
type prefix struct {
	netip.Prefix
	onLink    int64      // on the link until then
	addr      netip.Addr // made of it; zero: none
	valid     int64      // addr is ours until then
	preferred int64      // and chosen for new flows until then
	old       bool       // Out knows that it is not
	// refused says until when no address is made of the prefix: another host has it.
	refused int64
}

type nameServer struct {
	addr  netip.Addr
	until int64
}

const (
	// Bounds on what is kept. Whoever floods the link with forged routers gets no more
	// (attack 22).
	mostRouters    = 8
	mostPrefixes   = 16
	mostAdvertised = 16

	// solicitFirst and solicitLast are the intervals of solicitations that nobody
	// answers (RFC 7559, 2); the first one comes within solicitStart, not RFC 4861's
	// second.
	solicitStart = int64(100 * time.Millisecond)
	solicitFirst = int64(4 * time.Second)
	solicitLast  = int64(time.Hour)

	// tellEvery bounds the news, each of which has the stack look its routes up anew:
	// routers' messages may contradict each other (attack 22).
	tellEvery = int64(time.Second)

	twoHours = int64(2 * time.Hour)
)

func newSLAAC(h *Host, now int64) *slaac {
	s := &slaac{h: h, at: now + h.rng.Int64N(solicitStart), told: now - tellEvery}
	h.at(s.at)
	return s
}

// until is the end of a lifetime in seconds that begins now.
func until(now int64, seconds uint32) int64 {
	if seconds == 1<<32-1 {
		return never
	}
	return now + int64(seconds)*int64(time.Second)
}

// advertisement takes the message of a router in h.ndp (RFC 4861, 6.3.4).
func (s *slaac) advertisement(now int64) {
	h, ra := s.h, &s.h.ndp.RA
	s.dirty = true
	s.router(h.packet.Src, ra, now)
	if len(s.routers) > 0 {
		s.at = never // RFC 7559, 2.1
	}
	if h.ndp.HasMAC {
		h.learn(news{addr: h.packet.Src, mac: h.ndp.MAC, override: true, create: true}, now)
	}
	if ra.MTU > 0 {
		s.mtu = ra.MTU
	}
	for _, p := range ra.Prefixes[:ra.NPrefixes] {
		s.prefix(&p, now)
	}
	for _, d := range ra.DNS[:ra.NDNS] {
		s.dns = slices.DeleteFunc(s.dns, func(o nameServer) bool { return o.addr == d.Addr })
		if d.Lifetime > 0 && len(s.dns) < mostServers {
			s.dns = append(s.dns, nameServer{d.Addr, until(now, d.Lifetime)})
		}
	}
	s.advance(now)
}

// router takes what a router says of itself and of its routes.
func (s *slaac) router(addr netip.Addr, ra *ip.RouterInfo, now int64) {
	i := slices.IndexFunc(s.routers, func(r *router) bool { return r.addr == addr })
	if i < 0 {
		if ra.Lifetime == 0 && ra.NRoutes == 0 || len(s.routers) == mostRouters && !s.displace() {
			return
		}
		i = len(s.routers)
		s.routers = append(s.routers, &router{addr: addr})
	}
	r := s.routers[i]
	r.lost, r.pref = false, ra.Preference
	r.until = now + int64(ra.Lifetime)*int64(time.Second)
	for _, a := range ra.Routes[:ra.NRoutes] {
		if a.Prefix.Bits() == 0 { // stands for the default route (RFC 4191, 3.1)
			r.pref, r.until = a.Preference, until(now, a.Lifetime)
			continue
		}
		r.routes = slices.DeleteFunc(r.routes, func(o advertised) bool { return o.dst == a.Prefix })
		if a.Lifetime > 0 && len(r.routes) < mostAdvertised {
			r.routes = append(r.routes, advertised{a.Prefix, a.Preference, until(now, a.Lifetime)})
		}
	}
}

// displace takes out a router that did not answer, and reports whether there was one.
// Forged routers that nobody stands behind keep no real one away for longer than it takes
// to find that out (attack 22).
func (s *slaac) displace() bool {
	i := slices.IndexFunc(s.routers, func(r *router) bool { return r.lost })
	if i >= 0 {
		s.routers = slices.Delete(s.routers, i, i+1)
	}
	return i >= 0
}

// prefix takes an advertised prefix (RFC 4861, 6.3.4; RFC 4862, 5.5.3).
func (s *slaac) prefix(a *ip.RouterPrefix, now int64) {
	if a.Prefix.Addr().IsLinkLocalUnicast() || a.Prefix.Addr().IsMulticast() {
		return
	}
	i := slices.IndexFunc(s.prefixes, func(p *prefix) bool { return p.Prefix == a.Prefix })
	if i < 0 {
		if a.Valid == 0 || len(s.prefixes) == mostPrefixes {
			return
		}
		i = len(s.prefixes)
		s.prefixes = append(s.prefixes, &prefix{Prefix: a.Prefix})
	}
	p := s.prefixes[i]
	if a.OnLink {
		p.onLink = until(now, a.Valid)
	}
	if !a.Auto || a.Preferred > a.Valid {
		return
	}
	end := until(now, a.Valid)
	switch {
	case !p.addr.IsValid():
		if a.Valid == 0 || p.Bits() != 64 {
			return // a router of another length is wrong (5.5.3 (d); RFC 4291, 2.5.4)
		}
		p.addr = InterfaceID(p.Prefix, s.h.mac)
		if s.h.ours(p.addr) != nil {
			p.valid, p.preferred = 0, never // configured, which needs no prefix
			return
		}
		p.valid = end
		s.h.add(netip.PrefixFrom(p.addr, 128), byRouter, now)
	case p.valid == 0:
		return
	case end > now+twoHours || end > p.valid:
		p.valid = end
	case p.valid > now+twoHours:
		p.valid = now + twoHours // nobody takes an address away at once (5.5.3 (e))
	}
	p.preferred = until(now, a.Preferred)
}

// InterfaceID is the address that a prefix of 64 bits and a MAC make (RFC 4291, appendix
// A).
func InterfaceID(p netip.Prefix, mac [6]byte) netip.Addr {
	a := p.Masked().Addr().As16()
	copy(a[8:], []byte{mac[0] ^ 2, mac[1], mac[2], 0xff, 0xfe, mac[3], mac[4], mac[5]})
	return netip.AddrFrom16(a)
}

// taken takes the news that another host has an address that was made of a prefix. No
// other one is tried (RFC 4862, 5.4.5), and this one not soon again.
func (s *slaac) taken(a netip.Addr, now int64) {
	for _, p := range s.prefixes {
		if p.addr == a {
			p.valid, p.refused = 0, now+twoHours
		}
	}
}

// reached and unreached take the news that a neighbour answers, or does not (RFC 4861,
// 6.3.6).
func (s *slaac) reached(a netip.Addr, now int64)   { s.mark(a, false, now) }
func (s *slaac) unreached(a netip.Addr, now int64) { s.mark(a, true, now) }

func (s *slaac) mark(a netip.Addr, lost bool, now int64) {
	if s == nil {
		return
	}
	for _, r := range s.routers {
		if r.addr == a && r.lost != lost {
			r.lost, s.dirty = lost, true
			s.news(now)
		}
	}
}
