package engine

import (
	"net/netip"

	"github.com/onload-go/onload/internal/control"
	"github.com/onload-go/onload/internal/stack"
	"github.com/onload-go/onload/ip"
)

// A program joins a group by a kernel's socket, on a link of the kernel's. For a link
// that no kernel stands behind there are two ways: ListenMulticastUDP names it (Join), and
// a membership on lo stands for one on each such link by which the socket receives. So
// does any membership of a socket without a twin, since no link of the kernel's brings it
// anything.

// NIC returns the index of an interface that no kernel stands behind: of the one with
// that name or index, or, where the engine has no others, of the first one for an empty
// name.
func (e *Engine) NIC(name string, index int) (link int, ok bool) {
	for _, i := range e.interfaces() {
		if !i.Kernel && (i.Name == name || i.Index == index || name == "" && index == 0 && !e.rest) {
			return i.Index, true
		}
	}
	return 0, false
}

// Join makes the socket a member of a group on a link that no kernel stands behind. What
// it sends to groups leaves by that link. The error is ENOBUFS: there are too many groups.
func (c *Socket) Join(link int, group netip.Addr) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil
	}
	c.joined = append(c.joined, stack.Membership{Group: group, Link: link})
	if r, err := c.e.net.Route(control.Flow{Dst: group, Link: link, Proto: ip.ProtoUDP}); err == nil {
		c.groupSrc = r.Src
		c.sendGroups(&c.opts.IP)
		for _, s := range c.parts.Load().shards {
			s.SetIP(c.opts.IP)
		}
		c.routes.clear()
	}
	return c.hear(c.beside)
}

// sendGroups has what goes to groups leave by the link of Join, unless the program has
// chosen another. mu is held.
func (c *Socket) sendGroups(o *IPOptions) {
	switch a := c.groupSrc; {
	case a.Is4() && !o.MulticastSrc.IsValid():
		o.MulticastSrc = a
	case a.Is6():
		o.MulticastSrc6 = a
	}
}

// hear has the shards hear what the kernel's socket beside this one does, and the groups
// of links without a kernel. mu is held.
func (c *Socket) hear(beside stack.Hearing) error {
	var onNICs []stack.Membership
	nics := c.nics()
	for _, m := range beside.Joined {
		if len(nics) == 0 {
			break
		}
		if l, ok := c.e.net.Link(m.Link); c.twin && !(ok && l.Loopback) {
			continue
		}
		for _, link := range nics {
			m.Link = link
			onNICs = append(onNICs, m)
		}
	}
	onNICs = append(onNICs, c.joined...)
	if err := c.e.nicGroups.set(c.e, c, onNICs); err != nil {
		return err
	}
	c.beside, c.hearing, c.onNICs = beside, beside, len(onNICs) > 0
	c.hearing.Joined = append(onNICs, beside.Joined...)
	for _, s := range c.parts.Load().shards {
		s.Hear(c.hearing)
	}
	return nil
}

// nics are the links without a kernel by which the socket receives.
func (c *Socket) nics() (links []int) {
	at, bound := 0, false
	if a := c.at.Addr(); a.IsValid() && !a.IsUnspecified() {
		at, bound = c.e.net.Local(a)
	}
	for _, i := range c.e.interfaces() {
		if !i.Kernel && i.err() == nil && (!bound || at == i.Index) {
			links = append(links, i.Index)
		}
	}
	return links
}
