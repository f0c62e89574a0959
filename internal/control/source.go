package control

import (
	"math/bits"
	"net/netip"

	"golang.org/x/sys/unix"
)

// source chooses the source address of packets that take route r to dst.
func (v *view) source(r *fibRoute, dst netip.Addr) netip.Addr {
	if r.src.IsValid() {
		return r.src
	}
	if dst.Is6() {
		return v.source6(dst, r.hop.link)
	}
	return v.source4(r.hop)
}

// source4 is the kernel's inet_select_addr: the primary address whose subnet
// has the gateway, else the link's first, else any that is valid elsewhere.
func (v *view) source4(h hop) netip.Addr {
	var first netip.Addr
	scope := unix.RT_SCOPE_LINK
	if h.via.IsValid() {
		scope = unix.RT_SCOPE_UNIVERSE
	}
	for _, a := range v.links[h.link].addrs {
		if !a.Addr().Is4() || a.secondary || a.scope > scope {
			continue
		}
		if !first.IsValid() {
			first = a.Addr()
		}
		if h.via.Is4() && a.Contains(h.via) {
			return a.Addr()
		}
	}
	if first.IsValid() {
		return first
	}
	lowest := 0
	for i, l := range v.links {
		for _, a := range l.addrs {
			if a.Addr().Is4() && !a.secondary && a.scope < unix.RT_SCOPE_LINK && l.Up && (lowest == 0 || i < lowest) {
				first, lowest = a.Addr(), i
				break
			}
		}
	}
	return first
}

// source6 chooses by the rules of RFC 6724 section 5 that apply to a host.
func (v *view) source6(dst netip.Addr, out int) netip.Addr {
	var best address
	bestLink := 0
	bound := dst.IsMulticast() || dst.IsLinkLocalUnicast()
	for i, l := range v.links {
		if i != out && (bound || !l.Up) {
			continue // section 4: candidates of the outgoing link only
		}
		for _, a := range l.addrs {
			if !a.Addr().Is6() || (i != out && a.Addr().IsLinkLocalUnicast()) {
				continue
			}
			if !best.IsValid() || better6(a, i, best, bestLink, dst, out) {
				best, bestLink = a, i
			}
		}
	}
	return best.Addr()
}

// better6 reports whether candidate a, on link ai, beats b.
func better6(a address, ai int, b address, bi int, dst netip.Addr, out int) bool {
	// Rule 1: the same address.
	if (a.Addr() == dst) != (b.Addr() == dst) {
		return a.Addr() == dst
	}
	// Rule 2: appropriate scope.
	as, bs, ds := scope6(a.Addr()), scope6(b.Addr()), scope6(dst)
	if as != bs {
		if as < bs {
			return as >= ds
		}
		return bs < ds
	}
	// Rule 3: avoid deprecated addresses.
	if a.deprecated != b.deprecated {
		return b.deprecated
	}
	// Rule 5: the outgoing link.
	if (ai == out) != (bi == out) {
		return ai == out
	}
	// Rule 6: matching label.
	al, bl, dl := label6(a.Addr()), label6(b.Addr()), label6(dst)
	if (al == dl) != (bl == dl) {
		return al == dl
	}
	// Rule 7: temporary addresses, as with use_tempaddr=2.
	if a.temporary != b.temporary {
		return a.temporary
	}
	// Rule 8: longest matching prefix, within the subnet.
	ac, bc := common6(a.Prefix, dst), common6(b.Prefix, dst)
	if ac != bc {
		return ac > bc
	}
	// RFC 6724 leaves the rest open: the lower link, then the earlier address.
	return ai < bi
}

// scope6 is the scope of an address in the numbers of multicast scopes
// (RFC 6724, section 3.1).
func scope6(a netip.Addr) int {
	switch {
	case a.IsMulticast():
		return int(a.As16()[1] & 15)
	case a.IsLoopback(), a.IsLinkLocalUnicast():
		return 2
	}
	return 14
}

// labels is the default policy table of RFC 6724 section 2.1, with the labels
// that Linux adds for Teredo and ORCHID. The first match is the longest.
var labels = []struct {
	netip.Prefix
	label int
}{
	{netip.MustParsePrefix("::1/128"), 0},
	{netip.MustParsePrefix("::ffff:0:0/96"), 4},
	{netip.MustParsePrefix("::/96"), 3},
	{netip.MustParsePrefix("2001::/32"), 6},
	{netip.MustParsePrefix("2001:10::/28"), 7},
	{netip.MustParsePrefix("2002::/16"), 2},
	{netip.MustParsePrefix("fec0::/10"), 11},
	{netip.MustParsePrefix("fc00::/7"), 5},
	{netip.MustParsePrefix("::/0"), 1},
}

func label6(a netip.Addr) int {
	for _, l := range labels {
		if l.Contains(a) {
			return l.label
		}
	}
	return 1
}

// common6 counts the leading bits that p and dst share, up to p's length.
func common6(p netip.Prefix, dst netip.Addr) int {
	a, b := p.Addr().As16(), dst.As16()
	n := 0
	for i := range a {
		x := bits.LeadingZeros8(a[i] ^ b[i])
		n += x
		if x < 8 {
			break
		}
	}
	return min(n, p.Bits())
}
