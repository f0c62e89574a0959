package nicshare

import (
	"errors"
	"fmt"
	"math"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	steer "github.com/onload-go/onload/driver/afxdp/bpf"
	"github.com/onload-go/onload/internal/broker/bpf"
	"github.com/onload-go/onload/internal/netns"
)

// Link is the link of one process.
type Link struct {
	n     *NIC
	id    int
	index int // of the near end
	name  string
	token [16]byte

	far    int   // index of the far end
	nsid   int   // of the far end's namespace
	memory int64 // bytes of the Grant's

	// Below: n.mu.
	made     farEnd
	priority uint32
	ports    map[steer.SteerPortKey]bool
	flows    map[steer.SteerFlowKey]uint32 // owner: the link, or the kernel
	gone     bool
}

// farEnd is what holds the far end until Grant: then only the sockets do.
type farEnd struct {
	ns      netns.Handle
	sockets *ebpf.Map
}

// release closes descriptors.
func (f *farEnd) release() {
	if !f.ns.IsZero() {
		_ = f.ns.Close()
	}
	if f.sockets != nil {
		_ = f.sockets.Close()
	}
	*f = farEnd{}
}

// owner is the link in the table.
func (l *Link) owner() uint32 { return steer.OwnerLink + uint32(l.id) }

// ID is the number of the link on its NIC, from 0 on. It stays the same when another
// process takes the NIC over, and is given again after Close.
func (l *Link) ID() int { return l.id }

// Token is that of LinkConfig.
func (l *Link) Token() [16]byte { return l.token }

// Alive reports whether the kernel still has the link. It removes the link when the
// last socket of the Grant is closed, some 40 ms later. After the NIC's Close or Detach
// nobody knows.
func (l *Link) Alive() bool {
	l.n.mu.Lock()
	defer l.n.mu.Unlock()
	// A closed netlink handle asks in whichever namespace the thread is in.
	return !l.n.closed && l.alive()
}

func (l *Link) alive() bool {
	k, err := l.n.nl.LinkByIndex(l.index)
	return err == nil && k.Attrs().Name == l.name
}

// name is that of the near end of a link.
func (n *NIC) name(id int) string { return fmt.Sprintf("%s%x", n.prefix(), id) }

// prefix begins the names of all near ends of the interface.
func (n *NIC) prefix() string { return fmt.Sprintf("onl%x-", n.shared.Index) }

// NewLink makes a link. Nothing can be sent or received by it before Grant and Allow.
func (n *NIC) NewLink(c LinkConfig) (*Link, error) {
	value, err := c.value()
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return nil, errClosed
	}
	id := 0
	for n.links[id] != nil {
		id++
	}
	if id >= n.c.MaxLinks {
		return nil, fmt.Errorf("nicshare: %s has %d links: %w", n.shared.Name, id, unix.ENOSPC)
	}
	l := &Link{n: n, id: id, name: n.name(id), token: c.Token, priority: c.GroupPriority,
		ports: map[steer.SteerPortKey]bool{}, flows: map[steer.SteerFlowKey]uint32{}}
	// The kernel looks indices up in the namespace of the thread that names them.
	if err := n.c.InNS(func() error { return l.make(&value) }); err != nil {
		return nil, errors.Join(err, l.close())
	}
	n.links[id] = l
	return l, nil
}

// value is what the filter knows of the link.
func (c *LinkConfig) value() (v bpf.FilterLink, err error) {
	time := func(rate uint64) (uint64, error) {
		switch {
		case rate == 0:
			return 0, nil
		case rate < minRate:
			return 0, fmt.Errorf("nicshare: a rate of %d in a second: at least %d: %w", rate, minRate, unix.EINVAL)
		}
		const second = 1e9 * (1 << 16)
		return uint64(math.Ceil(second / float64(rate))), nil
	}
	v.Priority, v.Token = c.GroupPriority, c.Token
	var errB, errP error
	v.ByteTime, errB = time(c.RateBytes)
	v.PacketTime, errP = time(c.RatePackets)
	return v, errors.Join(errB, errP)
}

// minRate is the lowest limit. The filter's arithmetic has 64 bits.
const minRate = 1000

// make makes both ends and attaches their programs, in the NIC's namespace. The near end comes up last: until
// then the process can send nothing past the filter.
func (l *Link) make(value *bpf.FilterLink) (err error) {
	n := l.n
	value.Owner = l.owner()
	if l.made.ns, err = netns.New(); err != nil {
		return fmt.Errorf("nicshare: network namespace: %w", err)
	}
	near := netlink.NewLinkAttrs()
	near.Name, near.MTU, near.NumTxQueues, near.NumRxQueues = l.name, nearMTU, 1, 1
	err = l.made.ns.WithFD(func(fd int) error {
		if err := l.number(fd); err != nil {
			return err
		}
		return n.nl.LinkAdd(&netlink.Veth{
			LinkAttrs: near, PeerName: farName, PeerNamespace: netlink.NsFd(fd), PeerMTU: uint32(n.shared.MTU),
			PeerTxQLen: -1, PeerNumTxQueues: 1, PeerNumRxQueues: 1,
		})
	})
	if err != nil {
		return fmt.Errorf("nicshare: veth pair %s: %w", l.name, err)
	}
	k, err := n.nl.LinkByName(l.name)
	if err != nil {
		return fmt.Errorf("nicshare: %s: %w", l.name, err)
	}
	l.index = k.Attrs().Index
	if err := n.forget(l); err != nil {
		return err
	}
	if err := n.filter.Links.Put(uint32(l.index), value); err != nil {
		return fmt.Errorf("nicshare: entry of the link: %w", err)
	}
	err = link.RawAttachProgram(link.RawAttachProgramOptions{Target: l.index, Program: n.filter.Program, Attach: ebpf.AttachTCXIngress})
	if err != nil {
		return fmt.Errorf("nicshare: filter: %w", err)
	}
	if err := l.made.ns.Do(l.receive); err != nil {
		return err
	}
	if err := bringUp(n.nl, k); err != nil {
		return err
	}
	if err := n.steer.Devs.Put(uint32(l.id), uint32(l.index)); err != nil {
		return fmt.Errorf("nicshare: DEVMAP: %w", err)
	}
	return nil
}

const (
	farName = "vp"
	// nearMTU lets packets of 64 KiB through that the peer's kernel has joined: the
	// kernel compares them with the MTU of the end that they are redirected to.
	nearMTU = 65535
)

// receive has the far end hand all that comes to the socket, and brings it up. It runs
// in the far end's namespace. The program is attached to the device itself, so that it
// lasts as long.
func (l *Link) receive() error {
	nl, err := netlink.NewHandle()
	if err != nil {
		return fmt.Errorf("nicshare: netlink: %w", err)
	}
	defer nl.Close()
	k, err := nl.LinkByName(farName)
	if err != nil {
		return fmt.Errorf("nicshare: far end: %w", err)
	}
	l.far = k.Attrs().Index
	spec, err := bpf.LoadFilter()
	if err != nil {
		return fmt.Errorf("nicshare: %w", err)
	}
	var o struct {
		Program *ebpf.Program `ebpf:"onload_receive"`
		Sockets *ebpf.Map     `ebpf:"sockets"`
	}
	if err := spec.LoadAndAssign(&o, nil); err != nil {
		return fmt.Errorf("nicshare: program of the far end: %w", err)
	}
	defer o.Program.Close()
	l.made.sockets = o.Sockets
	// If the NIC's program is native, so is this one: veth takes redirected frames
	// only if their receiver polls.
	flags := unix.XDP_FLAGS_DRV_MODE
	if l.n.mode == ModeGeneric {
		flags = unix.XDP_FLAGS_SKB_MODE
	}
	if err := netlink.LinkSetXdpFdWithFlags(k, o.Program.FD(), flags); err != nil {
		return fmt.Errorf("nicshare: attachment to the far end: %w", err)
	}
	return bringUp(nl, k)
}

// bringUp brings an end up, which speaks for itself neither ARP nor IPv6.
func bringUp(nl *netlink.Handle, k netlink.Link) error {
	const none = 1 // IN6_ADDR_GEN_MODE_NONE
	if err := nl.LinkSetIP6AddrGenMode(k, none); err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
		return fmt.Errorf("nicshare: %s: no IPv6 address: %w", k.Attrs().Name, err)
	}
	if err := nl.LinkSetARPOff(k); err != nil {
		return fmt.Errorf("nicshare: %s: %w", k.Attrs().Name, err)
	}
	if err := nl.LinkSetUp(k); err != nil {
		return fmt.Errorf("nicshare: %s: %w", k.Attrs().Name, err)
	}
	return nil
}

var errClosed = fmt.Errorf("nicshare: closed: %w", unix.EBADF)

// Close takes all ports and flows away, then the link.
func (l *Link) Close() error {
	l.n.mu.Lock()
	defer l.n.mu.Unlock()
	return l.close()
}

func (l *Link) close() error {
	if l.gone || l.n.closed {
		return nil
	}
	l.gone = true
	errs := []error{l.revokeAll()}
	if l.index != 0 {
		errs = append(errs, missing(l.n.steer.Devs.Delete(uint32(l.id))))
		// The filter goes with the device, and not before.
		if k, err := l.n.nl.LinkByIndex(l.index); err == nil && k.Attrs().Name == l.name {
			// The kernel may be faster, if the process has ended.
			if err := l.n.nl.LinkDel(k); err != nil && !errors.Is(err, unix.ENODEV) {
				errs = append(errs, fmt.Errorf("nicshare: %s: %w", l.name, err))
			}
		}
		errs = append(errs, missing(l.n.filter.Links.Delete(uint32(l.index))))
	}
	delete(l.n.links, l.id)
	l.made.release()
	return errors.Join(errs...)
}

// missing is err, unless it says that there is nothing to delete.
func missing(err error) error {
	if errors.Is(err, ebpf.ErrKeyNotExist) || errors.Is(err, unix.EINVAL) {
		return nil
	}
	return err
}
