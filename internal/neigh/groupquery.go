package neigh

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"time"

	"github.com/onload-go/onload/ip"
)

// inputGroups takes the message about groups in h.packet, whose checksum has been
// verified, and reports whether it is one.
func (h *Host) inputGroups(msg []byte, now int64) bool {
	p := &h.packet
	g := &h.igmp
	if p.V6 {
		g = &h.mld
	}
	if len(msg) < 8 {
		return p.Proto == protoIGMP
	}
	switch kind := msg[0]; {
	case kind == mldQuery && p.V6 && len(msg) >= 24, kind == igmpQuery && !p.V6:
		// Queries cross no router (RFC 3810, 5.1.14 and 6.2; RFC 3376, 4).
		if p.TTL == 1 && (!p.V6 || p.Src.IsLinkLocalUnicast()) {
			g.query(msg, now)
		}
		return true
	case kind == mldReportV1 && p.V6 && len(msg) >= 24, (kind == igmpReportV1 || kind == igmpReportV2) && !p.V6:
		if m := g.find(p.Dst); m != nil && p.TTL == 1 && g.version(now) < 3 {
			m.answer, m.mine = 0, false // one member's report is enough (RFC 2236, 3)
		}
		return true
	case p.V6:
		return kind == mldDone || kind == mldReportV2
	}
	return true
}

// query takes a router's question for members.
func (g *groups) query(msg []byte, now int64) {
	group, rest, wait := netip.Addr{}, msg[8:], int64(0)
	if g.v6 {
		group, rest = netip.AddrFrom16([16]byte(msg[8:24])), msg[24:]
		wait = int64(time.Millisecond) * exponent(binary.BigEndian.Uint16(msg[4:]), 12)
	} else {
		group = netip.AddrFrom4([4]byte(msg[4:8]))
		wait = int64(100*time.Millisecond) * exponent(uint16(msg[1]), 4)
	}
	newest := len(rest) >= 4
	if !newest { // RFC 3376, 7.2.1; RFC 3810, 8.2.1
		i := 1
		if !g.v6 && msg[1] == 0 {
			i, wait = 0, int64(10*time.Second) // IGMPv1 says no time
		}
		g.older[i] = now + olderQuerier
	}
	general := group.IsUnspecified()
	if p := &g.h.packet; general && p.Dst != allNodes && p.Dst != allSystems {
		return // RFC 3376, 9.1
	}
	at := now + 1 + g.h.rng.Int64N(max(wait, int64(100*time.Millisecond)))
	if general && g.version(now) == 3 {
		g.answer = soonest(g.answer, at)
		g.h.at(g.answer)
		return
	}
	for _, m := range g.members {
		if !general && m.group != group {
			continue
		}
		if general { // each group for itself, so that one member's report is enough
			at = now + 1 + g.h.rng.Int64N(max(wait, int64(100*time.Millisecond)))
		}
		g.queried(m, rest, newest, at)
	}
}

// queried has m answer a query for its group, about the sources in rest, if there are any
// (RFC 3376, 5.2; RFC 3810, 6.2).
func (g *groups) queried(m *member, rest []byte, newest bool, at int64) {
	pending := m.answer != 0
	whole := pending && len(m.sources) == 0
	m.answer = soonest(m.answer, at)
	g.h.at(m.answer)
	if !newest || whole {
		m.sources = nil
		return
	}
	width := m.group.BitLen() / 8
	n := int(binary.BigEndian.Uint16(rest[2:]))
	if n == 0 {
		m.sources = nil
		return
	}
	for b := rest[4:]; n > 0 && len(b) >= width; n, b = n-1, b[width:] {
		if a, _ := netip.AddrFromSlice(b[:width]); ip.Unicast(a) && len(m.sources) < mostQueried && !slices.Contains(m.sources, a) {
			m.sources = append(m.sources, a)
		}
	}
	if len(m.sources) == 0 {
		m.answer = 0
	}
}

// soonest is the earlier one of two times, of which a may be 0 for none.
func soonest(a, b int64) int64 {
	if a == 0 {
		return b
	}
	return min(a, b)
}

// exponent reads a time of so many bits of mantissa, behind three of the exponent, where
// the first bit is set (RFC 3376, 4.1.1; RFC 3810, 5.1.3).
func exponent(v uint16, mantissa int) int64 {
	if v>>(mantissa+3) == 0 {
		return int64(v)
	}
	return int64(v&(1<<mantissa-1)|1<<mantissa) << (v>>mantissa&7 + 3)
}
