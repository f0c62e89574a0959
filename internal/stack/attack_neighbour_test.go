package stack

import (
	"bytes"
	"net/netip"
	"sync/atomic"
	"testing"

	"github.com/onload-go/onload/driver/sim"
	"github.com/onload-go/onload/internal/control"
	"github.com/onload-go/onload/ip"
)

// Attack 22: segments from hundreds of neighbours that do not exist. Packets that
// wait for their addresses take a bounded part of the memory, and are gone when the
// kernel has given those up. Known neighbours are served meanwhile.
func TestAttack22NeighbourFlood(t *testing.T) {
	v := newPrey(t, pairOptions{})
	net := v.cfg.Net.(*control.Static)
	v.begin()
	net.OnResolve = func(int, netip.Addr) {} // no answer until the test gives it
	before := len(v.dests.all)
	v.end()
	free := v.Stats().FreeFrames
	var from []netip.AddrPort
	for i := range 250 {
		from = append(from, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(3 + i)}), 7))
	}
	for seq := range uint32(40) {
		for _, a := range from {
			v.synFrom(t, a, seq)
		}
	}
	v.unnoticed(t) // behind the flood: it has been taken
	v.begin()
	if v.dests.parked == 0 || v.dests.parked > v.host.Reserve {
		t.Errorf("%d frames wait for neighbours, want some and at most %d", v.dests.parked, v.host.Reserve)
	}
	v.end()
	if used := free - v.Stats().FreeFrames; used > v.host.Reserve+64 {
		t.Errorf("%d frames held", used)
	}
	for _, a := range from {
		net.FailNeighbor(1, a.Addr())
	}
	v.unnoticed(t)
	v.begin()
	if v.dests.parked != 0 || len(v.dests.all) != before {
		t.Errorf("%d frames and %d destinations are left, there were %d", v.dests.parked, len(v.dests.all), before)
	}
	v.end()
}

// Attack 22: ARP and neighbour advertisements are the kernel's business. An
// attacker that sends them to our queues, in the name of a gateway for instance,
// diverts no packet.
func TestAttack22NeighbourSpoof(t *testing.T) {
	evil := [6]byte{2, 0xee, 0, 0, 0, 1}
	var diverted, sent atomic.Int64
	a, b := newPair(t, pairOptions{nic: sim.Config{TakeAll: true}, link: sim.LinkConfig{Tap: func(d sim.Dir, f []byte) {
		if d == sim.BtoA {
			sent.Add(1)
			if bytes.Equal(f[:6], evil[:]) {
				diverted.Add(1)
			}
		}
	}}})
	var conns []pairOf
	for _, to := range []netip.Addr{addrB, six[addrB]} {
		c, s := connect(t, a, b, to)
		conns = append(conns, pairOf{c, s})
	}
	mine := macs[addrB]
	arp := func(op byte) []byte {
		f := append(append([]byte{}, mine[:]...), evil[:]...)
		f = append(f, 0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, op)
		f = append(f, evil[:]...)
		f = append(f, addrA.AsSlice()...)
		f = append(f, mine[:]...)
		return append(f, addrB.AsSlice()...)
	}
	// Override and solicited, with the target's link-layer address.
	advert := icmpOf(six[addrA], six[addrB], 136, 0, 0x60000000, append(append(six[addrA].AsSlice(), 2, 1), evil[:]...))
	advert[14+7] = 255
	v := &victim{Stack: b}
	for range 100 {
		v.suffer(t, arp(1), arp(2), advert)
	}
	for _, c := range conns {
		c.works(t)
	}
	if diverted.Load() != 0 || sent.Load() == 0 {
		t.Errorf("%d of %d packets went to the liar", diverted.Load(), sent.Load())
	}
	var p ip.Packet
	if err := ip.Parse(advert, len(advert), &p); err != nil {
		t.Errorf("the advertisement was no packet at all: %v", err)
	}
}
