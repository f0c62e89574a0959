package neigh

import (
	"net/netip"
	"slices"
)

// Route leads to Dst by the neighbour Via, or, if that is the zero Addr, to the link
// itself.
type Route struct {
	Dst netip.Prefix
	Via netip.Addr
}

// Learned is what servers and routers of the link have said, beside addresses. It is
// not changed once it has been handed out.
type Learned struct {
	Routes []Route
	DNS    []netip.Addr
	MTU    int // bytes; 0: the device's
}

// onLink reports whether one of the routes says that a is on the link.
func onLink(routes []Route, a netip.Addr) bool {
	return slices.ContainsFunc(routes, func(r Route) bool { return !r.Via.IsValid() && r.Dst.Contains(a) })
}

// collect returns what is known now.
func (h *Host) collect() (l Learned) {
	if d := h.dhcp; d != nil && d.holds {
		l.Routes = append(l.Routes, d.lease.routes...)
		l.DNS = append(l.DNS, d.lease.dns...)
		l.MTU = d.lease.mtu
	}
	if h.slaac != nil {
		h.slaac.learned(&l)
	}
	if l.MTU > 0 && h.speaks6() {
		l.MTU = max(l.MTU, minMTU6)
	}
	return l
}

// minMTU6 is the least MTU of a link with IPv6, bytes (RFC 8200, 5). A DHCP server that
// says less speaks of IPv4 alone (RFC 2132, 5.1).
const minMTU6 = 1280

// speaks6 reports whether the host has IPv6, or is about to.
func (h *Host) speaks6() bool {
	return h.slaac != nil || slices.ContainsFunc(h.own, func(o *own) bool { return o.Addr().Is6() })
}

// unsaid reports whether Out does not know what is known now.
func (h *Host) unsaid() bool {
	l := h.collect()
	return !slices.Equal(l.Routes, h.learned.Routes) || !slices.Equal(l.DNS, h.learned.DNS) || l.MTU != h.learned.MTU
}

// tell hands out what is known, if it has changed.
func (h *Host) tell() {
	if !h.unsaid() {
		return
	}
	h.learned = h.collect()
	h.gateways = h.gateways[:h.fixed:h.fixed]
	for _, r := range h.learned.Routes {
		if r.Via.IsValid() && !slices.Contains(h.gateways, r.Via) {
			h.gateways = append(h.gateways, r.Via)
		}
	}
	h.out.Learned(h.learned)
}
