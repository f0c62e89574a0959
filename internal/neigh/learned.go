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

// tell hands out what is known, if it has changed.
func (h *Host) tell() {
	var l Learned
	if d := h.dhcp; d != nil && d.holds {
		l.Routes = append(l.Routes, d.lease.routes...)
		l.DNS = append(l.DNS, d.lease.dns...)
		l.MTU = d.lease.mtu
	}
	if slices.Equal(l.Routes, h.learned.Routes) && slices.Equal(l.DNS, h.learned.DNS) && l.MTU == h.learned.MTU {
		return
	}
	h.learned = l
	h.gateways = h.gateways[:h.fixed:h.fixed]
	for _, r := range l.Routes {
		if r.Via.IsValid() && !slices.Contains(h.gateways, r.Via) {
			h.gateways = append(h.gateways, r.Via)
		}
	}
	h.out.Learned(l)
}
