package broker

import (
	"net/netip"

	"github.com/vishvananda/netlink"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/flowtable"
	"github.com/onload-go/onload/internal/guardian"
	"github.com/onload-go/onload/ip"
)

// takeTable takes the table of the client's connections, instead of one before. Any file
// but one in memory could block whoever reads or closes it.
func (c *client) takeTable(seq uint16, fds []int) error {
	if _, err := unix.FcntlInt(uintptr(fds[0]), unix.F_GET_SEALS, 0); err != nil {
		if err := c.conn.Discard(fds); err != nil {
			return err
		}
		return c.refuse(seq, unix.EINVAL, "the table of connections is no memory file")
	}
	c.setTable(fds[0])
	return c.done(seq, nil)
}

// setTable replaces the table. -1 is none.
func (c *client) setTable(fd int) {
	if c.table >= 0 {
		_ = unix.Close(c.table)
	}
	c.table = fd
}

// mournedMost bounds what the end of a client costs: it is how many peers are told. The broker
// sends for the client, which must not get more packets sent thereby than the policy lets it
// send in a second.
func (c *client) mournedMost() (most int) {
	const peers = 1 << 16
	rounds := uint64(len(guardian.Soon))
	for _, l := range c.links {
		limits, _ := c.b.currentPolicy().Limits(c.user, l.nic.name)
		n := uint64(peers)
		if limits.Packets > 0 {
			n = min(n, limits.Packets/rounds)
		}
		if limits.RateBytes > 0 {
			n = min(n, limits.RateBytes/(rounds*guardian.MaxProbe))
		}
		most = max(most, int(n))
	}
	return most
}

// mourn tells the peers of a client that has ended (package guardian). Its links and
// ports have been taken back, so that the kernel answers what the peers ask.
//
// The client wrote the table, and may have written anything. Only flows count that are
// from a port that it had and from an address of the host, as for its packets.
func (c *client) mourn(most int) {
	own, err := c.b.hostAddrs()
	if err == nil {
		err = c.b.teller.Tell(c.table, most, guardian.Soon, func(f *flowtable.Flow) bool {
			return own[f.Local.Addr()] && c.had(f.Local)
		}, c.b.stop)
	}
	if err != nil {
		c.log.Warn("broker: peers are not told", zap.Error(err))
	}
}

// had reports whether the client had the port of TCP, on that address or on all.
func (c *client) had(at netip.AddrPort) bool {
	all := netip.IPv6Unspecified()
	if at.Addr().Is4() {
		all = netip.IPv4Unspecified()
	}
	for _, a := range []netip.Addr{at.Addr(), all, {}} { // the zero Addr is all of both families
		if c.ports[port{ip.ProtoTCP, netip.AddrPortFrom(a, at.Port())}] != nil {
			return true
		}
	}
	return false
}

// hostAddrs returns the addresses of the host.
func (b *Broker) hostAddrs() (map[netip.Addr]bool, error) {
	own := map[netip.Addr]bool{}
	err := b.inNS(func() error {
		l, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
		for _, a := range l {
			if addr, ok := netip.AddrFromSlice(a.IP); ok {
				own[addr.Unmap()] = true
			}
		}
		return err
	})
	return own, err
}
