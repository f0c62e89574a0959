package stack

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/onload-go/onload/driver/sim"
	"github.com/onload-go/onload/ip"
)

// TestFrameAfterInjected: a frame that has the headers of the injected packet before
// it, without link-layer addresses, is another host's as before.
func TestFrameAfterInjected(t *testing.T) {
	for _, addrs := range [][2]netip.Addr{{addrA, addrB}, {six[addrA], six[addrB]}} {
		a, _ := newPair(t, pairOptions{nic: sim.Config{TakeAll: true}})
		local, remote := netip.AddrPortFrom(addrs[0], 9), netip.AddrPortFrom(addrs[1], 9)
		u, err := a.OpenUDP(local, remote, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer u.Close()
		l4 := udpOf(remote, local, []byte{1})
		f := packetOf(remote.Addr(), local.Addr(), ip.ProtoUDP, l4)
		f = slices.Concat(make([]byte, 12), f[12:])
		var p ip.Packet
		if err := ip.Parse(f, len(f), &p); err != nil {
			t.Fatal(err)
		}
		a.Inject([]Injected{{UDP: true, Local: local, Remote: remote, TOS: p.TOS, TTL: p.TTL, Data: l4}})
		before := a.Stats()
		a.cfg.Links[0].Steering.(*sim.Device).Inject(0, f)
		takeAll(a)
		after := a.Stats()
		if before.Inlets != 1 || after.RxBogus != before.RxBogus+1 {
			t.Errorf("%v: %d injected, %d frames dropped as others'", local, before.Inlets, after.RxBogus-before.RxBogus)
		}
	}
}
