package stack

import (
	"net/netip"
	"syscall"

	"github.com/onload-go/onload/internal/control"
	"github.com/onload-go/onload/ip"
	"github.com/onload-go/onload/tcp"
)

// dstKey names a destination: the lower headers of all packets from local to
// remote are the same, if their sockets' options are.
type dstKey struct {
	tcp.Pair
	proto, tos uint8
	routeTOS   uint8 // that the route is asked for with
	ttl        uint8 // 0: the route's, or the default
	// The route was asked for without the local address, as for a datagram of a
	// socket that is bound to none.
	unbound bool
	// The ports of a flow, 0 unless routes depend on them (dests.trim).
	lport, rport uint16
}

// flow is the question to the kernel.
func (k *dstKey) flow() control.Flow {
	f := control.Flow{Dst: k.Remote, Src: k.Local, DstPort: k.rport, SrcPort: k.lport, Proto: k.proto, TOS: k.routeTOS}
	if k.unbound {
		f.Src = netip.Addr{}
	}
	return f
}

// IPOptions are what a socket sets in the IP headers of its packets. TCP uses the
// ECN bits of TOS and TrafficClass itself (RFC 3168, 5); a datagram's message may
// set them.
type IPOptions struct {
	TOS, TTL               uint8 // IPv4: IP_TOS, IP_TTL
	TrafficClass, HopLimit uint8 // IPv6: IPV6_TCLASS, IPV6_UNICAST_HOPS
	// A TTL or HopLimit of 0 is the default.
	MulticastTTL, MulticastHops uint8 // the same to groups; 0: 1
	// MulticastSrc is the source of datagrams to IPv4 groups, if the socket is bound
	// to no address (IP_MULTICAST_IF); unset: the route's.
	MulticastSrc netip.Addr
	// MulticastSrc6 is the same for IPv6.
	MulticastSrc6 netip.Addr
	// Quiet4 and Quiet6 say that sockets of this host hear nothing of what goes to groups
	// (IP_MULTICAST_LOOP and IPV6_MULTICAST_LOOP are off), Host4 and Host6 that only they
	// do (IP_MULTICAST_TTL or IPV6_MULTICAST_HOPS is 0). On links that a kernel stands
	// behind the kernel sends what its sockets hear.
	Quiet4, Quiet6, Host4, Host6 bool

	// Of UDP: how large IPv4 and IPv6 datagrams are handled.
	PathMTU, PathMTU6 PathMTUMode
}

// ttl is the TTL or hop limit of packets to remote; 0: the default.
func (o *IPOptions) ttl(remote netip.Addr) uint8 {
	switch {
	case remote.IsMulticast() && o.here(remote):
		return 0
	case remote.IsMulticast() && remote.Is4():
		return max(o.MulticastTTL, 1) // RFC 1112, section 6.1
	case remote.IsMulticast():
		return max(o.MulticastHops, 1)
	case remote.Is4():
		return o.TTL
	}
	return o.HopLimit
}

// here and quiet are Host4 and Quiet4, or those of IPv6.
func (o *IPOptions) here(group netip.Addr) bool {
	if group.Is4() {
		return o.Host4
	}
	return o.Host6
}

func (o *IPOptions) quiet(group netip.Addr) bool {
	if group.Is4() {
		return o.Quiet4
	}
	return o.Quiet6
}

// GroupSrc is the source of datagrams to a group, of a socket that is bound to no
// address; unset: the route's.
func (o *IPOptions) GroupSrc(group netip.Addr) netip.Addr {
	if group.Is4() {
		return o.MulticastSrc
	}
	return o.MulticastSrc6
}

// mtuMode is PathMTU or PathMTU6.
func (o *IPOptions) mtuMode(remote netip.Addr) PathMTUMode {
	if remote.Is4() {
		return o.PathMTU
	}
	return o.PathMTU6
}

const defaultTTL = 64

// metrics are what the route says for TCP; nil if it says nothing.
func (d *dst) metrics() *tcp.Metrics {
	if d.route.Metrics == (control.Metrics{}) {
		return nil
	}
	r := &d.route.Metrics
	m := &tcp.Metrics{
		AdvMSS: r.AdvMSS, InitCwnd: r.InitCwnd, InitRwnd: r.InitRwnd, Window: r.Window,
		Congestion: r.Congestion, ECN: r.ECN, QuickAck: r.QuickAck, RTOMin: r.RTOMin,
	}
	if m.Congestion == "reno" { // the kernel's name of it
		m.Congestion = "newreno"
	}
	return m
}

// ttl is the socket's, else the route's (Linux's ip4_dst_hoplimit).
func (d *dst) ttl() uint8 {
	switch {
	case d.key.ttl != 0:
		return d.key.ttl
	case d.route.HopLimit > 0:
		return uint8(min(d.route.HopLimit, 255))
	}
	return defaultTTL
}

// initHeader builds the headers of d's packets. Routers may cut them where the
// route's MTU is locked, since nobody heeds what routers say of it then (Linux's
// ip_dont_fragment). Each packet has an ID of its own then, and of TCP so many that
// the device can make several packets of one.
func (d *dst) initHeader(srcMAC, dstMAC [6]byte, vlan uint16) {
	d.hdr.Init(srcMAC, dstMAC, vlan, d.key.Local, d.key.Remote, d.key.proto, d.key.tos, d.ttl())
	d.id, d.idStep = atomicID, 0
	if !d.route.MTULocked {
		return
	}
	d.hdr.Fragmentable()
	d.id, d.idStep = uint16(fragmentID()), 1
	if d.key.proto == ip.ProtoTCP {
		d.idStep = 64
	}
}

// packetID is the IPv4 identification of the next packet, which is no fragment.
func (d *dst) packetID() uint16 {
	d.id += d.idStep
	return d.id
}

// key names the destination of packets with these options.
func (o IPOptions) key(local, remote netip.AddrPort, proto uint8) dstKey {
	k := dstKey{
		Pair:  tcp.Pair{Local: local.Addr(), Remote: remote.Addr()},
		proto: proto, tos: o.TOS, ttl: o.ttl(remote.Addr()), lport: local.Port(), rport: remote.Port(),
	}
	if !remote.Addr().Is4() {
		k.tos = o.TrafficClass
	}
	k.setTOS(k.tos &^ 3) // ECN is each packet's own
	return k
}

// setTOS changes the type of service, in the packets and in the question.
func (k *dstKey) setTOS(tos uint8) { k.tos, k.routeTOS = tos, tos }

// dst is a destination: its route, its neighbour's address, and the headers
// built from them. Sockets share it, and count it. It belongs to the holder of
// the stack lock.
type dst struct {
	key    dstKey
	route  control.Route
	on     *link // by which its packets leave; nil: by none yet
	hdr    ip.Header
	sum    uint16        // of the pseudo-header without the length
	ready  bool          // hdr is complete, and on has queues
	detour bool          // on is that of dests.detour
	stale  bool          // and the kernel does not know the neighbour any more
	gone   bool          // no route at present
	looped bool          // sockets of this stack may hear its packets, see loopGroup
	id     uint16        // IPv4 identification of the last packet
	idStep uint16        // from one to the next
	why    syscall.Errno // the error that a sender gets then, as from the kernel
	refs   int
	parked []parkedPacket
	since  int64 // when the first of them was parked, ns

	// News for its sockets, until Stack.tell.
	lost syscall.Errno // why it cannot be reached; 0: it can
	cut  bool          // the size of its packets changed

	pathMTU   int   // of UDP's path, as a router says; 0: none did
	pathUntil int64 // when that is forgotten, ns
	asked     int64 // when the kernel was last asked to resolve, ns
	confirmed int64
}

// link is the index of the interface that d's packets leave by.
func (d *dst) link() int {
	if d.detour {
		return d.route.Link
	}
	return d.on.index
}
