package engine

import (
	"errors"
	"math"
	"net/netip"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/onload-go/onload/driver/sim"
	"github.com/onload-go/onload/ip"
)

// TestNICHeard: hosts that ask a NIC without a kernel for its address are answered, and
// are no news for its routes and connections, which a flood of them would keep busy
// (attack 22). The stack's next hops are in use, those hosts are not.
func TestNICHeard(t *testing.T) {
	t.Parallel()
	const senders = 100
	replies := make(chan netip.Addr, 1024)
	es, errs := nicsOver(t, sim.LinkConfig{Tap: func(d sim.Dir, f []byte) {
		var p ip.Packet
		var a ip.ARP
		if d == sim.AtoB && ip.ParseARP(f, &p, &a) == nil && a.Op == ip.ARPReply {
			replies <- a.Target
		}
	}}, "10.0.0.1/16 default via 10.0.0.2", "10.0.0.2/16 192.0.2.1/32")
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	echoPort(t, es[1], 7)
	c, err := dialNIC(es[0], netip.MustParseAddrPort("192.0.2.1:7"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	us, peer := es[0].ifs[0], es[1].ifs[0]
	before := es[0].static.Gen()
	for i := range byte(senders) {
		from := netip.AddrFrom4([4]byte{10, 0, 1, i})
		b := make([]byte, 64)
		a := ip.ARP{Op: ip.ARPRequest, SenderMAC: [6]byte{6, 0, 0, 0, 0, i}, Sender: from, Target: netip.MustParseAddr("10.0.0.1")}
		if !peer.first().SendFrame(peer.Index, b[:a.Put(b, nicMAC(1), 0)]) {
			t.Fatal("the frame was not sent")
		}
		for answered := false; !answered; {
			select {
			case to := <-replies:
				answered = to == from
			case <-time.After(time.Minute):
				t.Fatalf("%v is not answered", from)
			}
		}
		if _, ok := es[0].static.Neighbor(us.Index, from); ok {
			t.Fatalf("%v is known, though nobody asked for it", from)
		}
	}
	if n := es[0].static.Gen() - before; n != 0 {
		t.Errorf("%d changes of the network by %d ARP requests", n, senders)
	}

	h := newLinkHost(us.host.link, &staticLink{}, es[0].static, zap.NewNop())
	h.on = us.Stacks
	gateway, heard := netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("10.0.1.1")
	if !h.InUse(gateway) || h.InUse(heard) || h.InUse(netip.MustParseAddr("192.0.2.1")) {
		t.Errorf("in use are %v, want the gateway", h.hops)
	}
	h.hopsUntil = math.MaxInt64 // no other pass
	clear(h.hops)
	if h.InUse(gateway) {
		t.Error("each question is a pass over the destinations")
	}
	if h.hopsUntil = 0; !h.InUse(gateway) {
		t.Error("the next hops are believed for ever")
	}
	// Of several stacks each has next hops of its own. The peer's is our address.
	h.on, h.hopsUntil = append(h.on[:1:1], peer.Stacks...), 0
	if ours := netip.MustParseAddr("10.0.0.1"); !h.InUse(gateway) || !h.InUse(ours) {
		t.Errorf("in use are %v, want those of both stacks", h.hops)
	}
}
