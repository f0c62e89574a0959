package neigh

import (
	"errors"
	"math"
	"math/rand/v2"
	"net/netip"

	"github.com/onload-go/onload/ip"
)

// ErrDuplicate is the news that another host of the link has an address of ours.
var ErrDuplicate = errors.New("another host on the link has the address")

// Out takes what a Host has to say. The Host calls it from within its own methods,
// which an Out must not call in turn.
type Out interface {
	// Send transmits an Ethernet frame, which may be shorter than 60 bytes. The
	// frame is valid during the call.
	Send(frame []byte)

	// Neighbor reports that addr, which Resolve asked for, can be sent to by mac, from
	// now on.
	Neighbor(addr netip.Addr, mac [6]byte)
	// Gone reports that addr, which Resolve asked for, does not answer, or that the Host
	// dropped what it knew of it. A user of addr asks for it again.
	Gone(addr netip.Addr)
	// InUse reports whether packets are sent to the neighbour addr, which Resolve asked
	// for. A neighbour that is not in use is not asked whether it is still there (RFC
	// 4861, 7.3.1).
	InUse(addr netip.Addr) bool

	// Address reports that the address is ours (nil), with its subnet, or ErrDuplicate
	// if the host with mac has it. A duplicate is not ours, unless it was before: then
	// both have it.
	Address(addr netip.Prefix, mac [6]byte, err error)
	// Removed reports that an address is not ours any more: its time has ended. Nor is
	// it deprecated then.
	Removed(addr netip.Prefix)
	// Deprecated reports that an address is not to be chosen for new flows any more, or
	// is again (RFC 4862, 5.5.4).
	Deprecated(addr netip.Addr, old bool)
	// Learned reports what servers and routers have said, all of it each time.
	Learned(Learned)
}

// Config describes the host. MAC and Out are required.
type Config struct {
	MAC [6]byte
	// Addrs are the host's addresses with their subnets. Each is ours after
	// Out.Address has said so.
	Addrs []netip.Prefix
	// Gateways are neighbours whose entries no flood displaces.
	Gateways []netip.Addr
	// DHCP has an address of IPv4, routes and name servers come from a DHCP server (RFC
	// 2131).
	DHCP bool
	// SLAAC has addresses of IPv6, routes and name servers come from the link's routers
	// (RFC 4861, 4862).
	SLAAC bool
	// NoDAD has addresses be ours at once, without asking who has them.
	NoDAD bool
	// Seed is secret: delays and limits that it draws cannot be guessed.
	Seed [32]byte
	Out  Out
}

// Host answers and asks on one link. It is not safe for concurrent use. Times are in
// ns, of any clock that does not go back.
type Host struct {
	mac      [6]byte
	out      Out
	rng      *rand.Rand
	own      []*own
	gateways []netip.Addr // configured ones, then learned ones
	fixed    int          // how many are configured
	dhcp     *dhcp        // nil: not asked for
	slaac    *slaac       // likewise
	igmp     groups
	mld      groups
	learned  Learned
	cache    map[netip.Addr]*entry
	noDAD    bool
	next     int64 // no timer is earlier
	echoes   ip.Limiter
	packet   ip.Packet
	arp      ip.ARP
	ndp      ip.NDP
	frame    [2048]byte
	counters Counters
}

// Counters count frames and events since New.
type Counters struct {
	Malformed   uint64 // ARP or discovery messages that break a rule
	Echoes      uint64 // pings answered
	EchoLimited uint64 // pings not answered, because of the limit
	Full        uint64 // neighbours for which the cache had no room
	Conflicts   uint64 // messages by hosts that use an address of ours
}

// Pings answered per second, and at once.
const (
	echoesPerSecond = 1000
	echoBurst       = 50
)

// New returns a host. Its first messages are due at Next.
func New(c Config, now int64) *Host {
	h := &Host{
		mac: c.MAC, out: c.Out, gateways: c.Gateways, cache: make(map[netip.Addr]*entry),
		rng: rand.New(rand.NewChaCha8(c.Seed)), next: math.MaxInt64,
	}
	var seed [32]byte
	for i := range seed {
		seed[i] = byte(h.rng.Uint32())
	}
	h.echoes.Init(now, echoesPerSecond, echoBurst, seed)
	h.fixed, h.noDAD = len(c.Gateways), c.NoDAD
	h.igmp, h.mld = groups{h: h}, groups{h: h, v6: true}
	for _, p := range c.Addrs {
		h.add(p, byConfig, now)
	}
	if c.DHCP {
		h.dhcp = newDHCP(h, now)
	}
	if c.SLAAC {
		h.slaac = newSLAAC(h, now)
	}
	return h
}

// Counters returns what was counted.
func (h *Host) Counters() Counters { return h.counters }

// Next is when Advance has something to do, math.MaxInt64 for never.
func (h *Host) Next() int64 { return h.next }

// at has Next return t at the latest.
func (h *Host) at(t int64) { h.next = min(h.next, t) }

// Advance does what is due.
func (h *Host) Advance(now int64) {
	if now < h.next {
		return
	}
	h.next = math.MaxInt64
	for _, o := range h.own {
		if h.dad(o, now); o.at != 0 {
			h.at(o.at)
		}
	}
	if h.dhcp != nil {
		h.dhcp.advance(now)
	}
	if h.slaac != nil {
		h.slaac.advance(now)
	}
	h.igmp.advance(now)
	h.mld.advance(now)
	for _, e := range h.cache {
		if e.at <= now {
			h.age(e, now)
		}
		if h.cache[e.addr] == e {
			h.at(e.at)
		}
	}
}

// Close has routers and switches hear that the host is a member of no group any more, and
// gives back what servers have lent. The Host is not used any more afterwards.
func (h *Host) Close(now int64) {
	h.igmp.leave(now)
	h.mld.leave(now)
	if h.dhcp != nil {
		h.dhcp.release(now)
	}
}

// Input takes a received Ethernet frame, and reports whether it was for this
// package: ARP, neighbour discovery, a ping, DHCP, IGMP or MLD, good or not. Frames with VLAN tags
// are not.
func (h *Host) Input(frame []byte, now int64) bool {
	p := &h.packet
	switch err := ip.ParseARP(frame, p, &h.arp); {
	case err == nil:
		if p.Tags == 0 && h.hears(p.DstMAC) {
			h.inputARP(now)
		}
		return true
	case err != ip.ErrNotIP:
		h.counters.Malformed++
		return true
	}
	if ip.Parse(frame, len(frame), p) != nil || p.Fragment || p.Tags > 0 || len(frame) < p.L4Off+p.L4Len || !h.hears(p.DstMAC) || p.SrcMAC == h.mac {
		return false
	}
	msg := frame[p.L4Off:][:p.L4Len]
	switch {
	case p.Proto == ip.ProtoUDP:
		return h.inputDHCP(msg, now)
	case p.Proto == protoIGMP && !p.V6:
		return ip.Sum(msg) != 0xffff || h.inputGroups(msg, now)
	case p.Proto != ip.ProtoICMP && p.Proto != ip.ProtoICMPv6, p.V6 != (p.Proto == ip.ProtoICMPv6):
		return false
	}
	sum := ip.Sum(msg)
	if p.V6 {
		sum = ip.Add(sum, ip.PseudoSum(p.Src, p.Dst, p.Proto, len(msg)))
	}
	if sum != 0xffff {
		return false
	}
	switch err := ip.ParseNDP(p, msg, &h.ndp); {
	case err == nil:
		h.inputNDP(now)
		return true
	case err != ip.ErrNotIP:
		h.counters.Malformed++
		return true
	}
	if p.V6 && h.inputGroups(msg, now) {
		return true
	}
	return h.echo(frame, msg, now)
}

// hears reports whether a frame to mac may be for this host.
func (h *Host) hears(mac [6]byte) bool { return mac == h.mac || mac[0]&1 != 0 }

// echo answers a ping to one of our addresses (RFC 1122, 3.2.2.6; RFC 4443, 4.2).
// The answer goes to the frame's sender: what it costs is what the ping cost.
func (h *Host) echo(frame, msg []byte, now int64) bool {
	p := &h.packet
	if o := h.ours(p.Dst); o == nil || o.state != ready || !p.Answerable() || p.DstMAC != h.mac || len(frame) > len(h.frame) {
		return false
	}
	reply := h.frame[:]
	var hdr ip.Header
	hdr.InitReply(p, p.Proto, p.TOS&^3, defaultTTL)
	n := hdr.Len() + copy(reply[hdr.Len():], msg)
	if !ip.EchoReply(reply[hdr.Len():n], p.V6) {
		return false
	}
	if !h.echoes.Allow(now) {
		h.counters.EchoLimited++
		return true
	}
	h.counters.Echoes++
	hdr.Put(reply, len(msg), 0, 0)
	h.out.Send(reply[:n])
	return true
}

const defaultTTL = 64
