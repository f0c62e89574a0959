package engine

import (
	"context"
	"crypto/rand"
	"math"
	"net/netip"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/internal/control"
	"github.com/onload-go/onload/internal/neigh"
	"github.com/onload-go/onload/internal/stack"
	"github.com/onload-go/onload/ip"
)

// linkHost is the host on a link that no kernel stands behind: a neigh.Host with a
// goroutine, which takes frames and questions from the stack, sends by it, and keeps
// the stack's view of the link.
type linkHost struct {
	static *staticLink
	link   control.Link
	mtu    int            // the device's
	linked driver.Linked  // nil: the device says nothing of its link, which is up
	down   func()         // called with news of a link that is down: it may be gone; nil: nobody asks
	addrs  []netip.Prefix // configured ones
	host   *neigh.Host
	net    *control.Static
	on     []*stack.Stack // those of the link; the first one sends for the host
	log    *zap.Logger
	start  time.Time

	frames chan []byte // received ones
	spare  chan []byte // buffers for frames
	wanted chan netip.Addr
	seen   chan netip.Addr // neighbours that answer
	silent chan netip.Addr // neighbours that perhaps do not
	news   chan struct{}   // the device has news of the link
	groups hostGroups

	hops      map[netip.Addr]bool // to which packets are sent
	hopsUntil int64               // when they are asked for again
	closing   bool                // leases are being given back

	mu      sync.Mutex
	pending map[netip.Addr]bool // addresses about which nothing is known yet
	asks    map[string]bool     // what servers have given no address for yet, by name
	taken   []error             // addresses that others have
	settled chan struct{}       // closed when nothing is pending
	dns     []netip.Addr        // name servers, configured ones first
	stop    context.CancelFunc
	done    chan struct{}
}

const (
	// hostFrames is how many received frames wait for the host. More are lost, as on
	// a NIC whose kernel is busy.
	hostFrames = 64
	// hostQuestions bounds questions for neighbours likewise. The stack asks again.
	hostQuestions = 1024
	// hostFrame is the most bytes of a frame that the host takes.
	hostFrame = 2048
	// hopsFor is how long the stack's next hops are believed, ns: a fraction of the time
	// after which a neighbour that is not in use is looked at again.
	hopsFor = int64(time.Second)
)

// newLinkHost makes the host of a link. Its goroutine begins with run.
func newLinkHost(link control.Link, l *staticLink, net *control.Static, log *zap.Logger) *linkHost {
	h := &linkHost{
		static: l, link: link, mtu: link.MTU, net: net, dns: l.dns, log: log.With(zap.String("interface", link.Name)), start: time.Now(),
		addrs:  withLinkLocal(l, link.MAC),
		frames: make(chan []byte, hostFrames), spare: make(chan []byte, hostFrames),
		wanted: make(chan netip.Addr, hostQuestions), seen: make(chan netip.Addr, hostQuestions), silent: make(chan netip.Addr, hostQuestions), news: make(chan struct{}, 1),
		hops: map[netip.Addr]bool{}, pending: map[netip.Addr]bool{}, asks: map[string]bool{}, settled: make(chan struct{}), done: make(chan struct{}),
	}
	h.groups.init()
	for range hostFrames {
		h.spare <- make([]byte, hostFrame)
	}
	return h
}

// withLinkLocal adds the link-local address that every interface with IPv6 has (RFC
// 4291, 2.1), made of its MAC (appendix A), unless there is one.
func withLinkLocal(l *staticLink, mac [6]byte) []netip.Prefix {
	v6, addrs := l.slaac, l.addrs
	for _, p := range addrs {
		if v6 = v6 || p.Addr().Is6(); p.Addr().Is6() && p.Addr().IsLinkLocalUnicast() {
			return addrs
		}
	}
	if !v6 {
		return addrs
	}
	subnet := netip.PrefixFrom(netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80}), 64)
	return append(addrs[:len(addrs):len(addrs)], netip.PrefixFrom(neigh.InterfaceID(subnet, mac), 64))
}

// frame takes a received frame for the host (stack.Link.Host). It is called under the
// stack lock.
func (h *linkHost) frame(b []byte) bool {
	if len(b) > hostFrame || !h.static.dhcp && isUDP(b) {
		return false
	}
	select {
	case buf := <-h.spare:
		h.frames <- buf[:copy(buf[:hostFrame], b)] // there are as many places as buffers
	default: // a flood: this one is lost
	}
	return true
}

// isUDP reports whether the frame is a datagram of IPv4, which the stack has parsed.
func isUDP(b []byte) bool { return len(b) > 23 && b[12] == 8 && b[13] == 0 && b[23] == ip.ProtoUDP }

// ask is control.Static's OnResolve, confirm its OnConfirm, doubt its OnDoubt.
func (h *linkHost) ask(addr netip.Addr) {
	select {
	case h.wanted <- addr:
	default:
	}
}

func (h *linkHost) confirm(addr netip.Addr) {
	select {
	case h.seen <- addr:
	default:
	}
}

func (h *linkHost) doubt(addr netip.Addr) {
	select {
	case h.silent <- addr:
	default:
	}
}

// heardLink is driver.Linked's OnLink.
func (h *linkHost) heardLink() {
	select {
	case h.news <- struct{}{}:
	default: // it is about to look
	}
}

func (h *linkHost) now() int64 { return int64(time.Since(h.start)) }

// run starts the host of a link that these stacks share.
func (h *linkHost) run(on []*stack.Stack) {
	h.on = on
	for _, p := range h.addrs {
		h.pending[p.Addr()] = true
	}
	if h.static.dhcp {
		h.asks[wordDHCP] = true
	}
	if h.static.slaac {
		h.asks[wordSLAAC] = true
	}
	c := neigh.Config{MAC: h.link.MAC, Addrs: h.addrs, DHCP: h.static.dhcp, SLAAC: h.static.slaac, Out: h}
	for _, r := range h.static.routes {
		c.Gateways = append(c.Gateways, r.via)
	}
	_, _ = rand.Read(c.Seed[:]) // never fails since Go 1.24
	h.host = neigh.New(c, h.now())
	ctx, stop := context.WithCancel(context.Background())
	h.stop = stop
	if h.linked != nil {
		h.linked.OnLink(h.heardLink)
		h.heardLink() // it may be down already
	}
	go h.loop(ctx)
}

func (h *linkHost) loop(ctx context.Context) {
	defer close(h.done)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		if next := h.host.Next(); next != math.MaxInt64 {
			timer.Reset(time.Duration(next - h.now()))
		}
		select {
		case <-ctx.Done():
			h.closing = true
			h.host.Close(h.now())
			return
		case b := <-h.frames:
			h.host.Input(b, h.now())
			h.spare <- b[:hostFrame]
		case a := <-h.wanted:
			h.host.Resolve(a, h.now())
		case a := <-h.seen:
			h.host.Confirm(a, h.now())
		case a := <-h.silent:
			h.host.Doubt(a, h.now())
		case <-h.news:
			h.lookAtLink()
		case <-h.groups.news:
			h.takeGroups()
		case <-timer.C:
			h.host.Advance(h.now())
		}
	}
}

// close ends the goroutine.
func (h *linkHost) close() {
	if h != nil && h.stop != nil {
		if h.linked != nil {
			h.linked.OnLink(nil)
		}
		h.stop()
		<-h.done
	}
}

// Send implements neigh.Out. A frame that no ring takes is lost, as on a wire.
func (h *linkHost) Send(frame []byte) { h.on[0].SendFrame(h.link.Index, frame) }

// Neighbor implements neigh.Out.
func (h *linkHost) Neighbor(addr netip.Addr, mac [6]byte) {
	if known, ok := h.net.Neighbor(h.link.Index, addr); ok && known == mac {
		h.net.Known(h.link.Index, addr) // somebody asked, and waits
		return
	}
	h.net.SetNeighbor(h.link.Index, addr, mac)
}

// Gone implements neigh.Out.
func (h *linkHost) Gone(addr netip.Addr) { h.net.FailNeighbor(h.link.Index, addr) }

// InUse implements neigh.Out. All neighbours that become stale within hopsFor are looked
// up by one pass over the stacks' destinations, which may be many: their locks are held.
func (h *linkHost) InUse(addr netip.Addr) bool {
	if now := h.now(); now >= h.hopsUntil {
		clear(h.hops)
		for _, s := range h.on {
			s.NextHops(h.link.Index, h.hops)
		}
		h.hopsUntil = now + hopsFor
	}
	return h.hops[addr]
}
