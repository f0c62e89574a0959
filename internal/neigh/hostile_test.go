package neigh

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"github.com/onload-go/onload/ip"
)

// arpFrame is an ARP message as a frame.
func arpFrame(to [6]byte, a ip.ARP) []byte {
	b := make([]byte, 64)
	return b[:a.Put(b, to, 0)]
}

// ndpFrame is a discovery message as a frame.
func ndpFrame(from, to [6]byte, src, dst netip.Addr, ttl uint8, m ip.NDP) []byte {
	b := make([]byte, 128)
	var h ip.Header
	h.Init(from, to, 0, src, dst, ip.ProtoICMPv6, 0, ttl)
	n := m.Put(b[h.Len():], src, dst)
	h.Put(b, n, 0, 0)
	return b[:h.Len()+n]
}

// TestFlood: forged neighbours neither fill the memory nor displace the gateway and
// the neighbours that are in use (attack 22).
func TestFlood(t *testing.T) {
	w := new(wire)
	gateway4, gateway6 := netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("fd00::2")
	peer := netip.MustParseAddr("10.0.0.3")
	a := w.join(1, true, "10.0.0.1/8", "fd00::1/64")
	a.gateways = []netip.Addr{gateway4, gateway6}
	w.join(2, true, "10.0.0.2/8", "fd00::2/64")
	w.join(3, true, "10.0.0.3/8")
	w.run(10 * time.Second)
	for _, n := range []netip.Addr{gateway4, gateway6, peer} {
		a.Resolve(n, w.now)
		w.deliver()
	}
	forged := [6]byte{6, 1, 1, 1, 1, 1}
	for i := range uint32(2_000) {
		var b4 [4]byte
		binary.BigEndian.PutUint32(b4[:], 10<<24|1<<16+i)
		a.Input(arpFrame(mac(1), ip.ARP{Op: ip.ARPRequest, SenderMAC: forged, Sender: netip.AddrFrom4(b4), Target: a.own[0].Addr()}), w.now)
		b6 := gateway6.As16()
		binary.BigEndian.PutUint32(b6[12:], 1<<16+i)
		a.Input(ndpFrame(forged, mac(1), netip.AddrFrom16(b6), a.own[1].Addr(), 255,
			ip.NDP{Type: ip.NeighborSolicitation, Target: a.own[1].Addr(), MAC: forged, HasMAC: true}), w.now)
		// Connections from forged addresses have us ask for them.
		b4[1]++
		a.Resolve(netip.AddrFrom4(b4), w.now)
		w.queue = nil
		if len(a.cache) > MaxNeighbors {
			t.Fatalf("%d entries", len(a.cache))
		}
	}
	if a.known[gateway4] != mac(2) || a.known[gateway6] != mac(2) || a.known[peer] != mac(3) {
		t.Error("the flood displaced a neighbour that answers")
	}
	if len(a.known) > MaxNeighbors {
		t.Errorf("%d neighbours reported", len(a.known))
	}
	w.run(2 * time.Minute)
	if n := len(a.cache); n > 2 {
		t.Errorf("%d entries stay after the flood", n)
	}
}

// TestFloodIsNoNews: the user hears nothing of neighbours that it did not ask for, nor
// is it asked about them, whatever they say (attack 22). It has their addresses at once
// when it asks.
func TestFloodIsNoNews(t *testing.T) {
	w := new(wire)
	a := w.join(1, true, "10.0.0.1/8", "fd00::1/64")
	w.run(10 * time.Second)
	a.news = 0
	v4 := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}) }
	v6 := func(i int) netip.Addr { return netip.AddrFrom16([16]byte{0: 0xfd, 14: byte(i>>8) + 1, 15: byte(i)}) }
	for round := range byte(4) {
		forged := [6]byte{6, 1, 1, 1, 1, round}
		for i := range 400 {
			a.Input(arpFrame(mac(1), ip.ARP{Op: ip.ARPRequest, SenderMAC: forged, Sender: v4(i), Target: a.own[0].Addr()}), w.now)
			a.Input(ndpFrame(forged, mac(1), v6(i), a.own[1].Addr(), 255,
				ip.NDP{Type: ip.NeighborSolicitation, Target: a.own[1].Addr(), MAC: forged, HasMAC: true}), w.now)
		}
		w.run(20 * time.Second)
	}
	if a.news != 0 || len(a.cache) == 0 {
		t.Errorf("%d calls for %d neighbours that nobody asked for", a.news, len(a.cache))
	}
	a.sent = nil
	last := v6(399)
	if a.Resolve(last, w.now); a.known[last] != [6]byte{6, 1, 1, 1, 1, 3} || len(a.sent) != 0 {
		t.Errorf("at %x, after %d frames", a.known[last], len(a.sent))
	}
	w.run(5 * time.Minute)
	if len(a.cache) != 0 || a.gone[last] != 1 || len(a.gone) != 1 {
		t.Errorf("%d entries are left, %d gone, of %v %d times", len(a.cache), len(a.gone), last, a.gone[last])
	}
}

// TestForged: messages that break a rule change nothing: RFC 4861's 7.1 and what no
// host says of itself (attack 36).
func TestForged(t *testing.T) {
	us4, us6 := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")
	victim4, victim6 := netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("fd00::2")
	forged := mac(66)
	na := ip.NDP{Type: ip.NeighborAdvertisement, Target: victim6, Solicited: true, Override: true, MAC: forged, HasMAC: true}
	group := na
	group.MAC = [6]byte{0x33, 0x33, 0, 0, 0, 1}
	corrupt := ndpFrame(forged, mac(1), victim6, us6, 255, na)
	corrupt[len(corrupt)-1] ^= 1
	tagged := make([]byte, 64)
	v := ip.ARP{Op: ip.ARPReply, SenderMAC: forged, Sender: victim4, TargetMAC: mac(1), Target: us4}
	tagged = tagged[:v.Put(tagged, mac(1), 5)]
	for _, c := range []struct {
		name  string
		frame []byte
	}{
		{"a router forwarded it", ndpFrame(forged, mac(1), victim6, us6, 254, na)},
		{"to a group, but solicited", ndpFrame(forged, [6]byte{0x33, 0x33, 0, 0, 0, 1}, victim6, allNodes, 255, na)},
		{"a group's link-layer address", ndpFrame(forged, mac(1), victim6, us6, 255, group)},
		{"bad checksum", corrupt},
		{"another host's frame", ndpFrame(forged, mac(9), victim6, us6, 255, na)},
		{"ARP to another host", arpFrame(mac(9), v)},
		{"ARP of another VLAN", tagged},
		{"broadcast as the sender", arpFrame(mac(1), ip.ARP{Op: ip.ARPReply, SenderMAC: broadcast, Sender: victim4, Target: us4})},
		{"unknown operation", arpFrame(mac(1), ip.ARP{Op: 9, SenderMAC: forged, Sender: victim4, Target: us4})},
		{"short", arpFrame(mac(1), v)[:40]},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := new(wire)
			a := w.join(1, true, "10.0.0.1/24", "fd00::1/64")
			b := w.join(2, true, "10.0.0.2/24", "fd00::2/64")
			w.run(10 * time.Second)
			a.Resolve(victim4, w.now)
			a.Resolve(victim6, w.now)
			w.run(5 * time.Second)
			b.deaf = true
			a.Input(c.frame, w.now)
			w.run(time.Second)
			if a.known[victim4] != mac(2) || a.known[victim6] != mac(2) {
				t.Errorf("known %v", a.known)
			}
		})
	}
}

// TestEcho: pings to our addresses are answered, as many as the limit allows; no
// others.
func TestEcho(t *testing.T) {
	w := new(wire)
	a := w.join(1, true, "10.0.0.1/24", "fd00::1/64")
	w.run(10 * time.Second)
	a.sent = nil
	for _, f := range families {
		ours, src := netip.MustParsePrefix(f.a).Addr(), f.addrB
		for _, c := range []struct {
			name string
			b    []byte
			want int
		}{
			{"ours", ping(mac(2), mac(1), src, ours, 1000), 1},
			{"another's address", ping(mac(2), mac(1), src, src.Next(), 8), 0},
			{"another's frame", ping(mac(2), mac(7), src, ours, 8), 0},
			{"broadcast frame", ping(mac(2), broadcast, src, ours, 8), 0},
			{"from ourselves", ping(mac(2), mac(1), ours, ours, 8), 0},
			{"our frame came back", ping(mac(1), mac(1), src, ours, 8), 0},
		} {
			a.sent = nil
			if got := a.Input(c.b, w.now); len(a.sent) != c.want || got != (c.want == 1) {
				t.Errorf("%s, %s: %d answers, taken: %v", f.name, c.name, len(a.sent), got)
			}
			if c.want == 0 || len(a.sent) == 0 {
				continue
			}
			var p ip.Packet
			reply := a.sent[0]
			if err := ip.Parse(reply, len(reply), &p); err != nil || p.Src != ours || p.Dst != src || p.DstMAC != mac(2) || len(reply) != len(c.b) {
				t.Errorf("%s: answer %+v, %v", f.name, p, err)
			}
		}
	}
	a.sent = nil
	for range 10_000 {
		a.Input(ping(mac(2), mac(1), families[0].addrB, families[0].addrA, 8), w.now)
	}
	if n := len(a.sent); n == 0 || n > echoBurst*2 {
		t.Errorf("%d answers to 10,000 pings at once", n)
	}
	if c := a.Counters(); c.EchoLimited+c.Echoes != 10_002 {
		t.Errorf("counters %+v", c)
	}
}

// FuzzInput: no sequence of frames makes the host panic, grow without bound, or claim
// an address that it does not have.
func FuzzInput(f *testing.F) {
	us4, us6 := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")
	f.Add(arpFrame(mac(1), ip.ARP{Op: ip.ARPRequest, SenderMAC: mac(2), Sender: us4.Next(), Target: us4}), int64(1))
	f.Add(arpFrame(broadcast, ip.ARP{Op: ip.ARPReply, SenderMAC: mac(2), Sender: us4, Target: us4}), int64(1e9))
	f.Add(ndpFrame(mac(2), mac(1), us6.Next(), us6, 255, ip.NDP{Type: ip.NeighborSolicitation, Target: us6, MAC: mac(2), HasMAC: true}), int64(1e10))
	f.Add(ndpFrame(mac(2), mac(1), us6.Next(), us6, 255, ip.NDP{Type: ip.NeighborAdvertisement, Target: us6.Next(), MAC: mac(2), HasMAC: true, Override: true}), int64(3e10))
	f.Add(ping(mac(2), mac(1), us4.Next(), us4, 20), int64(5))
	f.Fuzz(func(t *testing.T, frame []byte, step int64) {
		w := new(wire)
		a := w.join(1, true, "10.0.0.1/24", "fd00::1/64")
		a.Resolve(us4.Next(), w.now)
		a.Resolve(us6.Next(), w.now)
		a.sent = nil
		for range 3 {
			a.Input(frame, w.now)
			w.queue = nil
			if len(a.sent) > 8 {
				t.Fatalf("%d frames for one", len(a.sent))
			}
			for _, b := range a.sent {
				var p ip.Packet
				var m ip.ARP
				if ip.ParseARP(b, &p, &m) == nil && m.Sender != us4 {
					t.Fatalf("we speak as %v", m.Sender)
				}
				if ip.Parse(b, len(b), &p) == nil && p.Src != us4 && p.Src != us6 {
					t.Fatalf("we speak as %v", p.Src)
				}
			}
			a.sent = nil
			w.run(time.Duration(step & (1<<34 - 1)))
			a.sent = nil
		}
		if len(a.cache) > 5 {
			t.Fatalf("%d entries", len(a.cache))
		}
	})
}
