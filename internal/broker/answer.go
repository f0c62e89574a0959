package broker

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/broker/claim"
	"github.com/onload-go/onload/internal/broker/nicshare"
	"github.com/onload-go/onload/internal/broker/wire"
)

// link is one of a client's.
type link struct {
	nic     *nic
	link    *nicshare.Link
	flows   map[nicshare.Flow]bool // that are left to the kernel
	resumed map[port]bool          // claimed since Resume; nil otherwise
}

// port is one that a client has claimed.
type port struct {
	proto uint8
	at    netip.AddrPort
}

func (p port) share() nicshare.Port {
	return nicshare.Port{Proto: p.proto, Addr: p.at.Addr(), Port: p.at.Port()}
}

// held is a claim, and the links that have its packets.
type held struct {
	claim   *claim.Claim
	on      map[uint32]bool
	shared  time.Time   // of the last Share
	sharing *time.Timer // ends it; nil: a Claim has
}

// answer answers a message. The error ends the connection.
func (c *client) answer(seq uint16, m wire.Message, fds []int) error {
	switch m := m.(type) {
	case *wire.Grant:
		return c.grant(seq, m, fds[0])
	case *wire.Claim:
		err := c.claim(m, fds[0])
		if err := c.conn.Discard(fds); err != nil {
			return err
		}
		return c.done(seq, err)
	case *wire.Flows:
		return c.takeTable(seq, fds)
	case *wire.Release:
		return c.done(seq, c.release(m))
	case *wire.Except:
		return c.done(seq, c.except(m))
	case *wire.Unexcept:
		return c.done(seq, c.unexcept(m))
	case *wire.Neighbour:
		return c.done(seq, c.neighbour(m))
	case *wire.Stats:
		return c.stats(seq, m)
	case *wire.Resume:
		return c.done(seq, c.resume(m))
	case *wire.Resumed:
		return c.done(seq, c.endResume(m))
	case *wire.Share:
		return c.done(seq, c.share(m))
	case *wire.Leave:
		return c.done(seq, c.leaveLink(m))
	}
	return errors.Join(fmt.Errorf("%T is no question", m), c.conn.Discard(fds))
}

// done answers with OK, or a refusal because of err.
func (c *client) done(seq uint16, err error) error {
	if err != nil {
		return c.refuseFor(seq, err)
	}
	return c.send(seq, &wire.OK{})
}

// refusal is an error with the errno for the client.
type refusal struct {
	errno unix.Errno
	why   string
}

func (r *refusal) Error() string { return r.why }
func (r *refusal) Unwrap() error { return r.errno }

func refused(errno unix.Errno, format string, args ...any) error {
	return &refusal{errno, fmt.Sprintf(format, args...)}
}

// use returns the interface if the client may use it.
func (c *client) use(index uint32) (*nic, error) {
	n := c.b.nicOf(index)
	if n == nil {
		return nil, refused(unix.ENODEV, "the broker does not share interface %d", index)
	}
	if _, ok := c.b.currentPolicy().Limits(c.user, n.name); !ok {
		return nil, refused(unix.EACCES, "the policy does not let user %d use %s", c.user.UID, n.name)
	}
	return n, nil
}

// linkOf returns the client's link of that number.
func (c *client) linkOf(number uint32) (*link, error) {
	l := c.links[number]
	if l == nil {
		return nil, refused(unix.ENOENT, "there is no link %d", number)
	}
	return l, nil
}

// enter counts the process among its user's, of which there may be so many.
func (c *client) enter(most int) error {
	c.b.mu.Lock()
	defer c.b.mu.Unlock()
	if c.counted {
		return nil
	}
	n := 0
	for o := range c.b.clients {
		if o.counted && o.user.UID == c.user.UID {
			n++
		}
	}
	if n >= most {
		return refused(unix.EAGAIN, "user %d has %d processes, as many as the policy allows", c.user.UID, n)
	}
	c.counted = true
	return nil
}

// maxLinks is how many links of an interface a client has at a time: one, and the next one
// where that is not given back yet. An interface has a few hundred for all.
const maxLinks = 2

// grant makes a link over the client's memory.
func (c *client) grant(seq uint16, m *wire.Grant, umem int) error {
	c.account.turn.Lock()
	l, g, err := c.newLink(m, umem)
	c.account.turn.Unlock()
	defer g.Close()
	if err == nil {
		c.links[m.Link] = l
	}
	if err := c.conn.Discard([]int{umem}); err != nil {
		return err
	}
	if err != nil {
		return c.refuseFor(seq, err)
	}
	a := &wire.Granted{
		Token: l.link.Token(), MTU: uint32(g.MTU), SegmentMax: uint32(g.SegmentMax), MAC: g.MAC,
	}
	fds := []int{g.RX, g.TX}
	if g.Packet >= 0 {
		a.Segments = 1
		fds = append(fds, g.Packet)
	}
	if g.LargeRx {
		a.LargeRx = 1
	}
	return c.send(seq, a, fds...)
}

func (c *client) newLink(m *wire.Grant, umem int) (*link, nicshare.Grant, error) {
	none := nicshare.Grant{RX: -1, TX: -1, Packet: -1}
	n, err := c.use(m.Index)
	if err != nil {
		return nil, none, err
	}
	same := 0
	for _, l := range c.links {
		if l.nic == n {
			same++
		}
	}
	if c.links[m.Link] != nil || same >= maxLinks {
		return nil, none, refused(unix.EEXIST, "there is a link %d, or there are %d of %s", m.Link, same, n.name)
	}
	limits, _ := c.b.currentPolicy().Limits(c.user, n.name)
	if err := c.enter(limits.Processes); err != nil {
		return nil, none, err
	}
	size, err := nicshare.MemorySize(umem)
	if err != nil {
		return nil, none, err
	}
	left := limits.Memory - c.memory()
	if size > left {
		return nil, none, refused(unix.ENOBUFS, "the policy leaves the process %d KiB of packet memory, not %d", left>>10, size>>10)
	}
	config := nicshare.LinkConfig{RateBytes: limits.RateBytes, RatePackets: limits.Packets, GroupPriority: m.GroupPriority}
	_, _ = rand.Read(config.Token[:]) // it never fails
	if err := n.links.take(c.account, unix.ENOSPC); err != nil {
		return nil, none, err
	}
	made, err := n.share.NewLink(config)
	if err != nil {
		n.links.put(c.account, 1)
		return nil, none, err
	}
	g, err := made.Grant(nicshare.GrantConfig{
		UMEM: umem, MaxBytes: left, FrameSize: int(m.FrameSize), RxRing: int(m.RxRing), TxRing: int(m.TxRing), Segments: m.Segments == 1, Trusted: limits.PacketRings,
	})
	if err != nil {
		_ = made.Close()
		n.links.put(c.account, 1)
		return nil, none, err
	}
	return &link{nic: n, link: made, flows: map[nicshare.Flow]bool{}}, g, nil
}

// neighbour has the kernel resolve or confirm a neighbour, as it would for a packet. Any
// process can have it do that, by sending a datagram there.
func (c *client) neighbour(m *wire.Neighbour) error {
	n, err := c.use(m.Index)
	if err != nil {
		return err
	}
	return c.b.inNS(func() error {
		return netlink.NeighSet(&netlink.Neigh{LinkIndex: int(n.index), IP: m.Addr.Addr().AsSlice(), Flags: unix.NTF_USE})
	})
}

func (c *client) stats(seq uint16, m *wire.Stats) error {
	l, err := c.linkOf(m.Link)
	if err != nil {
		return c.refuseFor(seq, err)
	}
	k, err := l.link.Counters()
	if err != nil {
		return c.refuseFor(seq, err)
	}
	return c.send(seq, &wire.Counters{
		Sent: k.Sent, SentFragment: k.SentFragment,
		DropMAC: k.DropMAC, DropVLAN: k.DropVLAN, DropProto: k.DropProto,
		DropHeader: k.DropHeader, DropFragment: k.DropFragment,
		DropSource: k.DropSource, DropChecksum: k.DropChecksum, DropSize: k.DropSize,
		DropRate: k.DropRate,
	})
}
