package broker

import (
	"errors"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/broker/claim"
	"github.com/onload-go/onload/internal/broker/nicshare"
	"github.com/onload-go/onload/internal/broker/wire"
)

// claim has the packets of a port come to a link, if the socket proves the port and the
// policy allows it. A port that another link of the client has is proven already.
func (c *client) claim(seq uint16, m *wire.Claim, socket int) error {
	l, err := c.linkOf(m.Link)
	if err != nil {
		_ = unix.Close(socket)
		return c.refuseFor(seq, err)
	}
	p := port{m.Port.Proto, m.Port.AddrPort()}
	h := c.ports[p]
	if h != nil {
		_ = unix.Close(socket)
	} else if h, err = c.prove(l, p, socket); err != nil {
		return c.refuseFor(seq, err)
	}
	if !h.on[m.Link] {
		if err := l.link.Allow(p.share()); err != nil {
			if len(h.on) == 0 {
				_ = h.claim.Close()
			}
			return c.refuseFor(seq, err)
		}
		h.on[m.Link] = true
	}
	c.ports[p] = h
	if l.resumed != nil {
		l.resumed[p] = true
	}
	return c.send(seq, &wire.OK{})
}

// prove takes socket over.
func (c *client) prove(l *link, p port, socket int) (*held, error) {
	policy := c.b.currentPolicy()
	limits, _ := policy.Limits(c.user, l.nic.name)
	switch {
	case len(c.ports) >= limits.Ports:
		_ = unix.Close(socket)
		return nil, refused(unix.EADDRINUSE, "the process has %d ports, as many as the policy allows", len(c.ports))
	case !policy.Port(c.user, l.nic.name, p.proto, p.at, c.b.ephemeral):
		_ = unix.Close(socket)
		return nil, refused(unix.EADDRINUSE, "the policy does not let user %d have this port of %s", c.user.UID, l.nic.name)
	}
	var proven *claim.Claim
	err := c.b.inNS(func() (err error) {
		proven, err = claim.Prove(socket, c.b.cookie)
		return err
	})
	if err != nil {
		return nil, err
	}
	if at := (port{proven.Proto, proven.Local}); at != p {
		_ = proven.Close()
		return nil, refused(unix.EINVAL, "the socket is bound to %v", at.at)
	}
	return &held{proven, map[uint32]bool{}}, nil
}

// release takes a port from a link. With its last link the port is anybody's.
func (c *client) release(m *wire.Release) error {
	l, err := c.linkOf(m.Link)
	if err != nil {
		return err
	}
	p := port{m.Port.Proto, m.Port.AddrPort()}
	h := c.ports[p]
	if h == nil || !h.on[m.Link] {
		return refused(unix.ENOENT, "the link does not have the port")
	}
	if err := l.link.Revoke(p.share()); err != nil {
		return err
	}
	if delete(h.on, m.Link); len(h.on) > 0 {
		return nil
	}
	delete(c.ports, p)
	return h.claim.Close()
}

// leaveLink ends a link, and then lets the ports go that no other link has.
func (c *client) leaveLink(m *wire.Leave) error {
	l, err := c.linkOf(m.Link)
	if err != nil {
		return err
	}
	delete(c.links, m.Link)
	errs := []error{l.link.Close()}
	for p, h := range c.ports {
		if !h.on[m.Link] {
			continue
		}
		if delete(h.on, m.Link); len(h.on) == 0 {
			delete(c.ports, p)
			errs = append(errs, h.claim.Close())
		}
	}
	return errors.Join(errs...)
}

// except leaves a connection of a port of the client's to the kernel.
func (c *client) except(m *wire.Except) error {
	l, err := c.linkOf(m.Link)
	if err != nil {
		return err
	}
	limits, _ := c.b.currentPolicy().Limits(c.user, l.nic.name)
	f := flow(m)
	if !l.flows[f] && len(l.flows) >= limits.Ports {
		return refused(unix.ENOSPC, "%d connections are left to the kernel, as many as the policy allows ports", len(l.flows))
	}
	if err := l.link.ExceptFlow(f); err != nil {
		return err
	}
	l.flows[f] = true
	return nil
}

func (c *client) unexcept(m *wire.Unexcept) error {
	l, err := c.linkOf(m.Link)
	if err != nil {
		return err
	}
	f := flow((*wire.Except)(m))
	if !l.flows[f] {
		return refused(unix.ENOENT, "the connection is not left to the kernel")
	}
	delete(l.flows, f)
	return l.link.RevokeFlow(f)
}

func flow(m *wire.Except) nicshare.Flow {
	return nicshare.Flow{Proto: m.Local.Proto, Local: m.Local.AddrPort(), Remote: m.Remote.AddrPort()}
}

// resume gives the client a link that it had from an earlier broker.
func (c *client) resume(m *wire.Resume) error {
	n, err := c.use(m.Index)
	if err != nil {
		return err
	}
	if c.links[m.Link] != nil {
		return refused(unix.EEXIST, "there is a link %d", m.Link)
	}
	limits, _ := c.b.currentPolicy().Limits(c.user, n.name)
	if err := c.enter(limits.Processes); err != nil {
		return err
	}
	l := n.adopt(m.Token)
	if l == nil {
		return refused(unix.ENOENT, "there is no such link")
	}
	c.links[m.Link] = &link{nic: n, link: l, flows: map[nicshare.Flow]bool{}, resumed: map[port]bool{}}
	return nil
}

// endResume takes the ports away that the client has not claimed since, and flows.
func (c *client) endResume(m *wire.Resumed) error {
	l, err := c.linkOf(m.Link)
	if err != nil {
		return err
	}
	if l.resumed == nil {
		return refused(unix.EINVAL, "the link was not resumed")
	}
	ports, err := l.link.Ports()
	if err != nil {
		return err
	}
	var errs []error
	for _, p := range ports {
		if !l.resumed[claimed(p)] {
			errs = append(errs, l.link.Revoke(p))
		}
	}
	l.resumed = nil
	return errors.Join(errs...)
}

func claimed(p nicshare.Port) port { return port{p.Proto, netip.AddrPortFrom(p.Addr, p.Port)} }
