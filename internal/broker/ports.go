package broker

import (
	"errors"
	"net/netip"
	"os"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/broker/claim"
	"github.com/onload-go/onload/internal/broker/nicshare"
	"github.com/onload-go/onload/internal/broker/wire"
)

// claim has the packets of a port come to a link, if the socket proves the port and the
// policy allows it. A port that another link of the client has is proven already; the policy
// may allow it on one interface and not on the other.
func (c *client) claim(m *wire.Claim, socket int) error {
	l, err := c.linkOf(m.Link)
	if err != nil {
		return err
	}
	p := port{m.Port.Proto, m.Port.AddrPort()}
	if !c.b.currentPolicy().Port(c.user, l.nic.name, p.proto, p.at, c.b.ephemeral) {
		return refused(unix.EADDRINUSE, "the policy does not let user %d have this port of %s", c.user.UID, l.nic.name)
	}
	if p.at.Addr().IsMulticast() {
		// A group's datagrams are for all sockets that hear it, and whoever gets its packets
		// here takes them from those of others.
		return refused(unix.EOPNOTSUPP, "groups are left to the kernel")
	}
	h := c.ports[p]
	if h == nil {
		h, err = c.prove(l, p, socket)
	} else {
		err = h.again(socket, c.b)
	}
	if err != nil {
		return err
	}
	if !h.on[m.Link] {
		if err := l.link.Allow(p.share()); err != nil {
			if len(h.on) == 0 {
				_ = c.letGo(h)
			}
			return err
		}
		h.on[m.Link] = true
	}
	c.ports[p] = h
	if l.resumed != nil {
		l.resumed[p] = true
	}
	return nil
}

func (c *client) prove(l *link, p port, socket int) (_ *held, err error) {
	if limits, _ := c.b.currentPolicy().Limits(c.user, l.nic.name); len(c.ports) >= limits.Ports {
		return nil, refused(unix.EADDRINUSE, "the process has %d ports, as many as the policy allows", len(c.ports))
	}
	// Closing what is no socket may take as long as its owner likes (wire.Conn.Discard).
	if _, err := unix.GetsockoptInt(socket, unix.SOL_SOCKET, unix.SO_DOMAIN); err != nil {
		return nil, refused(unix.EPROTONOSUPPORT, "the descriptor is no socket")
	}
	uid := c.user.UID
	if l.resumed != nil && l.link.Has(p.share()) {
		uid = claim.AnyUser
		c.b.ports.force(c.account) // it had it before, whatever others had then
	} else if err := c.b.ports.take(c.account, unix.EADDRINUSE); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			c.b.ports.put(c.account, 1)
		}
	}()
	own, err := unix.FcntlInt(uintptr(socket), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	var proven *claim.Claim
	err = c.b.inNS(func() (err error) {
		proven, err = claim.Prove(own, c.b.cookie, uid, c.b.devices()...)
		return err
	})
	if err != nil {
		return nil, err
	}
	if at := (port{proven.Proto, proven.Local}); at != p {
		_ = proven.Close()
		return nil, refused(unix.EINVAL, "the socket is bound to %v", at.at)
	}
	return &held{claim: proven, on: map[uint32]bool{}}, nil
}

// again ends a Share: socket is to be the new listener at the port. If it is not, the Share
// ends in its time, and the client with it if another process has the port by then.
func (h *held) again(socket int, b *Broker) error {
	if h.sharing == nil {
		return nil
	}
	if err := b.inNS(func() error { return h.claim.Renew(socket, b.cookie) }); err != nil {
		return err
	}
	h.sharing.Stop()
	h.sharing = nil
	return nil
}

// shareFor is how long others can bind a port because of a Share.
const shareFor = 10 * time.Second

// share lets a new listener of the client's have a port whose listener has closed. If
// another process takes it instead, its packets are not the client's any more: then the
// client is dropped.
func (c *client) share(m *wire.Share) error {
	h := c.ports[port{m.Port.Proto, m.Port.AddrPort()}]
	if h == nil || !h.on[m.Link] || m.Port.Proto != unix.IPPROTO_TCP {
		return refused(unix.ENOENT, "the link does not have the port")
	}
	if h.sharing != nil && time.Since(h.shared) < shareFor {
		return nil
	}
	if err := h.claim.Share(); err != nil {
		return err
	}
	h.shared = time.Now()
	h.sharing = time.AfterFunc(shareFor, func() {
		if err := c.b.inNS(h.claim.Unshare); err != nil {
			c.log.Warn("broker: client is dropped", zap.Error(err))
			_ = c.conn.Close()
		}
	})
	return nil
}

// letGo lets a port go that is steered no more.
func (c *client) letGo(h *held) error {
	c.b.ports.put(c.account, 1)
	if h.sharing != nil {
		h.sharing.Stop()
	}
	return h.claim.Close()
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
	if err := c.forgetFlows(l); err != nil {
		return err
	}
	if delete(h.on, m.Link); len(h.on) > 0 {
		return nil
	}
	delete(c.ports, p)
	return c.letGo(h)
}

// forgetFlows forgets the flows that went with their port.
func (c *client) forgetFlows(l *link) error {
	if len(l.flows) == 0 {
		return nil
	}
	left, err := l.link.Exceptions()
	if err != nil {
		return err
	}
	was := len(l.flows)
	clear(l.flows)
	for _, f := range left {
		l.flows[f] = true
	}
	c.b.flows.put(c.account, was-len(l.flows))
	return nil
}

// leaveLink ends a link, and then lets the ports go that no other link has.
func (c *client) leaveLink(m *wire.Leave) error {
	l, err := c.linkOf(m.Link)
	if err != nil {
		return err
	}
	delete(c.links, m.Link)
	errs := []error{c.endLink(l)}
	if l.resumed != nil {
		errs = append(errs, c.endedResume())
	}
	for p, h := range c.ports {
		if !h.on[m.Link] {
			continue
		}
		if delete(h.on, m.Link); len(h.on) == 0 {
			delete(c.ports, p)
			errs = append(errs, c.letGo(h))
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
	if !l.flows[f] {
		if err := c.b.flows.take(c.account, unix.ENOSPC); err != nil {
			return err
		}
	}
	if err := l.link.ExceptFlow(f); err != nil {
		if !l.flows[f] {
			c.b.flows.put(c.account, 1)
		}
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
	c.b.flows.put(c.account, 1)
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
	n.links.force(c.account)
	c.links[m.Link] = &link{nic: n, link: l, flows: map[nicshare.Flow]bool{}, resumed: map[port]bool{}}
	if c.resuming++; c.resuming > 1 {
		return nil
	}
	// Until Resumed it has ports that it need not have proven to this broker.
	return c.conn.SetReadDeadline(time.Now().Add(c.b.resumeWait))
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
	flows, err := l.link.Exceptions()
	if err != nil {
		return err
	}
	for _, f := range flows {
		if !l.flows[f] {
			errs = append(errs, l.link.RevokeFlow(f))
		}
	}
	l.resumed = nil
	errs = append(errs, c.endedResume())
	return errors.Join(errs...)
}

// endedResume lifts the deadline of resume when no link is left that waits for Resumed.
func (c *client) endedResume() error {
	if c.resuming--; c.resuming > 0 {
		return nil
	}
	return c.conn.SetReadDeadline(time.Time{})
}

func claimed(p nicshare.Port) port { return port{p.Proto, netip.AddrPortFrom(p.Addr, p.Port)} }
