package stack

import (
	"errors"
	"math/bits"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"

	"go.uber.org/zap"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/internal/control"
	"github.com/onload-go/onload/ip"
)

// link is an interface that the stack has queues of. Addresses, flows and listeners
// belong to the stack, whichever link their packets come by (the Linux host model,
// which RFC 1122 section 3.3.4.2 calls weak). A destination has a link.
type link struct {
	// Do not change.
	name  string
	index int // as control.Network knows it
	mtu   int // the largest IP packet, in bytes

	steering driver.Steering
	returner driver.Returner   // takes back what is the kernel's; nil: no kernel is behind it
	filter   driver.HostFilter // leaves other hosts' frames to the kernel; nil: the device does not
	host     func([]byte) bool // Link.Host
	alone    bool              // Link.NoKernel

	gone    atomic.Bool                    // the interface was deleted
	visible atomic.Pointer[[]driver.Queue] // its queues; a list does not change

	// Under the stack lock.
	tx    [MaxQueues]uint8 // which queue of the stack sends by this link what belongs to one
	mask  uint64           // its queues among the stack's, a bit each
	down  syscall.Errno    // why nothing comes or goes any more; 0: it works
	put   bool             // its device is put away (Retire)
	tso   int              // the largest IP packet that its device segments, bytes; 0: none
	sums  bool             // its device completes checksums
	vlans map[uint16]int   // tags of the links above the interface, and their indices
	macs  [][6]byte        // of the interface, then of the links above it; empty: not known
}

// init makes the links of the configuration, and numbers their queues.
func (w *wiring) init(c *Config) {
	var all []*link
	for i := range c.Links {
		k := newLink(&c.Links[i])
		all = append(all, k)
		w.add(k, c.Links[i].Queues)
	}
	w.shown.Store(&all)
}

func newLink(l *Link) *link {
	k := &link{name: l.Name, index: l.Index, mtu: commonCaps(l.Queues).MTU, steering: l.Steering, host: l.Host, alone: l.NoKernel}
	k.returner, _ = l.Steering.(driver.Returner)
	k.filter, _ = l.Steering.(driver.HostFilter)
	return k
}

// links are the interfaces, for anybody.
func (w *wiring) links() []*link { return *w.shown.Load() }

// room is how many queues can be added.
func (w *wiring) room() int { return MaxQueues - len(w.queues) + bits.OnesCount64(w.free) }

// add gives a link queues, in places that are free or behind all others, and returns
// the places, a bit each. The lock is held, or nobody else has the stack.
func (w *wiring) add(k *link, qs []driver.Queue) (places uint64) {
	all, wire := slices.Clone(w.queues), slices.Clone(w.wire)
	for _, q := range qs {
		n := len(all)
		if w.free != 0 {
			n = bits.TrailingZeros64(w.free)
			w.free &^= 1 << n
			all[n], wire[n] = q, q
		} else {
			all, wire = append(all, q), append(wire, q)
		}
		w.home[n] = k
		places |= 1 << n
	}
	k.mask |= places
	w.broken &^= places
	w.queues, w.wire = all, wire
	w.visible.Store(&all)
	own := append(k.queues(), qs...)
	k.visible.Store(&own)
	k.wireTx(w.queues)
	k.learnCaps(w.tsoFrags)
	return places
}

// learnCaps reads what the link's queues do for packets. One that segments packets of
// fewer than so many frames is not asked to.
func (k *link) learnCaps(frags int) {
	c := commonCaps(k.queues())
	k.sums, k.tso = c.TxCsum, c.TSO
	if c.TSOFrags < frags {
		k.tso = 0
	}
}

// segmenting returns the largest packet that a link segments, in bytes, and of how
// many frames all that segment take one; 0: none does.
func (w *wiring) segmenting() (tso, frags int) {
	for _, k := range w.links() {
		if c := commonCaps(k.queues()); c.TSO > 0 {
			if tso = max(tso, c.TSO); frags == 0 || c.TSOFrags < frags {
				frags = c.TSOFrags
			}
		}
	}
	return tso, frags
}

// queues returns the link's, for anybody.
func (k *link) queues() []driver.Queue {
	if p := k.visible.Load(); p != nil {
		return (*p)[:len(*p):len(*p)]
	}
	return nil
}

// wireTx fills in tx. The link's own queues send what they receive, unless a queue
// only receives, because the link sends on fewer. Packets that belong to queues of
// other links, present and future ones, are spread. all are the stack's queues.
func (k *link) wireTx(all []driver.Queue) {
	var send []uint8
	for i, q := range all {
		if k.mask>>i&1 != 0 && q.Caps().TxRing > 0 {
			send = append(send, uint8(i))
		}
	}
	if len(send) == 0 {
		send = []uint8{uint8(bits.TrailingZeros64(k.mask))}
	}
	for i := range k.tx {
		switch {
		case i >= len(all) || k.mask>>i&1 == 0:
			k.tx[i] = send[i%len(send)]
		case all[i].Caps().TxRing > 0:
			k.tx[i] = uint8(i)
		default:
			k.tx[i] = send[0]
		}
	}
}

// carries reports whether packets for l leave through this interface: it is the
// interface, or a VLAN on it.
func (k *link) carries(l control.Link) bool {
	return l.Index == k.index || l.VLAN != 0 && l.Parent == k.index
}

// onVLAN reports whether a tagged packet is on this interface, or on a VLAN above
// it: a trunk also carries VLANs that are other networks (IEEE 802.1Q). VID 0 is no
// VLAN but a priority. There are no VLANs of ours within VLANs.
func (k *link) onVLAN(p *ip.Packet) bool {
	return p.Tags == 1 && (p.VLAN == 0 || k.vlans[p.VLAN] != 0)
}

// of returns the index of the link that a packet came by: the interface, or a VLAN
// on it. onVLAN holds for the packet.
func (k *link) of(p *ip.Packet) int {
	if p.VLAN != 0 {
		return k.vlans[p.VLAN]
	}
	return k.index
}

// hears reports whether a frame to mac is for this host. A frame to a unicast
// address of no interface is another host's, as for the kernel (PACKET_OTHERHOST);
// a promiscuous or flooded port receives them too. A VLAN or macvlan may have an
// address of its own. The transports decide about group addresses.
func (k *link) hears(mac [6]byte) bool {
	return mac[0]&1 != 0 || len(k.macs) == 0 || mac == k.macs[0] || slices.Contains(k.macs[1:], mac)
}

// learnMACs reads the addresses that frames for this host have.
func (k *link) learnMACs(net control.Network) {
	own, ok := net.Link(k.index)
	if !ok {
		return // the interface is gone, and its queues will be soon
	}
	was := k.macs
	k.macs = [][6]byte{own.MAC}
	for _, l := range net.Links() {
		if l.Parent == k.index && l.Up {
			k.macs = append(k.macs, l.MAC)
		}
	}
	if k.filter != nil && !slices.Equal(k.macs, was) {
		_ = k.filter.SetMACs(k.macs) // where it fails the stack alone tells them apart
	}
}

func (k *link) learnVLANs(net control.Network) {
	k.vlans = make(map[uint16]int)
	for _, l := range net.Links() {
		if l.VLAN != 0 && l.Parent == k.index && l.Up {
			k.vlans[l.VLAN] = l.Index
		}
	}
}

// err returns what broke the link for good, or nil.
func (k *link) err() error {
	if k.gone.Load() {
		return errGone
	}
	for _, q := range k.queues() {
		if err := q.Err(); err != nil {
			return err
		}
	}
	return nil
}

// linkOf returns the link with that index, or nil.
func (w *wiring) linkOf(index int) *link {
	for _, k := range w.links() {
		if k.index == index {
			return k
		}
	}
	return nil
}

// Name is the interfaces' names, separated by commas.
func (s *Stack) Name() string {
	var names []string
	for _, k := range s.links() {
		names = append(names, k.name)
	}
	return strings.Join(names, ",")
}

// Links returns the indices of the interfaces.
func (s *Stack) Links() (l []int) {
	for _, k := range s.links() {
		l = append(l, k.index)
	}
	return l
}

// LinkCaps returns the name of the interface with that index, and what all of its
// queues can do. ok is false where the stack has no such interface.
func (s *Stack) LinkCaps(index int) (name string, c *driver.Caps, ok bool) {
	k := s.linkOf(index)
	if k == nil {
		return "", nil, false
	}
	return k.name, commonCaps(k.queues()), true
}

// LinkErr returns what broke the interface with that index for good, or nil. An
// interface that the stack has no more, since another has its place, is gone.
func (s *Stack) LinkErr(index int) error {
	if k := s.linkOf(index); k != nil {
		return k.err()
	}
	return errGone
}

// Err returns what broke the stack for good, or nil. A broken stack has no
// interface that works.
func (s *Stack) Err() (err error) {
	for _, k := range s.links() {
		if err = k.err(); err == nil {
			return nil
		}
	}
	return err
}

// checkQueues notices a device that failed for good: its rings are corrupt,
// or it is gone (attack 26). The lock is held.
func (s *Stack) checkQueues() {
	for _, k := range s.links() {
		if k.down != 0 {
			continue
		}
		for _, q := range k.queues() {
			err := q.Err()
			if err == nil {
				continue
			}
			s.cfg.Log.Error("stack: the device failed", zap.String("interface", k.name), zap.Error(err))
			if errors.Is(err, driver.ErrGone) {
				s.linkGone(k)
			} else {
				s.failLink(k, syscall.EIO)
			}
			break
		}
	}
}

// linkGone gives up a link: its queues went with the interface. The kernel's notice
// and a queue's error race to report it.
func (s *Stack) linkGone(k *link) {
	k.gone.Store(true)
	s.failLink(k, syscall.ENETDOWN)
}

// failLink gives up a link that carries nothing any more. Where the routes lead to
// another link, destinations move there. The sockets of all others fail with errno,
// unless the link is gone and a kernel is behind it: then they wait for a route, as
// the kernel's do (Relink). Without any link all sockets fail.
func (s *Stack) failLink(k *link, errno syscall.Errno) {
	if k.down != 0 {
		return
	}
	k.down = errno
	s.broken |= k.mask
	if s.broken == 1<<len(s.queues)-1 {
		s.fail(errno)
		return
	}
	dead := map[*dst]bool{}
	for _, d := range s.dests.all {
		if d.on != k {
			continue
		}
		switch {
		case s.dests.resolveRoute(d, nil, s.now):
			s.sendParked(d)
		case k.gone.Load() && k.returner != nil:
			s.unreachable(d, syscall.ENETUNREACH)
		default:
			d.why, dead[d] = errno, true
			s.dests.drop(d)
		}
	}
	for c := range s.demux.flows.all() {
		if dead[c.dst] {
			c.tc.Fail(errno)
		}
	}
	s.dests.news = true
	s.tell()
}

// fail ends every connection, of TCP and UDP, with errno, since nothing will come
// or go any more.
func (s *Stack) fail(errno syscall.Errno) {
	if !s.life.down.CompareAndSwap(0, uint32(errno)) {
		return
	}
	for c := range s.demux.flows.all() {
		c.tc.Fail(errno)
	}
	for _, u := range s.demux.udpFlows {
		s.notify(&u.r)
		s.notify(&u.w)
	}
}
