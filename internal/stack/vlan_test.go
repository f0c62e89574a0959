package stack

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/onload-go/onload/driver/sim"
	"github.com/onload-go/onload/internal/control"
	"github.com/onload-go/onload/ip"
)

// TestForeignVLAN: a packet of a VLAN that the host has no link on is of another
// network, whatever its addresses (IEEE 802.1Q; Linux takes it for another
// host's).
func TestForeignVLAN(t *testing.T) {
	a, _, net := newRouted(t, pairOptions{nic: sim.Config{TakeAll: true}})
	vlan := control.Link{Index: 2, Name: "vlan7", MAC: macs[addrA], MTU: 1500, Up: true, Parent: 1, VLAN: 7}
	net.SetLink(vlan)
	net.SetLink(control.Link{Index: 3, Name: "other8", MTU: 1500, Up: true, Parent: 9, VLAN: 8})
	u, err := a.OpenUDP(netip.AddrPortFrom(addrA, 9), netip.AddrPort{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	heard := func(tags ...uint16) bool {
		t.Helper()
		f := packetOf(addrB, addrA, ip.ProtoUDP, udpOf(netip.AddrPortFrom(addrB, 9), u.LocalAddr(), []byte{1}))
		for _, v := range slices.Backward(tags) {
			f = slices.Insert(f, 12, 0x81, 0, byte(v>>8), byte(v))
		}
		a.cfg.Links[0].Steering.(*sim.Device).Inject(0, f)
		takeAll(a)
		if !u.rq.Ready() {
			return false
		}
		u.SetReadDeadline(time.Now().Add(patience))
		_, _, _, _, err := u.ReadFrom(make([]byte, 1))
		return err == nil
	}
	for _, c := range []struct {
		tags []uint16
		want bool
	}{
		{nil, true}, {[]uint16{7}, true}, {[]uint16{0x6007}, true}, {[]uint16{0x6000}, true},
		{[]uint16{8}, false}, {[]uint16{9}, false}, {[]uint16{7, 8}, false}, {[]uint16{0, 9}, false},
	} {
		if got := heard(c.tags...); got != c.want {
			t.Errorf("tags %v: received: %v", c.tags, got)
		}
	}
	vlan.Up = false
	net.SetLink(vlan)
	if heard(7) {
		t.Error("received on a VLAN that is down")
	}
	net.DelLink(2)
	if heard(7) || !heard() {
		t.Error("received on a VLAN that is gone, or nothing any more")
	}
}

// TestOwnMACs: a frame to a unicast address of Ethernet is received where that is
// the interface's, or one of a link above it, and follows when they change (Linux:
// PACKET_OTHERHOST, vlan_do_receive).
func TestOwnMACs(t *testing.T) {
	a, _, net := newRouted(t, pairOptions{nic: sim.Config{TakeAll: true}})
	u, err := a.OpenUDP(netip.AddrPortFrom(addrA, 9), netip.AddrPort{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	own, above, changed := macs[addrA], [6]byte{2, 7}, [6]byte{2, 8}
	heard := func(mac [6]byte) bool {
		t.Helper()
		f := packetOf(addrB, addrA, ip.ProtoUDP, udpOf(netip.AddrPortFrom(addrB, 9), u.LocalAddr(), []byte{1}))
		copy(f, mac[:])
		a.cfg.Links[0].Steering.(*sim.Device).Inject(0, f)
		takeAll(a)
		ready := u.rq.Ready()
		u.rq.Drain()
		return ready
	}
	check := func(when string, want map[[6]byte]bool) {
		t.Helper()
		for mac, want := range want {
			if got := heard(mac); got != want {
				t.Errorf("%s: to %x: received: %v", when, mac, got)
			}
		}
	}
	check("alone", map[[6]byte]bool{own: true, above: false, changed: false})
	macvlan := control.Link{Index: 2, Name: "vip", Kind: "macvlan", MAC: above, MTU: 1500, Up: true, Parent: 1}
	net.SetLink(macvlan)
	check("macvlan", map[[6]byte]bool{own: true, above: true, changed: false})
	net.DelLink(2)
	link, _ := net.Link(1)
	link.MAC = changed
	net.SetLink(link)
	check("changed", map[[6]byte]bool{own: false, above: false, changed: true})
}

// TestVLANInterface: on an interface that is a VLAN's itself nothing is tagged,
// the kernel does that below.
func TestVLANInterface(t *testing.T) {
	var lens []int
	a, _, net := newRouted(t, pairOptions{link: sim.LinkConfig{Tap: func(d sim.Dir, f []byte) {
		if d == sim.AtoB {
			lens = append(lens, len(f))
		}
	}}})
	link, _ := net.Link(1)
	link.Parent, link.VLAN = 5, 7
	net.SetLink(link)
	u, err := a.OpenUDP(netip.AddrPort{}, netip.AddrPortFrom(addrB, 9), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	if _, err := u.WriteTo(make([]byte, 100), netip.AddrPort{}); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(lens, []int{14 + 20 + 8 + 100}) {
		t.Errorf("frames of %d bytes, want 142", lens)
	}
}
