package engine

import (
	"net/netip"
	"slices"
	"sync"
	"syscall"

	"github.com/onload-go/onload/internal/neigh"
	"github.com/onload-go/onload/internal/stack"
)

// nicGroups are the memberships of all sockets on links that no kernel stands behind. The
// filters of a group's sockets are merged into one, which the host of the link reports to
// routers and switches.
type nicGroups struct {
	mu     sync.Mutex
	joined map[*Socket][]stack.Membership
	told   map[linkGroup]neigh.Filter // what hosts were told
}

// mostGroups bounds the groups of a link. The host has room for those, and for the
// solicited-node groups of its addresses.
const mostGroups = 1000

// set has a socket be a member of these groups, and of no others. The error is ENOBUFS,
// as of IP_ADD_MEMBERSHIP: nothing has changed then.
func (g *nicGroups) set(e *Engine, c *Socket, joined []stack.Membership) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.joined == nil {
		g.joined, g.told = map[*Socket][]stack.Membership{}, map[linkGroup]neigh.Filter{}
	}
	old := g.joined[c]
	g.put(c, joined)
	changed := map[linkGroup]neigh.Filter{}
	for _, m := range slices.Concat(old, joined) {
		at := linkGroup{m.Link, m.Group}
		changed[at] = merge(g.of(at))
	}
	if g.tooMany(changed) {
		g.put(c, old)
		return syscall.ENOBUFS
	}
	for at, f := range changed {
		was, told := g.told[at]
		if told && was.Include == f.Include && slices.Equal(was.Sources, f.Sources) {
			continue
		}
		if h := e.hostOf(at.link); h != nil {
			h.setFilter(at.group, f)
		}
		if g.told[at] = f; f.None() {
			delete(g.told, at)
		}
	}
	return nil
}

func (g *nicGroups) put(c *Socket, joined []stack.Membership) {
	if g.joined[c] = joined; len(joined) == 0 {
		delete(g.joined, c)
	}
}

// of returns the memberships of all sockets in a group.
func (g *nicGroups) of(at linkGroup) (l []stack.Membership) {
	for _, ms := range g.joined {
		for _, m := range ms {
			if m.Link == at.link && m.Group == at.group {
				l = append(l, m)
			}
		}
	}
	return l
}

// tooMany reports whether the changes would give a link more groups than it may have.
func (g *nicGroups) tooMany(changed map[linkGroup]neigh.Filter) bool {
	count, grows := map[int]int{}, map[int]bool{}
	for at := range g.told {
		count[at.link]++
	}
	for at, f := range changed {
		switch _, told := g.told[at]; {
		case told && f.None():
			count[at.link]--
		case !told && !f.None():
			count[at.link]++
			grows[at.link] = true
		}
	}
	for link := range grows {
		if count[link] > mostGroups {
			return true
		}
	}
	return false
}

// merge makes one filter of those of a group's members (RFC 3376, 3.2; RFC 3810, 4.2). If
// one of them excludes sources, the host hears all but those that every such member
// excludes and that nobody includes; else those that somebody includes.
func merge(all []stack.Membership) neigh.Filter {
	f := neigh.Filter{Include: true}
	var included []netip.Addr
	for _, m := range all {
		switch {
		case m.Include:
			included = append(included, m.Sources...)
		case f.Include:
			f = neigh.Filter{Sources: slices.Clone(m.Sources)}
		default:
			f.Sources = slices.DeleteFunc(f.Sources, func(a netip.Addr) bool { return !slices.Contains(m.Sources, a) })
		}
	}
	if f.Include {
		f.Sources = included
	} else {
		f.Sources = slices.DeleteFunc(f.Sources, func(a netip.Addr) bool { return slices.Contains(included, a) })
	}
	slices.SortFunc(f.Sources, netip.Addr.Compare)
	f.Sources = slices.Compact(f.Sources)
	return f
}
