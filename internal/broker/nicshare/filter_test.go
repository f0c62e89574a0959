package nicshare

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// port is the one that the process of a test has.
const port = 7000

// attack is a frame that a process must not send, and the counter that says so.
type attack struct {
	name    string
	frame   []byte
	counter func(*LinkCounters) *uint64
}

func mac(c *LinkCounters) *uint64      { return &c.DropMAC }
func vlan(c *LinkCounters) *uint64     { return &c.DropVLAN }
func proto(c *LinkCounters) *uint64    { return &c.DropProto }
func header(c *LinkCounters) *uint64   { return &c.DropHeader }
func fragment(c *LinkCounters) *uint64 { return &c.DropFragment }
func source(c *LinkCounters) *uint64   { return &c.DropSource }
func checksum(c *LinkCounters) *uint64 { return &c.DropChecksum }
func size(c *LinkCounters) *uint64     { return &c.DropSize }

// attacks lists them, all but the first part from the process's own port.
func (w *network) attacks(v6 bool) (as []attack) {
	t := w.t
	add := func(name string, counter func(*LinkCounters) *uint64, change func(*packet)) {
		p := w.out(port, v6)
		change(&p)
		as = append(as, attack{name, p.build(t), counter})
	}
	patch := func(name string, counter func(*LinkCounters) *uint64, change func(b []byte) []byte) {
		as = append(as, attack{name, change(w.out(port, v6).build(t)), counter})
	}
	own := w.out(port, v6).src.Addr()
	add("another port", source, func(p *packet) { p.src = netip.AddrPortFrom(own, port+1) })
	add("a port of the kernel's", source, func(p *packet) { p.src = netip.AddrPortFrom(own, 22) })
	add("port 0", source, func(p *packet) { p.src = netip.AddrPortFrom(own, 0) })
	add("another address", source, func(p *packet) { p.src = netip.AddrPortFrom(own.Next().Next(), port) })
	add("the peer's address", source, func(p *packet) { p.src = p.dst })
	add("another protocol of the port", source, func(p *packet) { p.proto = tcp })
	add("another station", mac, func(p *packet) { p.mac[5] ^= 1 })
	add("broadcast", mac, func(p *packet) { p.to = [6]byte{255, 255, 255, 255, 255, 255} })
	add("a group's station", mac, func(p *packet) { p.to = [6]byte{1, 0, 0x5e, 0, 0, 1} })
	add("ICMP", proto, func(p *packet) {
		p.proto = 1
		if v6 {
			p.proto = 58
		}
	})
	add("SCTP", proto, func(p *packet) { p.proto = 132 })
	add("a tag", vlan, func(p *packet) { p.tags = []uint16{7} })
	add("two tags", vlan, func(p *packet) { p.tags = []uint16{7, 8} })
	add("a later fragment without its first", fragment, func(p *packet) { p.offset, p.id = 64, 99 })
	add("a first fragment without ports", fragment, func(p *packet) {
		p.more, p.id, p.bare, p.data = true, 5, true, payload[:7]
	})
	add("a fragment of TCP", fragment, func(p *packet) { p.proto, p.more, p.id = tcp, true, 6 })
	add("larger than the MTU", size, func(p *packet) { p.data = bytes.Repeat(payload, 64) })
	patch("shorter than it says", header, func(b []byte) []byte { return b[:len(b)-1] })
	patch("longer than it says", header, func(b []byte) []byte { return append(b, payload...) })
	patch("no IP", header, func(b []byte) []byte { return b[:20] })
	patch("another version", header, func(b []byte) []byte { b[14] ^= 0x70; return b })
	patch("ARP", proto, func(b []byte) []byte { b[12], b[13] = 8, 6; return b })
	patch("the other family's type", header, func(b []byte) []byte {
		if v6 {
			b[12], b[13] = 8, 0
		} else {
			b[12], b[13] = 0x86, 0xdd
		}
		return b
	})
	if v6 {
		add("hop-by-hop options", proto, func(p *packet) {
			p.afterV6Proto = layers.IPProtocolIPv6HopByHop
			p.afterV6 = gopacket.Payload([]byte{17, 0, 1, 4, 0, 0, 0, 0})
		})
		add("a routing header", proto, func(p *packet) {
			p.afterV6Proto = layers.IPProtocolIPv6Routing
			p.afterV6 = gopacket.Payload([]byte{17, 0, 4, 0, 0, 0, 0, 0})
		})
		add("no next header", proto, func(p *packet) { p.proto = 59 })
		return as
	}
	add("options", header, func(p *packet) {
		p.options = []layers.IPv4Option{{OptionType: 7, OptionLength: 3, OptionData: []byte{4}}}
	})
	patch("half a header", header, func(b []byte) []byte { b[14] = 0x44; return b })
	patch("the reserved flag", header, func(b []byte) []byte { b[20] |= 0x80; return b })
	return as
}

// Of what a process without privileges sends, only packets from its own port leave, and
// the filter counts the others by their reason. The process writes to the rings itself.
func TestAttacks(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.String(), func(t *testing.T) {
			w := newNetwork(t)
			n := w.share(mode)
			p := start(t, w.A, n, LinkConfig{})
			w.allow(p, udp, port)
			other := start(t, w.A, n, LinkConfig{})
			w.allow(other, udp, port+1)
			peer := observe(t, w.B)
			var want LinkCounters
			for _, v6 := range []bool{false, true} {
				own := w.out(port, v6).build(t)
				for _, a := range w.attacks(v6) {
					before := want
					var o order
					for range 10 {
						o.Send = append(o.Send, a.frame)
					}
					o.Send = append(o.Send, own)
					*a.counter(&want) += 10
					want.Sent++
					p.do(o)
					w.settle(p, want, a.name)
					for _, f := range peer.wait(1) {
						if !bytes.Equal(f, own) {
							t.Errorf("v6 %v, %s: left: %x", v6, a.name, f)
						}
					}
					if got := w.counters(p); got != want {
						t.Errorf("v6 %v, %s: counted %+v, before %+v", v6, a.name, got, before)
						want = got
					}
				}
			}
			if got := w.counters(other); got != (LinkCounters{}) {
				t.Errorf("the other process: %+v", got)
			}
		})
	}
}

func (w *network) counters(p *process) LinkCounters {
	w.t.Helper()
	c, err := p.link.Counters()
	must(w.t, err)
	return c
}

// settle waits until the filter has seen as many packets as are in want.
func (w *network) settle(p *process, want LinkCounters, what string) {
	w.t.Helper()
	await(w.t, "the filter sees "+what, func() bool {
		c := w.counters(p)
		return c.Sent+c.Dropped() >= want.Sent+want.Dropped()
	})
}

// virtioHeader is struct virtio_net_hdr.
func virtioHeader(flags, gso byte, hdrLen, gsoSize, start, offset uint16) (h [10]byte) {
	h[0], h[1] = flags, gso
	for i, v := range []uint16{hdrLen, gsoSize, start, offset} {
		binary.NativeEndian.PutUint16(h[2+2*i:], v)
	}
	return h
}

const (
	needsChecksum = 1
	gsoTCPv4      = 1
	gsoUDP        = 3
	gsoTCPv6      = 4
	gsoUDPL4      = 5
)

// The packet socket asks the kernel to write checksums, and to segment. It may do that
// for its own packets, and nowhere else in them.
func TestChecksumRequests(t *testing.T) {
	w := newNetwork(t)
	n := w.share(ModeGeneric)
	p := start(t, w.A, n, LinkConfig{})
	w.allow(p, tcp, port)
	peer := observe(t, w.B)
	for _, v6 := range []bool{false, true} {
		ip, gso := uint16(20), byte(gsoTCPv4)
		if v6 {
			ip, gso = 40, gsoTCPv6
		}
		l4 := 14 + ip
		pk := w.out(port, v6)
		pk.proto = tcp
		small := pk.build(t)
		pk.data = bytes.Repeat(payload, 1000)
		big := pk.build(t)
		for _, c := range []struct {
			name    string
			hdr     [10]byte
			frame   []byte
			counter func(*LinkCounters) *uint64 // nil: leaves
		}{
			{"none", virtioHeader(0, 0, 0, 0, 0, 0), small, nil},
			{"the checksum", virtioHeader(needsChecksum, 0, 0, 0, l4, 16), small, nil},
			{"segments", virtioHeader(needsChecksum, gso, l4+20, 1400, l4, 16), big, nil},
			{"the source address", virtioHeader(needsChecksum, 0, 0, 0, 20, 8), small, checksum},
			{"the port", virtioHeader(needsChecksum, 0, 0, 0, 20, l4-20), small, checksum},
			{"the port of the header", virtioHeader(needsChecksum, 0, 0, 0, l4, 0), small, checksum},
			{"UDP's place", virtioHeader(needsChecksum, 0, 0, 0, l4, 6), small, checksum},
			{"behind the header", virtioHeader(needsChecksum, 0, 0, 0, l4+2, 16), small, checksum},
			{"segments and the address", virtioHeader(needsChecksum, gso, l4+20, 1400, 20, 8), big, checksum},
			{"segments above the MTU", virtioHeader(needsChecksum, gso, l4+20, 1501-ip-20, l4, 16), big, size},
			{"tiny segments", virtioHeader(needsChecksum, gso, l4+20, 8, l4, 16), big, size},
		} {
			before := w.counters(p)
			a := p.try(order{Segments: []large{{c.hdr, c.frame}}})
			if a.Err != "" && c.counter == nil {
				t.Errorf("v6 %v, %s: %s", v6, c.name, a.Err)
				continue
			}
			if a.Err != "" { // the kernel itself refuses it
				continue
			}
			want := before
			if c.counter == nil {
				want.Sent++
			} else {
				*c.counter(&want)++
			}
			w.settle(p, want, c.name)
			if got := w.counters(p); got != want {
				t.Errorf("v6 %v, %s: counted %+v, want %+v", v6, c.name, got, want)
			}
			if c.counter == nil {
				peer.wait(1)
			}
		}
		if fs := peer.frames(); len(fs) > 0 {
			for _, f := range fs {
				if carries(f) {
					t.Errorf("v6 %v: left: %x", v6, f[:min(len(f), 80)])
				}
			}
		}
	}
}

// An honest datagram leaves in fragments, in order. Its later fragments may leave
// only after the first, only by the same link, and only while it is fresh.
func TestSentFragments(t *testing.T) {
	w := newNetwork(t)
	n := w.share(ModeGeneric)
	a, b := start(t, w.A, n, LinkConfig{}), start(t, w.A, n, LinkConfig{})
	w.allow(a, udp, port)
	w.allow(b, udp, port+1)
	peer := observe(t, w.B)
	for _, v6 := range []bool{false, true} {
		first, later := w.out(port, v6), w.out(port, v6)
		first.more, first.id, first.data = true, 7, bytes.Repeat(payload, 4) // 96 bytes and the header
		later.offset, later.id, later.data = 13, 7, payload
		a.do(order{Send: [][]byte{first.build(t), later.build(t)}})
		if got := peer.wait(2); len(got) != 2 {
			t.Errorf("v6 %v: %d fragments left", v6, len(got))
		}
		before := w.counters(b)
		b.do(order{Send: [][]byte{later.build(t)}})
		want := before
		want.DropFragment++
		w.settle(b, want, "the other's fragment")
		if got := w.counters(b); got != want {
			t.Errorf("v6 %v: the other process: %+v", v6, got)
		}
		first.id, later.id, first.ttl = 8, 8, 1 // the first goes less far than the later one
		a.do(order{Send: [][]byte{first.build(t), later.build(t)}})
		peer.wait(1)
	}
	want := LinkCounters{Sent: 6, SentFragment: 6, DropFragment: 2}
	w.settle(a, want, "all fragments")
	if got := w.counters(a); got != want {
		t.Errorf("%+v", got)
	}
}

// A link that has the ID of an earlier one has none of the fragments that were the other's:
// neither may it send the rest of a datagram, nor does it receive that.
func TestFragmentsOfEarlierLink(t *testing.T) {
	w := newNetwork(t)
	n := w.share(ModeGeneric)
	for _, v6 := range []bool{false, true} {
		first, later := w.out(port, v6), w.out(port, v6)
		first.more, first.id, first.data = true, 7, bytes.Repeat(payload, 4)
		later.offset, later.id = 13, 7
		earlier := start(t, w.A, n, LinkConfig{})
		w.allow(earlier, udp, port)
		earlier.do(order{Send: [][]byte{first.build(t)}})
		w.settle(earlier, LinkCounters{Sent: 1}, "the first fragment")
		if w.seen(t, n, w.fragment(v6, port, 7, 0)) != 1 {
			t.Error("a first fragment does not come to the link")
		}
		earlier.kill()
		must(t, earlier.link.Close())
		next := start(t, w.A, n, LinkConfig{})
		if next.link.ID() != earlier.link.ID() {
			t.Fatalf("ID %d after %d", next.link.ID(), earlier.link.ID())
		}
		w.allow(next, udp, port)
		next.do(order{Send: [][]byte{later.build(t)}})
		w.settle(next, LinkCounters{DropFragment: 1}, "the later fragment")
		if got := w.counters(next); got != (LinkCounters{DropFragment: 1}) {
			t.Errorf("v6 %v: %+v", v6, got)
		}
		if w.seen(t, n, w.fragment(v6, port, 7, 13)) != 0 {
			t.Errorf("v6 %v: the later fragment comes to the next link", v6)
		}
		next.kill()
		must(t, next.link.Close())
	}
}

// Datagrams to a group leave, to the group's station only.
func TestSentToGroup(t *testing.T) {
	w := newNetwork(t)
	n := w.share(ModeGeneric)
	p := start(t, w.A, n, LinkConfig{})
	w.allow(p, udp, port)
	peer := observe(t, w.B)
	for _, c := range []struct {
		group, addr string
		mac         [6]byte
		leaves      bool
	}{
		{"mapped", "239.129.2.3", [6]byte{1, 0, 0x5e, 1, 2, 3}, true},
		{"mapped", "ff05::1:2:3", [6]byte{0x33, 0x33, 0, 2, 0, 3}, true},
		{"another group's", "239.129.2.3", [6]byte{1, 0, 0x5e, 1, 2, 4}, false},
		{"another group's", "ff05::1:2:3", [6]byte{0x33, 0x33, 0, 2, 0, 4}, false},
		{"a station's", "239.129.2.3", w.B.MAC, false},
	} {
		addr := netip.MustParseAddr(c.addr)
		k := w.out(port, addr.Is6())
		k.dst, k.to = netip.AddrPortFrom(addr, 9), c.mac
		want := w.counters(p)
		if c.leaves {
			want.Sent++
		} else {
			want.DropMAC++
		}
		p.do(order{Send: [][]byte{k.build(t)}})
		w.settle(p, want, c.group)
		if got := w.counters(p); got != want {
			t.Errorf("%s, %s: %+v, want %+v", c.addr, c.group, got, want)
		}
		if c.leaves {
			peer.wait(1)
		}
	}
}

// The rate of a link limits what it sends, and nobody else.
func TestRate(t *testing.T) {
	w := newNetwork(t)
	n := w.share(ModeGeneric)
	slow, fast := start(t, w.A, n, LinkConfig{RatePackets: 1000}), start(t, w.A, n, LinkConfig{})
	w.allow(slow, udp, port)
	w.allow(fast, udp, port+1)
	const many = 600
	flood := func(p *process, port uint16) LinkCounters {
		frame := w.out(port, false).build(t)
		for range many / 50 {
			p.do(order{Send: slices.Repeat([][]byte{frame}, 50)})
		}
		w.settle(p, LinkCounters{Sent: many}, "all")
		return w.counters(p)
	}
	// A burst of a tenth of a second leaves at once, the packet that ends it included.
	begun := time.Now()
	got := flood(slow, port)
	if most := 101 + uint64(time.Since(begun)/time.Millisecond) + 1; got.Sent < 100 || got.Sent > most || got.Sent+got.DropRate != many {
		t.Errorf("limited to %d: %+v", most, got)
	}
	if got := flood(fast, port+1); got.Sent != many {
		t.Errorf("without limit: %+v", got)
	}
	if _, err := n.NewLink(LinkConfig{RateBytes: 1}); err == nil {
		t.Error("a rate that the filter cannot count")
	}
}

// An atomic fragment (RFC 6946) is a whole datagram: no fragments may follow it, which
// the receiver would take for another's.
func TestAtomicFragment(t *testing.T) {
	w := newNetwork(t)
	n := w.share(ModeGeneric)
	p := start(t, w.A, n, LinkConfig{})
	w.allow(p, udp, port)
	peer := observe(t, w.B)
	atomic, later := w.out(port, true), w.out(port, true)
	atomic.afterV6Proto, atomic.afterV6 = layers.IPProtocolIPv6Fragment, &fragmentHeader{udp, 0, false, 7}
	later.offset, later.id = 13, 7
	p.do(order{Send: [][]byte{atomic.build(t), later.build(t)}})
	w.settle(p, LinkCounters{Sent: 1, DropFragment: 1}, "both")
	if got := w.counters(p); got.Sent != 1 || got.DropFragment != 1 {
		t.Errorf("%+v", got)
	}
	peer.wait(1)
}
