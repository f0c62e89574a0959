package engine

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"go.uber.org/zap"

	"github.com/onload-go/onload/internal/control"
	"github.com/onload-go/onload/internal/event"
	"github.com/onload-go/onload/internal/neigh"
)

// wait waits until each configured address is ours or another's, and servers have given
// theirs. The error says what the link does not have. Past the limit a link that has an
// address does without the others.
func (h *linkHost) wait(limit <-chan struct{}) error {
	select {
	case <-h.settled:
	case <-limit:
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.taken) > 0 {
		return fmt.Errorf("address in use: %w", errors.Join(h.taken...))
	}
	for word := range h.asks {
		h.log.Warn("no server has given an address so far", event.AddressMissing.Field(), zap.String("by", word), zap.Duration("in", settleFor))
	}
	if len(h.asks) > 0 && !slices.ContainsFunc(h.link.Addrs, func(p netip.Prefix) bool { return !p.Addr().IsLinkLocalUnicast() }) {
		return fmt.Errorf("no server on the link has given an address within %v (%s)", settleFor, strings.Join(keys(h.asks), ", "))
	}
	return nil
}

// keys are those of m, in order.
func keys(m map[string]bool) (l []string) {
	for k := range m {
		l = append(l, k)
	}
	slices.Sort(l)
	return l
}

// settle closes settled when nothing is pending. mu is held.
func (h *linkHost) settle() {
	if len(h.pending) > 0 || len(h.asks) > 0 {
		return
	}
	select {
	case <-h.settled:
	default:
		close(h.settled)
	}
}

// Address implements neigh.Out.
func (h *linkHost) Address(p netip.Prefix, mac [6]byte, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	configured := h.pending[p.Addr()]
	delete(h.pending, p.Addr())
	if err != nil {
		err = fmt.Errorf("%v: %w: % x", p.Addr(), err, mac)
		h.log.Warn("address conflict", event.AddressConflict.Field(), zap.Error(err))
		if configured {
			h.taken = append(h.taken, err)
		}
	} else {
		if !slices.Contains(h.link.Addrs, p) { // a server may give what is configured
			h.link.Addrs = append(h.link.Addrs[:len(h.link.Addrs):len(h.link.Addrs)], p)
			h.net.SetLink(h.link)
		}
		switch {
		case configured:
		case p.Addr().Is4():
			delete(h.asks, wordDHCP)
		default:
			delete(h.asks, wordSLAAC)
		}
	}
	h.settle()
}

// Removed implements neigh.Out.
func (h *linkHost) Removed(p netip.Prefix) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.closing {
		h.log.Warn("an address is not ours any more", event.AddressLost.Field(), zap.Stringer("address", p))
	}
	h.link.Addrs = slices.DeleteFunc(slices.Clone(h.link.Addrs), func(o netip.Prefix) bool { return o == p })
	h.net.SetLink(h.link)
	h.net.Deprecate(p.Addr(), false)
}

// Deprecated implements neigh.Out.
func (h *linkHost) Deprecated(a netip.Addr, old bool) { h.net.Deprecate(a, old) }

// lookAtLink follows the device's link. While it is down no route leads to it, as with a
// kernel's link that is down: another link may have one, and a program hears that there is
// none. Its addresses stay, and its connections wait.
func (h *linkHost) lookAtLink() {
	up := h.linked.LinkUp()
	h.mu.Lock()
	was := h.link.Up
	if up != was {
		h.link.Up, h.link.Carrier = up, up
		h.net.SetLink(h.link)
	}
	h.mu.Unlock()
	if !up && h.down != nil { // no change of the link says that a device is gone whose link was down
		h.down()
	}
	switch {
	case was && !up:
		h.log.Warn("the link is down", event.LinkDown.Field())
	case up && !was:
		h.log.Warn("the link is up again", event.LinkUp.Field())
		h.host.LinkUp(h.now())
	}
}

// Learned implements neigh.Out.
func (h *linkHost) Learned(l neigh.Learned) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.dns = slices.Clone(h.static.dns)
	for _, a := range l.DNS {
		if !a.IsLinkLocalUnicast() { // addresses with a zone are not accelerated (Way)
			h.dns = append(h.dns, a)
		}
	}
	mtu := h.mtu
	if l.MTU > 0 {
		mtu = min(mtu, l.MTU)
	}
	if mtu != h.link.MTU {
		h.link.MTU = mtu
		h.net.SetLink(h.link)
	}
	h.setRoutes(l.Routes)
}

// setRoutes gives the link its configured routes, and those of the learned ones that
// lead elsewhere.
func (h *linkHost) setRoutes(learned []neigh.Route) {
	var all []control.StaticRoute
	for _, r := range h.static.routes {
		all = append(all, control.StaticRoute{Dst: r.dst, Gateway: r.via})
	}
	for _, r := range learned {
		if !slices.ContainsFunc(all, func(o control.StaticRoute) bool { return o.Dst.Masked() == r.Dst }) {
			all = append(all, control.StaticRoute{Dst: r.Dst, Gateway: r.Via})
		}
	}
	h.net.SetRoutes(h.link.Index, all)
}

// nameServers are those to ask for names by this link.
func (h *linkHost) nameServers() []netip.Addr {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.dns
}
