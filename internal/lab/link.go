package lab

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Link is a network interface in a namespace of the lab.
type Link struct {
	NS    *NS
	If    string // name
	Index int
	MAC   [6]byte
	// Addr4 (a /24), Addr6 (a /64) and LinkLocal are the addresses it was made
	// with. LinkLocal carries no zone.
	Addr4, Addr6, LinkLocal netip.Addr
}

// Zoned returns the link-local address with the interface name as zone.
func (l *Link) Zoned() netip.Addr { return l.LinkLocal.WithZone(l.If) }

// Options describe a veth pair. The zero value is one queue, MTU 1500.
type Options struct {
	// Queues is the number of receive and of transmit queues on both sides.
	Queues int
	// InUse is how many of the queues both sides use at first; 0 is all.
	InUse int
	// MTU of both sides.
	MTU int
	// Net is n in the addresses 10.77.n.1/24 and fd77:0:0:n::1/64 of the first
	// end, .2 and ::2 of the second. 0 takes the first number that is free in
	// both namespaces.
	Net int
	// NoAddr leaves out the IPv4 and the global IPv6 addresses.
	NoAddr bool
	// Neighbors makes both ends know each other for good: no ARP, no NDP.
	Neighbors bool
	// Offloads to be turned off on both sides.
	NoTxCsum, NoTSO, NoGSO, NoGRO bool
}

// DefaultQueues is Options.Queues where nobody sets it: more than 1 where a flag of a
// test has everything run over several stacks.
var DefaultQueues = 1

// Veth joins a and b, which may be the same namespace, and waits until the
// link carries. Interfaces are named veth0, veth1... within each namespace.
func Veth(a, b *NS, o Options) (la, lb *Link, err error) {
	o.Queues, o.MTU = cmp.Or(o.Queues, DefaultQueues), cmp.Or(o.MTU, 1500)
	la, lb = a.newLink(), b.newLink()
	if o.Net == 0 {
		o.Net = max(la.ordinal(), lb.ordinal())
	}
	if o.Net > 255 {
		return nil, nil, fmt.Errorf("net %d is above 255", o.Net)
	}
	return la, lb, join(la, lb, o)
}

// Remake makes a pair of Veth's again that was deleted, with its names, MACs and
// addresses. Only the indices differ. o is as in Veth, but for Net.
func Remake(la, lb *Link, o Options) error {
	o.Net = int(la.MAC[4])
	o.Queues, o.MTU = cmp.Or(o.Queues, DefaultQueues), cmp.Or(o.MTU, 1500)
	return join(la, lb, o)
}

func join(la, lb *Link, o Options) error {
	a, b := la.NS, lb.NS
	la.MAC = [6]byte{0x02, 0, 0x77, 0, byte(o.Net), 1}
	lb.MAC = [6]byte{0x02, 0, 0x77, 0, byte(o.Net), 2}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.HardwareAddr, attrs.MTU = la.If, la.MAC[:], o.MTU
	attrs.NumTxQueues, attrs.NumRxQueues = o.Queues, o.Queues
	veth := netlink.NewVeth(attrs)
	veth.PeerName, veth.PeerHardwareAddr = lb.If, lb.MAC[:]
	err := b.h.WithFD(func(fd int) error {
		veth.PeerNamespace = netlink.NsFd(fd)
		return a.nl.LinkAdd(veth)
	})
	if err != nil {
		return fmt.Errorf("veth %s %s: %w", a.Name, b.Name, err)
	}
	for i, l := range []*Link{la, lb} {
		if err := l.bringUp(i+1, o); err != nil {
			return fmt.Errorf("%s in %s: %w", l.If, l.NS.Name, err)
		}
	}
	for _, l := range []*Link{la, lb} {
		if err := l.waitReady(); err != nil {
			return err
		}
	}
	if o.Neighbors {
		for _, p := range [][2]*Link{{la, lb}, {lb, la}} {
			for _, addr := range []netip.Addr{p[1].Addr4, p[1].Addr6, p[1].LinkLocal} {
				if !addr.IsValid() {
					continue
				}
				if err := p[0].AddNeighbor(addr, p[1].MAC); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// newLink reserves the next name, and makes the link the namespace's own if it
// is the first.
func (ns *NS) newLink() *Link {
	ns.mu.Lock()
	defer ns.mu.Unlock()
	l := &Link{NS: ns, If: fmt.Sprintf("veth%d", len(ns.links))}
	ns.links = append(ns.links, l)
	if len(ns.links) == 1 {
		ns.Link = l
	}
	return l
}

func (l *Link) ordinal() (n int) {
	fmt.Sscanf(l.If, "veth%d", &n)
	return n
}

func (l *Link) bringUp(host int, o Options) error {
	k, err := l.NS.nl.LinkByName(l.If)
	if err != nil {
		return err
	}
	l.Index = k.Attrs().Index
	if o.InUse > 0 {
		if err := l.SetQueues(o.InUse); err != nil {
			return err
		}
	}
	for name, off := range map[offload]bool{txCsum: o.NoTxCsum, tso: o.NoTSO, gso: o.NoGSO, gro: o.NoGRO} {
		if off {
			if err := l.setOffload(name, false); err != nil {
				return err
			}
		}
	}
	if !o.NoAddr {
		l.Addr4 = netip.AddrFrom4([4]byte{10, 77, byte(o.Net), byte(host)})
		l.Addr6 = netip.AddrFrom16([16]byte{0: 0xfd, 1: 0x77, 7: byte(o.Net), 15: byte(host)})
		for _, p := range []netip.Prefix{netip.PrefixFrom(l.Addr4, 24), netip.PrefixFrom(l.Addr6, 64)} {
			if err := l.AddAddr(p); err != nil {
				return err
			}
		}
	}
	return l.SetUp()
}

// waitReady waits for the carrier and for the link-local address, which the
// kernel adds in the background.
func (l *Link) waitReady() error {
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		k, err := l.NS.nl.LinkByIndex(l.Index)
		if err != nil {
			return err
		}
		addrs, err := l.NS.nl.AddrList(k, unix.AF_INET6)
		if err != nil {
			return err
		}
		pending := false
		for _, a := range addrs {
			if a.IP.IsLinkLocalUnicast() {
				l.LinkLocal, _ = netip.AddrFromSlice(a.IP)
			}
			pending = pending || a.Flags&unix.IFA_F_TENTATIVE != 0
		}
		if k.Attrs().OperState == netlink.OperUp && l.LinkLocal.IsValid() && !pending {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s in %s is not ready: state %s, addresses %v", l.If, l.NS.Name, k.Attrs().OperState, addrs)
		}
	}
}

func (l *Link) kernel() netlink.Link {
	return &netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: l.Index, Name: l.If}}
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

func (l *Link) wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s on %s in %s: %w", what, l.If, l.NS.Name, err)
}

// SetUp brings the link up. The carrier also needs the other end.
func (l *Link) SetUp() error { return l.wrap("up", l.NS.nl.LinkSetUp(l.kernel())) }

// SetDown takes the link down. The kernel drops its IPv6 addresses and its
// routes.
func (l *Link) SetDown() error { return l.wrap("down", l.NS.nl.LinkSetDown(l.kernel())) }

// SetMTU changes the MTU of this end.
func (l *Link) SetMTU(mtu int) error {
	return l.wrap("mtu", l.NS.nl.LinkSetMTU(l.kernel(), mtu))
}

// AddAltName gives the link another name.
func (l *Link) AddAltName(name string) error {
	return l.wrap("altname", l.NS.nl.LinkAddAltName(l.kernel(), name))
}

// Rename gives the link another main name. Some drivers want it down first.
func (l *Link) Rename(name string) error {
	if err := l.wrap("rename", l.NS.nl.LinkSetName(l.kernel(), name)); err != nil {
		return err
	}
	l.If = name
	return nil
}

// Delete removes the link, and of a veth the other end with it.
func (l *Link) Delete() error { return l.wrap("delete", l.NS.nl.LinkDel(l.kernel())) }

// AddAddr adds an address with its prefix length, usable at once.
func (l *Link) AddAddr(p netip.Prefix) error {
	a := &netlink.Addr{IPNet: ipNet(p)}
	if p.Addr().Is6() {
		a.Flags = unix.IFA_F_NODAD
	}
	return l.wrap("add "+p.String(), l.NS.nl.AddrAdd(l.kernel(), a))
}

// DelAddr removes an address.
func (l *Link) DelAddr(p netip.Prefix) error {
	return l.wrap("delete "+p.String(), l.NS.nl.AddrDel(l.kernel(), &netlink.Addr{IPNet: ipNet(p)}))
}

func (l *Link) route(dst netip.Prefix, via netip.Addr) *netlink.Route {
	r := &netlink.Route{LinkIndex: l.Index, Dst: ipNet(dst.Masked())}
	if via.IsValid() {
		r.Gw = via.AsSlice()
	} else if dst.Addr().Is4() {
		r.Scope = netlink.SCOPE_LINK
	}
	return r
}

// AddRoute adds a route through this link; the zero via means that dst is on
// the link itself.
func (l *Link) AddRoute(dst netip.Prefix, via netip.Addr) error {
	return l.wrap("route "+dst.String(), l.NS.nl.RouteAdd(l.route(dst, via)))
}

// DelRoute removes what AddRoute added.
func (l *Link) DelRoute(dst netip.Prefix, via netip.Addr) error {
	return l.wrap("delete route "+dst.String(), l.NS.nl.RouteDel(l.route(dst, via)))
}

// AddNeighbor sets a permanent neighbour entry.
func (l *Link) AddNeighbor(addr netip.Addr, mac [6]byte) error {
	n := &netlink.Neigh{LinkIndex: l.Index, State: netlink.NUD_PERMANENT, IP: addr.AsSlice(), HardwareAddr: mac[:]}
	return l.wrap("neighbour "+addr.String(), l.NS.nl.NeighSet(n))
}

// DelNeighbor removes a neighbour entry of any kind.
func (l *Link) DelNeighbor(addr netip.Addr) error {
	n := &netlink.Neigh{LinkIndex: l.Index, IP: addr.AsSlice()}
	return l.wrap("delete neighbour "+addr.String(), l.NS.nl.NeighDel(n))
}

// VLAN adds a sub-interface, named like veth0.7, with the link's own MAC and
// no address, and brings it up. Kernels without 802.1Q say EOPNOTSUPP.
func (l *Link) VLAN(id int) (*Link, error) {
	v := &Link{NS: l.NS, If: fmt.Sprintf("%s.%d", l.If, id), MAC: l.MAC}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.ParentIndex = v.If, l.Index
	if err := l.NS.nl.LinkAdd(&netlink.Vlan{LinkAttrs: attrs, VlanId: id, VlanProtocol: netlink.VLAN_PROTOCOL_8021Q}); err != nil {
		return nil, l.wrap(fmt.Sprintf("vlan %d", id), err)
	}
	k, err := l.NS.nl.LinkByName(v.If)
	if err != nil {
		return nil, err
	}
	v.Index = k.Attrs().Index
	return v, v.SetUp()
}

// Bridge joins links of the namespace in a bridge without an address.
func (ns *NS) Bridge(name string, ports ...*Link) (*Link, error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	br := &netlink.Bridge{LinkAttrs: attrs}
	if err := ns.nl.LinkAdd(br); err != nil {
		return nil, fmt.Errorf("bridge %s in %s: %w", name, ns.Name, err)
	}
	l := &Link{NS: ns, If: name, Index: br.Index}
	for _, p := range ports {
		if err := ns.nl.LinkSetMasterByIndex(p.kernel(), l.Index); err != nil {
			return nil, p.wrap("bridge", err)
		}
	}
	return l, l.SetUp()
}
