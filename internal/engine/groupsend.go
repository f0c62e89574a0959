package engine

import (
	"net/netip"

	"github.com/onload-go/onload/internal/control"
)

// GroupSend is how a socket sends to multicast groups, as far as that decides who
// carries the datagrams. The zero GroupSend is a new socket's.
type GroupSend struct {
	// Quiet4 and Quiet6 say that sockets of this host get no copy
	// (IP_MULTICAST_LOOP and IPV6_MULTICAST_LOOP are off). Else the kernel sends:
	// only the kernel can give its sockets a copy.
	Quiet4, Quiet6 bool
	Link6          int // IPV6_MULTICAST_IF; 0: the route's
	// Host4 and Host6 say that the datagrams stay on this host (IP_MULTICAST_TTL or
	// IPV6_MULTICAST_HOPS is 0).
	Host4, Host6 bool
}

func followLink6(o *Options, v sockValue, _ *sockState) { o.groups.Link6 = v.int() }

func followLoop4(o *Options, v sockValue, _ *sockState) {
	o.groups.Quiet4 = v.int() == 0
	o.ip.Quiet4 = o.groups.Quiet4
}

func followLoop6(o *Options, v sockValue, _ *sockState) {
	o.groups.Quiet6 = v.int() == 0
	o.ip.Quiet6 = o.groups.Quiet6
}

func followGroupTTL(o *Options, v sockValue, _ *sockState) {
	o.ip.MulticastTTL, o.groups.Host4, o.ip.Host4 = uint8(v.int()), v.int() == 0, v.int() == 0
}

func followGroupHops(o *Options, v sockValue, _ *sockState) {
	o.ip.MulticastHops, o.groups.Host6, o.ip.Host6 = uint8(v.int()), v.int() == 0, v.int() == 0
}

// followFrom4 notes the address of IP_MULTICAST_IF. The kernel does not tell of an
// interface that was set by its index (struct ip_mreqn).
func followFrom4(o *Options, v sockValue, _ *sockState) {
	if len(v) >= 4 {
		o.ip.MulticastSrc = netip.AddrFrom4([4]byte([]byte(v)))
	}
}

// groupWhy returns why the kernel sends to the group dst, by the route r; empty: it
// need not.
func (e *Engine) groupWhy(t *Traffic, dst netip.Addr, r *control.Route) string {
	if i, _ := e.behind(r.Link); i != nil && !i.Kernel {
		return ""
	}
	g := &t.Groups
	quiet, host := g.Quiet6, g.Host6
	if dst.Is4() {
		quiet, host = g.Quiet4, g.Host4
	}
	switch {
	case !quiet:
		return "the destination is a multicast group, and sockets of this host get a copy (IP_MULTICAST_LOOP)"
	case host:
		return "the destination is a multicast group, and the TTL keeps it on this host"
	case dst.Is4() && (t.IP == nil || !t.IP.MulticastSrc.IsValid()) && !e.onlyLink(r.Link):
		return "the destination is a multicast group, and its interface may have been set by an index (IP_MULTICAST_IF)"
	case dst.Is6() && g.Link6 != 0 && g.Link6 != r.Link:
		return "the destination is a multicast group of another interface than the route's (IPV6_MULTICAST_IF)"
	}
	return ""
}

// onlyLink reports whether the link is the only one that groups can be sent by.
func (e *Engine) onlyLink(link int) bool {
	for _, l := range e.net.Links() {
		if l.Index != link && l.Up && !l.Loopback {
			return false
		}
	}
	return true
}
