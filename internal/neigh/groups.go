package neigh

import (
	"net/netip"
	"slices"
	"time"

	"github.com/onload-go/onload/ip"
)

// Filter says from whom a member of a group hears (RFC 3376 and RFC 3810, 3.2): from
// Sources only, or from all but them. The zero Filter is that of a member who hears all;
// one that includes nobody is no member.
type Filter struct {
	Include bool
	Sources []netip.Addr
}

// None reports whether the filter lets nobody through.
func (f *Filter) None() bool { return f.Include && len(f.Sources) == 0 }

// member is a group of the host's, or one that it has left a moment ago.
type member struct {
	group  netip.Addr
	filter Filter
	nodes  int // addresses of ours whose solicited-node group it is

	changes []change // that routers are told of once more
	at      int64    // when they are

	answer  int64        // when a query for the group is to be answered; 0: there is none
	sources []netip.Addr // of that query; none: it was for the group
	mine    bool         // the last report of the group was ours (RFC 2236, 3)
}

// change is a record of a state change report.
type change struct {
	kind    byte
	sources []netip.Addr
	left    int // reports
}

// Kinds of records (RFC 3376, 4.2.12; RFC 3810, 5.2.12).
const (
	modeIsInclude = 1 + iota
	modeIsExclude
	toInclude
	toExclude
	allowSources
	blockSources
)

const (
	// robustness is how often routers are told of a change (RFC 3376, 8.1; RFC 3810, 9.1),
	// unsolicited the interval (8.11; 9.11).
	robustness  = 2
	unsolicited = int64(time.Second)
	// olderQuerier is the time for which an older router's version is spoken, once it
	// was heard (8.12; 9.12): the default intervals make it.
	olderQuerier = int64(260 * time.Second)
	// mostMembers bounds the groups, as Linux's igmp_max_memberships does those of a
	// socket; mostQueried the sources of a query that are kept.
	mostMembers = 1024
	mostQueried = 64
)

// groups are the memberships of one family.
type groups struct {
	h       *Host
	v6      bool
	members []*member
	answer  int64    // when a general query is to be answered; 0: there is none
	older   [2]int64 // until when there is a router of IGMPv1, of IGMPv2 or MLDv1
}

// SetFilter makes the host a member of a group, or changes from whom it hears, or ends the
// membership (RFC 3376, 5.1; RFC 3810, 6.1). Groups that no router asks about are nobody's
// business. It reports whether there was room.
func (h *Host) SetFilter(group netip.Addr, f Filter, now int64) bool {
	g := h.groupsOf(group)
	m := g.find(group)
	switch {
	case group == allNodes || group == allSystems:
		return true // never reported (RFC 3376, 6; RFC 3810, 6)
	case m == nil && f.None():
		return true
	case m == nil && len(g.members) >= mostMembers:
		return false
	case m == nil:
		m = &member{group: group, filter: Filter{Include: true}}
		g.members = append(g.members, m)
	}
	was := m.filter
	if was.Include == f.Include && slices.Equal(was.Sources, f.Sources) {
		return true
	}
	m.filter = f
	g.changed(m, was, now)
	return true
}

func (h *Host) groupsOf(group netip.Addr) *groups {
	if group.Is4() {
		return &h.igmp
	}
	return &h.mld
}

func (g *groups) find(group netip.Addr) *member {
	i := slices.IndexFunc(g.members, func(m *member) bool { return m.group == group })
	if i < 0 {
		return nil
	}
	return g.members[i]
}

// solicited counts an address of ours whose solicited-node group is joined: neighbours ask
// for it there, and switches forward a group to members only (RFC 4861, 7.2.1). The group
// is left with the last one.
func (h *Host) solicited(a netip.Addr, by int, now int64) {
	if a.Is4() {
		return
	}
	group := ip.SolicitedNode(a)
	n := by
	if m := h.mld.find(group); m != nil {
		m.nodes += by
		n = m.nodes
	}
	h.SetFilter(group, Filter{Include: n <= 0}, now)
	if m := h.mld.find(group); m != nil {
		m.nodes = max(n, 0)
	}
}

// version returns 1 or 2 while there is a router that speaks no newer one, else 3. MLDv1
// is IGMPv2, and MLDv2 IGMPv3.
func (g *groups) version(now int64) int {
	for i, until := range g.older {
		if now < until {
			return i + 1
		}
	}
	return 3
}

// changed notes what routers are to be told of m, whose filter was another.
func (g *groups) changed(m *member, was Filter, now int64) {
	f := m.filter
	var l []change
	note := func(kind byte, sources []netip.Addr) {
		if len(sources) > 0 || kind == toInclude || kind == toExclude {
			l = append(l, change{kind, sources, robustness})
		}
	}
	moded := slices.ContainsFunc(m.changes, func(c change) bool { return c.kind == toInclude || c.kind == toExclude })
	switch { // RFC 3376, 5.1; RFC 3810, 6.1
	case was.Include != f.Include || moded:
		kind := byte(toExclude)
		if f.Include {
			kind = toInclude
		}
		note(kind, f.Sources)
	case f.Include:
		note(allowSources, minus(f.Sources, was.Sources))
		note(blockSources, minus(was.Sources, f.Sources))
	default:
		note(allowSources, minus(was.Sources, f.Sources))
		note(blockSources, minus(f.Sources, was.Sources))
	}
	if len(l) == 0 {
		return
	}
	if kind := l[0].kind; kind != toInclude && kind != toExclude {
		for _, c := range m.changes { // what is still to be said of other sources
			for _, n := range l {
				c.sources = minus(c.sources, n.sources)
			}
			if len(c.sources) > 0 {
				l = append(l, c)
			}
		}
	}
	m.changes, m.at = l, now
	g.h.at(now)
	g.tell(m, now)
}

// leave reports, once, that all memberships end.
func (g *groups) leave(now int64) {
	version := g.version(now)
	var l []record
	for _, m := range g.members {
		switch {
		case m.filter.None():
			continue
		case version == 3:
			l = append(l, record{toInclude, m.group, nil})
		}
		if m.filter = (Filter{Include: true}); version < 3 {
			g.tellOlder(m, version)
		}
	}
	g.report(l)
}

// minus is a without b's.
func minus(a, b []netip.Addr) (l []netip.Addr) {
	for _, x := range a {
		if !slices.Contains(b, x) {
			l = append(l, x)
		}
	}
	return l
}

// tell has routers hear of m's changes, and again later.
func (g *groups) tell(m *member, now int64) {
	if v := g.version(now); v < 3 {
		g.tellOlder(m, v)
	} else {
		var l []record
		for _, c := range m.changes {
			l = append(l, record{c.kind, m.group, c.sources})
		}
		g.report(l)
	}
	for i := range m.changes {
		m.changes[i].left--
	}
	m.changes = slices.DeleteFunc(m.changes, func(c change) bool { return c.left <= 0 })
	if m.at = 0; len(m.changes) > 0 {
		m.at = now + 1 + g.h.rng.Int64N(unsolicited)
		g.h.at(m.at)
	}
}

// advance sends what is due.
func (g *groups) advance(now int64) {
	if g.answer != 0 && now >= g.answer {
		g.answer = 0
		var l []record
		for _, m := range g.members {
			if !m.filter.None() {
				l = append(l, m.state())
			}
		}
		g.report(l)
	}
	for _, m := range g.members {
		if m.at != 0 && now >= m.at {
			g.tell(m, now)
		}
		if m.answer != 0 && now >= m.answer {
			g.answerFor(m, now)
		}
	}
	g.members = slices.DeleteFunc(g.members, func(m *member) bool { return m.filter.None() && len(m.changes) == 0 })
	for _, m := range g.members {
		g.wake(m.at)
		g.wake(m.answer)
	}
	g.wake(g.answer)
}

func (g *groups) wake(at int64) {
	if at != 0 {
		g.h.at(at)
	}
}

// state is the record of m's present filter.
func (m *member) state() record {
	if m.filter.Include {
		return record{modeIsInclude, m.group, m.filter.Sources}
	}
	return record{modeIsExclude, m.group, m.filter.Sources}
}

// answerFor answers a query for m's group (RFC 3376, 5.2 (4)-(5); RFC 3810, 6.3).
func (g *groups) answerFor(m *member, now int64) {
	asked := m.sources
	m.answer, m.sources = 0, nil
	switch v := g.version(now); {
	case m.filter.None():
	case v < 3:
		m.mine = true
		g.reportOlder(m.group, v)
	case len(asked) == 0:
		g.report([]record{m.state()})
	default:
		heard := minus(asked, m.filter.Sources)
		if m.filter.Include {
			heard = minus(asked, heard)
		}
		if len(heard) > 0 {
			g.report([]record{{modeIsInclude, m.group, heard}})
		}
	}
}
