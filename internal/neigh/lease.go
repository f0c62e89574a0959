package neigh

import (
	"math"
	"net"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/onload-go/onload/ip"
)

// lease is what a DHCP server gives for a time. Times are the Host's, in ns; never is
// math.MaxInt64.
type lease struct {
	addr   netip.Prefix
	server netip.Addr
	via    [6]byte // the server, or the relay that leads to it
	routes []Route
	dns    []netip.Addr
	mtu    int // 0: not said

	renew, rebind, end int64 // T1, T2 and the end (RFC 2131, 4.4.5)
}

const (
	never = math.MaxInt64

	// minLease is the shortest lease that is taken, ns. With a shorter one a server
	// would have the client ask all the time.
	minLease = int64(10 * time.Second)
	// minMTU4 is the least MTU of a link that is believed, bytes: every host takes
	// datagrams of that size (RFC 791, 3.1).
	minMTU4 = 576
	// mostRoutes and mostServers bound what one message may say.
	mostRoutes  = 64
	mostServers = 8
)

// readLease reads the lease in a server's message that was asked for at a time. ok is
// false if no host can use it.
func readLease(m *dhcpv4.DHCPv4, via [6]byte, asked int64) (l lease, ok bool) {
	l = lease{server: addr4(m.ServerIdentifier()), via: via}
	mask := m.SubnetMask()
	a := addr4(m.YourIPAddr)
	if !ip.Unicast(a) || !ip.Unicast(l.server) || !l.times(m, asked) {
		return l, false
	}
	if mask == nil {
		mask = m.YourIPAddr.DefaultMask() // RFC 950, 2.1: the address's class has it
	}
	ones, bits := mask.Size()
	if bits != 32 || ones == 0 {
		return l, false
	}
	l.addr = netip.PrefixFrom(a, ones)
	l.readRoutes(m)
	for _, s := range m.DNS() {
		if a := addr4(s); ip.Unicast(a) && len(l.dns) < mostServers {
			l.dns = append(l.dns, a)
		}
	}
	if b := m.Options.Get(dhcpv4.OptionInterfaceMTU); len(b) == 2 { // RFC 2132, 5.1
		if mtu := int(b[0])<<8 | int(b[1]); mtu >= minMTU4 {
			l.mtu = mtu
		}
	}
	return l, true
}

// times reads how long the lease is ours, from when it was asked for. Times that the
// server does not say, or that are out of order, are the RFC's (RFC 2131, 4.4.5).
func (l *lease) times(m *dhcpv4.DHCPv4, asked int64) bool {
	const forever = time.Duration(math.MaxUint32) * time.Second
	d := m.IPAddressLeaseTime(0)
	switch {
	case int64(d) < minLease:
		return false
	case d == forever:
		l.renew, l.rebind, l.end = never, never, never
		return true
	}
	t1, t2 := m.IPAddressRenewalTime(d/2), m.IPAddressRebindingTime(d/8*7)
	if t1 <= 0 || t1 >= t2 || t2 >= d {
		t1, t2 = d/2, d/8*7
	}
	l.renew, l.rebind, l.end = asked+int64(t1), asked+int64(t2), asked+int64(d)
	return true
}

// readRoutes reads the classless routes, which replace the routers where there are any
// (RFC 3442).
func (l *lease) readRoutes(m *dhcpv4.DHCPv4) {
	for _, r := range m.ClasslessStaticRoute() {
		ones, _ := r.Dest.Mask.Size()
		l.route(netip.PrefixFrom(addr4(r.Dest.IP), ones), addr4(r.Router))
	}
	if len(l.routes) > 0 {
		return
	}
	for _, r := range m.Router() { // in order of preference (RFC 2132, 3.5)
		if a := addr4(r); ip.Unicast(a) && a != l.addr.Addr() {
			l.route(netip.PrefixFrom(netip.IPv4Unspecified(), 0), a)
			return
		}
	}
}

// route adds a route. A router of 0.0.0.0 is the link itself (RFC 3442); one in no
// subnet of ours is on the link, as clouds whose leases are /32 mean it.
func (l *lease) route(dst netip.Prefix, via netip.Addr) {
	dst = dst.Masked()
	if len(l.routes) >= mostRoutes || via == l.addr.Addr() {
		return
	}
	switch {
	case via.IsUnspecified():
		l.routes = append(l.routes, Route{Dst: dst})
		return
	case !ip.Unicast(via):
		return
	case !l.onLink(via):
		l.routes = append(l.routes, Route{Dst: netip.PrefixFrom(via, 32)})
	}
	l.routes = append(l.routes, Route{Dst: dst, Via: via})
}

// onLink reports whether a is in a subnet of the lease.
func (l *lease) onLink(a netip.Addr) bool {
	return l.addr.Contains(a) || onLink(l.routes, a)
}

// addr4 is an address of the codec's; the zero Addr if it is none.
func addr4(a net.IP) netip.Addr {
	r, _ := netip.AddrFromSlice(a.To4())
	return r
}
