package control

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// maxRoutes bounds the routes of a family that are mirrored. A router with
// the Internet's table is asked instead.
const maxRoutes = 1 << 12

// recount is the time after which a table that was too large is counted again.
const recount = time.Minute

// dumpTries bounds how often an interrupted dump is begun again. Changes of
// the table interrupt it.
const dumpTries = 5

// dumper reads snapshots. Its socket is used by one goroutine at a time.
type dumper struct {
	h       *netlink.Handle
	drivers *driverNames
	// tooMany is when a family's routes were last counted and found too many.
	tooMany [2]time.Time

	settings sysctls
	// hashPorts is what the settings said of each family at the last view; watch
	// says that it made a difference.
	hashPorts [2]bool
	watch     bool
	settled   int // changes of links' settings that the kernel has announced
}

// newDumper makes the sockets, in the namespace of the thread.
func newDumper() (*dumper, error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, os.NewSyscallError("netlink", err)
	}
	drivers, err := newDriverNames()
	if err != nil {
		h.Close()
		return nil, err
	}
	d := &dumper{h: h, drivers: drivers}
	d.settings.open()
	return d, nil
}

func (d *dumper) close() {
	d.h.Close()
	d.drivers.close()
	d.settings.close()
}

// settingsChanged reports whether the settings differ from those of the last
// view.
func (d *dumper) settingsChanged() bool {
	return d.settings.hashPorts(inet4) != d.hashPorts[inet4] || d.settings.hashPorts(inet6) != d.hashPorts[inet6]
}

// view reads a view. Links come first: their dump waits for the lock under
// which the kernel makes the change that was announced, so addresses and routes
// are read after it. The kernel does not announce many of their removals.
func (d *dumper) view() (*view, error) {
	v, h := newView(), d.h
	v.settled = d.settled
	links, err := retry(h.LinkList)
	if err != nil {
		return nil, err
	}
	for _, l := range links {
		v.addLink(convertLink(l))
	}
	d.drivers.fill(v)
	d.watch = false
	addrs, err := retry(func() ([]netlink.Addr, error) { return h.AddrList(nil, unix.AF_UNSPEC) })
	if err != nil {
		return nil, err
	}
	for i := range addrs {
		if a, ok := convertAddr(&addrs[i]); ok {
			v.addAddr(addrs[i].LinkIndex, a)
		}
	}
	for f, af := range [2]int{unix.AF_INET, unix.AF_INET6} {
		rules, err := retry(func() ([]netlink.Rule, error) { return h.RuleList(af) })
		if errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP) {
			continue // a kernel without IPv6, or without rules
		}
		if err != nil {
			return nil, err
		}
		v.ask[f] = !standardRules(rules)
		v.localLate[f] = len(rules) == 0 || !standardRule(rules[0], unix.RT_TABLE_LOCAL)
		v.byFlow[f] = slices.ContainsFunc(rules, func(r netlink.Rule) bool { return asksPorts(r) || r.Tos != 0 })
		if err := d.routes(af, f, v); err != nil {
			return nil, err
		}
		d.hashPorts[f] = d.settings.hashPorts(f)
		if v.ask[f] || v.partial[f] { // there may be multipath routes
			d.watch = true
			v.ports[f] = d.hashPorts[f] || slices.ContainsFunc(rules, asksPorts)
		}
	}
	return v, nil
}

// asksPorts reports whether a rule is about ports.
func asksPorts(r netlink.Rule) bool { return r.Sport != nil || r.Dport != nil }

func retry[T any](list func() ([]T, error)) (res []T, err error) {
	for range dumpTries {
		if res, err = list(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	return res, err
}

// standardRules reports whether the rules are those that every namespace has:
// local, then main, then (IPv4) default, for everything.
func standardRules(rules []netlink.Rule) bool {
	want := []int{unix.RT_TABLE_LOCAL, unix.RT_TABLE_MAIN, unix.RT_TABLE_DEFAULT}
	if len(rules) != 2 && len(rules) != 3 {
		return false
	}
	for i, r := range rules {
		if !standardRule(r, want[i]) {
			return false
		}
	}
	return true
}

// standardRule reports whether a rule leads everything to a table.
func standardRule(r netlink.Rule, table int) bool {
	plain := netlink.NewRule()
	return r.Table == table && r.Mark == 0 && r.Mask == nil && r.Tos == 0 && r.TunID == plain.TunID &&
		r.Goto == plain.Goto && r.Src == nil && r.Dst == nil && r.IifName == "" && r.OifName == "" &&
		r.SuppressPrefixlen == plain.SuppressPrefixlen && r.SuppressIfgroup == plain.SuppressIfgroup &&
		!r.Invert && r.Dport == nil && r.Sport == nil && r.IPProto == plain.IPProto && r.UIDRange == nil
}

// routes reads the tables, unless the kernel has to be asked anyway.
func (d *dumper) routes(af, f int, v *view) error {
	if v.ask[f] {
		return nil
	}
	if at := d.tooMany[f]; !at.IsZero() && time.Since(at) < recount {
		v.ask[f] = true
		return nil
	}
	d.tooMany[f] = time.Time{}
	tables := map[int]int{unix.RT_TABLE_LOCAL: tableLocal, unix.RT_TABLE_MAIN: tableMain, unix.RT_TABLE_DEFAULT: tableDefault}
	routes, err := retry(func() (rs []netlink.Route, err error) {
		err = d.h.RouteListFilteredIter(af, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE, func(r netlink.Route) bool {
			rs = append(rs, r)
			return len(rs) <= maxRoutes
		})
		return rs, err
	})
	if err != nil {
		return err
	}
	if v.ask[f] = len(routes) > maxRoutes; v.ask[f] {
		d.tooMany[f] = time.Now()
		return nil
	}
	for i := range routes {
		r := &routes[i]
		t, ok := tables[r.Table]
		dst, good := convertPrefix(r.Dst)
		if !ok || !good {
			continue
		}
		if r.Tos != 0 {
			v.ask[f], v.byFlow[f] = true, true
			return nil
		}
		c := convertRoute(r)
		v.partial[f] = v.partial[f] || c.unsure
		v.fib[f][t].add(dst, c)
	}
	for t := range v.fib[f] {
		if v.fib[f][t].markEqual() {
			v.partial[f] = true
		}
	}
	return nil
}

// markEqual marks the routes of which several have one prefix and metric: the
// kernel chooses by preference (RFC 4191) and by what it knows of the gateways.
// It reports whether there are any.
func (t *table) markEqual() (any bool) {
	for _, rs := range t.routes {
		for i := 1; i < len(rs); i++ {
			if a, b := &rs[i-1], &rs[i]; a.metric == b.metric && (a.kind == unix.RTN_UNICAST || b.kind == unix.RTN_UNICAST) {
				a.unsure, b.unsure, any = true, true, true
			}
		}
	}
	return any
}

func convertRoute(r *netlink.Route) fibRoute {
	src, _ := netip.AddrFromSlice(r.Src)
	via, _ := netip.AddrFromSlice(r.Gw)
	if v, ok := r.Via.(*netlink.Via); ok && !via.IsValid() {
		via, _ = netip.AddrFromSlice(v.Addr)
	}
	out := fibRoute{
		kind: r.Type, metric: r.Priority, src: src.Unmap(), mtu: r.MTU,
		hop: hop{link: r.LinkIndex, via: via.Unmap(), dead: r.Flags&unix.RTNH_F_DEAD != 0},
		Metrics: Metrics{
			MTULocked: r.MTULock, AdvMSS: r.AdvMSS, InitCwnd: r.InitCwnd, InitRwnd: r.InitRwnd, Window: r.Window,
			HopLimit: r.Hoplimit, Congestion: r.Congctl, ECN: r.Features&unix.RTAX_FEATURE_ECN != 0, QuickAck: r.QuickACK != 0,
		},
	}
	switch {
	case r.Type != unix.RTN_UNICAST:
	case len(r.MultiPath) > 0, r.LinkIndex == 0: // without a link it names a nexthop object
		out.unsure = true
	case r.Flags&unix.RTNH_F_LINKDOWN != 0: // ignore_routes_with_linkdown decides
		out.unsure = true
	case r.RtoMin != 0: // the library does not show whether the value is locked when the MTU is locked too
		out.unsure = true
	}
	return out
}

func convertPrefix(n *net.IPNet) (netip.Prefix, bool) {
	if n == nil {
		return netip.Prefix{}, false
	}
	a, ok := netip.AddrFromSlice(n.IP)
	ones, size := n.Mask.Size()
	if size == 32 {
		a = a.Unmap() // 0.0.0.0/0 comes in 16 bytes
	}
	return netip.PrefixFrom(a, ones), ok
}

func convertAddr(a *netlink.Addr) (address, bool) {
	p, ok := convertPrefix(a.IPNet)
	if !ok || a.Flags&unix.IFA_F_DADFAILED != 0 {
		return address{}, false
	}
	if a.Flags&unix.IFA_F_TENTATIVE != 0 && a.Flags&unix.IFA_F_OPTIMISTIC == 0 {
		return address{}, false // not ours until nobody objects (RFC 4862, section 5.4)
	}
	second := a.Flags&unix.IFA_F_SECONDARY != 0 // the same bit as TEMPORARY
	return address{
		Prefix:     p,
		scope:      a.Scope,
		secondary:  second && p.Addr().Is4(),
		temporary:  second && p.Addr().Is6(),
		deprecated: a.Flags&unix.IFA_F_DEPRECATED != 0,
	}, true
}

func convertLink(l netlink.Link) Link {
	a := l.Attrs()
	out := Link{
		Index:    a.Index,
		Name:     a.Name,
		AltNames: a.AltNames,
		MTU:      a.MTU,
		Up:       a.RawFlags&unix.IFF_UP != 0,
		Carrier:  a.RawFlags&unix.IFF_LOWER_UP != 0,
		Kind:     l.Type(),
		Master:   a.MasterIndex,
		Loopback: a.RawFlags&unix.IFF_LOOPBACK != 0,
	}
	copy(out.MAC[:], a.HardwareAddr)
	switch t := l.(type) {
	case *netlink.Vlan:
		out.Parent = a.ParentIndex
		if t.VlanProtocol != netlink.VLAN_PROTOCOL_8021AD { // tags of another protocol
			out.VLAN = uint16(t.VlanId)
		}
	case *netlink.Macvlan:
		out.Parent = a.ParentIndex
	}
	return out
}

// neighbors reads all neighbours.
func (d *dumper) neighbors() ([]neighborEvent, error) {
	list, err := retry(func() ([]netlink.Neigh, error) { return d.h.NeighList(0, unix.AF_UNSPEC) })
	if err != nil {
		return nil, err
	}
	var events []neighborEvent
	for _, n := range list {
		addr, ok := netip.AddrFromSlice(n.IP)
		if !ok || n.Flags&unix.NTF_PROXY != 0 || (n.Family != unix.AF_INET && n.Family != unix.AF_INET6) {
			continue
		}
		e := neighborEvent{neighborKey: neighborKey{n.LinkIndex, addr}}
		copy(e.mac[:], n.HardwareAddr)
		e.usable = len(n.HardwareAddr) == len(e.mac) && n.State&usableStates != 0
		e.fixed = n.State&fixedStates != 0
		e.final = n.State&netlink.NUD_FAILED != 0
		events = append(events, e)
	}
	return events, nil
}

// driverNames finds the drivers of links, each once.
type driverNames struct {
	fd    int
	known map[driverKey]string
}

type driverKey struct {
	index int
	name  string
}

// newDriverNames makes the socket that ethtool wants, in the namespace of the
// thread.
func newDriverNames() (*driverNames, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return &driverNames{fd, map[driverKey]string{}}, nil
}

func (d *driverNames) close() { unix.Close(d.fd) }

func (d *driverNames) fill(v *view) {
	for k := range d.known {
		if l := v.links[k.index]; l == nil || l.Name != k.name {
			delete(d.known, k)
		}
	}
	for _, l := range v.links {
		key := driverKey{l.Index, l.Name}
		name, ok := d.known[key]
		if !ok {
			if info, err := unix.IoctlGetEthtoolDrvinfo(d.fd, l.Name); err == nil {
				name = unix.ByteSliceToString(info.Driver[:])
			}
			d.known[key] = name
		}
		l.Driver = name
	}
}
