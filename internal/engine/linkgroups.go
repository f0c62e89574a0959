package engine

import (
	"net/netip"

	"go.uber.org/zap"

	"github.com/onload-go/onload/internal/event"
	"github.com/onload-go/onload/internal/neigh"
)

// hostGroups are filters that the host of a link has not taken yet. A later one of the
// same group replaces the earlier one, so none waits for the host's goroutine.
type hostGroups struct {
	filters map[netip.Addr]neigh.Filter // under linkHost.mu
	news    chan struct{}
}

func (g *hostGroups) init() {
	g.filters, g.news = map[netip.Addr]neigh.Filter{}, make(chan struct{}, 1)
}

// setFilter has the host be a member of a group, or not any more.
func (h *linkHost) setFilter(group netip.Addr, f neigh.Filter) {
	h.mu.Lock()
	h.groups.filters[group] = f
	h.mu.Unlock()
	select {
	case h.groups.news <- struct{}{}:
	default: // it is about to look
	}
}

// takeGroups gives the filters to the host, which reports them.
func (h *linkHost) takeGroups() {
	h.mu.Lock()
	all := h.groups.filters
	h.groups.filters = map[netip.Addr]neigh.Filter{}
	h.mu.Unlock()
	for group, f := range all {
		if !h.host.SetFilter(group, f, h.now()) {
			h.log.Warn("no router hears that this host is a member of the group: there are too many", event.GroupNotAnnounced.Field(), zap.Stringer("group", group))
		}
	}
}
