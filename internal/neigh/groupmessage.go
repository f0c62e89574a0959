package neigh

import (
	"encoding/binary"
	"net/netip"

	"github.com/onload-go/onload/ip"
)

// Types of messages (RFC 2236, 2.1; RFC 3376, 4; RFC 2710, 3; RFC 3810, 5).
const (
	igmpQuery    = 0x11
	igmpReportV1 = 0x12
	igmpReportV2 = 0x16
	igmpLeave    = 0x17
	igmpReportV3 = 0x22
	mldQuery     = 130
	mldReportV1  = 131
	mldDone      = 132
	mldReportV2  = 143
)

const protoIGMP = 2

// Groups of the link (RFC 3376, 4.2.14; RFC 3810, 5.2.14; RFC 1112, 4).
var (
	allSystems    = netip.AddrFrom4([4]byte{224, 0, 0, 1})
	allRouters4   = netip.AddrFrom4([4]byte{224, 0, 0, 2})
	igmpv3Routers = netip.AddrFrom4([4]byte{224, 0, 0, 22})
	mldv2Routers  = netip.AddrFrom16([16]byte{0: 0xff, 1: 0x02, 15: 0x16})
)

// record says of a group from whom it is heard.
type record struct {
	kind    byte
	group   netip.Addr
	sources []netip.Addr
}

const (
	reportHead = 8
	// mostReport is the longest message, bytes: a frame of the Host's and the least MTU of
	// IPv6 hold it.
	mostReport = 1200
)

// report sends the records, in as many messages as they take.
func (g *groups) report(l []record) {
	kind, dst, width := byte(igmpReportV3), igmpv3Routers, 4
	if g.v6 {
		kind, dst, width = mldReportV2, mldv2Routers, 16
	}
	b := make([]byte, reportHead, mostReport)
	n := 0
	flush := func() {
		if n > 0 {
			b[0] = kind
			binary.BigEndian.PutUint16(b[6:], uint16(n))
			g.send(dst, b)
			b, n = make([]byte, reportHead, mostReport), 0
		}
	}
	for _, r := range l {
		for first := true; first || len(r.sources) > 0; first = false {
			if len(b)+4+2*width > mostReport {
				flush()
			}
			k := min(len(r.sources), (mostReport-len(b)-4-width)/width)
			b = append(b, r.kind, 0, byte(k>>8), byte(k))
			b = append(b, r.group.AsSlice()...)
			for _, s := range r.sources[:k] {
				b = append(b, s.AsSlice()...)
			}
			n++
			if r.kind == modeIsExclude || r.kind == toExclude {
				break // what is too long is not excluded (RFC 3376, 4.2.16)
			}
			r.sources = r.sources[k:]
		}
	}
	flush()
}

// tellOlder has routers of an older version hear whether we are a member of m's group:
// such a router knows no sources.
func (g *groups) tellOlder(m *member, version int) {
	if !m.filter.None() {
		m.mine = true
		g.reportOlder(m.group, version)
		return
	}
	// Only who reported last need leave, once (RFC 2236, 3); IGMPv1 knows no leaving.
	m.changes = nil
	if m.mine && version == 2 {
		if g.v6 {
			g.send(allRouters, olderMessage(mldDone, m.group))
		} else {
			g.send(allRouters4, olderMessage(igmpLeave, m.group))
		}
	}
	m.mine = false
}

// reportOlder reports a membership to routers of an older version.
func (g *groups) reportOlder(group netip.Addr, version int) {
	kind := byte(igmpReportV2)
	switch {
	case g.v6:
		kind = mldReportV1
	case version == 1:
		kind = igmpReportV1
	}
	g.send(group, olderMessage(kind, group))
}

// olderMessage is a message about one group: of IGMPv2, or MLDv1, which has four bytes
// more.
func olderMessage(kind byte, group netip.Addr) []byte {
	b := []byte{kind, 0, 0, 0}
	if group.Is6() {
		b = append(b, 0, 0, 0, 0)
	}
	return append(b, group.AsSlice()...)
}

// routerAlert4 is IPv4's option (RFC 2113), hopByHop6 IPv6's in a header of hop-by-hop
// options, whose first byte names what follows (RFC 2711): routers look at such packets
// whomever they are for.
var (
	routerAlert4 = []byte{148, 4, 0, 0}
	hopByHop6    = []byte{ip.ProtoICMPv6, 0, 5, 2, 0, 0, 1, 0}
)

// send sends a message, whose checksum it fills in, to a group of the link.
func (g *groups) send(dst netip.Addr, msg []byte) {
	h := g.h
	to, _ := ip.MulticastMAC(dst)
	src, ok := h.sourceFor(dst)
	var hdr ip.Header
	if g.v6 {
		if !ok {
			src = netip.IPv6Unspecified() // RFC 3590
		}
		binary.BigEndian.PutUint16(msg[2:], ^ip.Add(ip.Sum(msg), ip.PseudoSum(src, dst, ip.ProtoICMPv6, len(msg))))
		hdr.Init(h.mac, to, 0, src, dst, 0, 0, 1)
		n := copy(h.frame[hdr.Len():], hopByHop6)
		n += copy(h.frame[hdr.Len()+n:], msg)
		hdr.Put(h.frame[:], n, 0, 0)
		h.out.Send(h.frame[:hdr.Len()+n])
		return
	}
	if !ok {
		src = netip.IPv4Unspecified() // RFC 3376, 4.2.13
	}
	binary.BigEndian.PutUint16(msg[2:], ^ip.Sum(msg))
	hdr.Init(h.mac, to, 0, src, dst, protoIGMP, 0xc0, 1)
	n := copy(h.frame[hdr.Len():], routerAlert4)
	n += copy(h.frame[hdr.Len()+n:], msg)
	hdr.Put(h.frame[:], n, 0, 0)
	b := h.frame[hdr.Len()-hdr.NetLen():][:hdr.NetLen()+len(routerAlert4)]
	b[0] += byte(len(routerAlert4) / 4) // the header's length, in words
	binary.BigEndian.PutUint16(b[10:], 0)
	binary.BigEndian.PutUint16(b[10:], ^ip.Sum(b))
	h.out.Send(h.frame[:hdr.Len()+n])
}

// sourceFor is the address from which the host speaks to a group of the link: of IPv6
// only a link-local one (RFC 3810, 5.2.13).
func (h *Host) sourceFor(group netip.Addr) (netip.Addr, bool) {
	for _, o := range h.own {
		if a := o.Addr(); o.state == ready && a.Is4() == group.Is4() && (a.Is4() || a.IsLinkLocalUnicast()) {
			return a, true
		}
	}
	return netip.Addr{}, false
}
