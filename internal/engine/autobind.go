package engine

import (
	"net/netip"

	"github.com/onload-go/onload/ip"
)

// autobind returns local with a port that is free, where the route of a connection may
// depend on that and the kernel knows the port before it looks for the route. It does
// for UDP (inet_dgram_connect), and wherever the caller has named an address, which is
// bound first. Otherwise TCP is the other way round: of IPv4 the port is known to a
// second look (ip_route_newports), which the stack does too and which cannot change the
// source address; of IPv6 to none.
func (e *Engine) autobind(t *Traffic, local netip.AddrPort, dst netip.Addr) netip.AddrPort {
	first := t.Proto == ip.ProtoUDP || dst.Is6() && local.Addr().IsValid()
	if !first || t.Unbound || local.Port() != 0 || !e.net.PortsMatter(dst) || e.reserver == nil {
		return local
	}
	at := local.Addr()
	switch {
	case at.IsValid():
	case dst.Is4():
		at = netip.IPv4Unspecified()
	default:
		at = netip.IPv6Unspecified()
	}
	h, err := e.reserver.Hold(t.Proto, netip.AddrPortFrom(at, 0))
	if err != nil {
		return local // the stack, or the kernel, says what is wrong
	}
	port := h.Port
	h.Close() // the stack binds it to the source address, which the route decides
	return netip.AddrPortFrom(local.Addr(), port)
}

// lostPort is why the kernel connects if another socket has taken the port of autobind.
const lostPort = "the port that the route was looked up for was taken meanwhile"

// autobound returns the address that a socket of w is bound to, and whether its port
// is autobind's.
func autobound(w *Way, local netip.AddrPort) (netip.AddrPort, bool) {
	if local.Port() != 0 || w.Route.Port == 0 {
		return local, false
	}
	return netip.AddrPortFrom(local.Addr(), w.Route.Port), true
}
