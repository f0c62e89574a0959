package sim

import (
	"bytes"
	"errors"
	"math"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/ip"
	"github.com/onload-go/onload/ring"
)

func fill(n int, seed byte) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7) + seed
	}
	return b
}

func TestTransfer(t *testing.T) {
	c := Config{MTU: 9000, TakeAll: true, MaxFrags: 8}
	a, b := link(t, small(c), small(c), LinkConfig{})
	for _, n := range []int{1, 46, 1000, 1460, 1748, 1750, 5000, 8900} {
		frame := build(protoUDP, addr4[0], addr4[1], fill(n, byte(n)))
		send(t, a.queues[0], a.arena, frame, ring.Desc{})
		if !b.queues[0].RxPending() {
			t.Fatal("RxPending is false")
		}
		got := recv(t, b.queues[0], b.arena)
		if len(got) != 1 || !bytes.Equal(got[0].data, frame) {
			t.Fatalf("%d bytes: %d packets came, or other bytes", n, len(got))
		}
		if want := (len(frame) + 1791) / 1792; got[0].n != want || got[0].desc.Off != 256 {
			t.Errorf("%d bytes came in %d frames at %d", n, got[0].n, got[0].desc.Off)
		}
		if b.queues[0].RxPending() {
			t.Error("RxPending is true with nothing there")
		}
	}
	balanced(t, a)
	balanced(t, b)
	if s := b.queues[0].Stats(); s.RxPackets != 8 || s.RxDropped+s.RxFillEmpty != 0 {
		t.Errorf("%+v", s)
	}
	if s := a.queues[0].Stats(); s.TxPackets != 8 || s.Kicks != 8 || s.TxBytes == 0 {
		t.Errorf("%+v", s)
	}
}

func TestNothingMovesBeforeKick(t *testing.T) {
	c := &clock{now: 1}
	cfg := small(Config{TakeAll: true, CompletionDelay: time.Second, TxRing: 4})
	a, b := link(t, cfg, cfg, LinkConfig{Clock: c.read})
	q := a.queues[0]
	f := build(protoUDP, addr4[0], addr4[1], fill(10, 0))
	var ds []ring.Desc
	for range 6 {
		ds = append(ds, chain(t, a.arena, f, 1500, ring.Desc{})...)
	}
	if n := q.TxBatch(ds); n != 4 || q.TxSpace() != 0 {
		t.Fatalf("took %d, space %d", n, q.TxSpace())
	}
	if b.queues[0].RxPending() || a.Next() != math.MaxInt64 || b.Next() != math.MaxInt64 {
		t.Error("something moved before Kick")
	}
	q.Kick()
	if len(recv(t, b.queues[0], b.arena)) != 4 {
		t.Error("not all came")
	}
	// The frames are still in the NIC.
	if q.Reclaim() != 0 || q.TxSpace() != 0 || !a.arena.InNIC(ds[0].Frame) {
		t.Error("completed at once")
	}
	if a.Next() != 1+1e9 {
		t.Errorf("Next is %d", a.Next())
	}
	c.now += 1e9
	if q.Reclaim() != 4 || q.TxSpace() != 4 || a.arena.InNIC(ds[0].Frame) {
		t.Error("not completed")
	}
	for _, d := range ds {
		a.arena.Release(d.Frame)
	}
	q.Kick()
	if s := q.Stats(); s.TxRingFull != 1 || s.TxRingNone != 1 {
		t.Errorf("%+v", s)
	}
	balanced(t, a)
}

func TestWholePackets(t *testing.T) {
	cfg := small(Config{TakeAll: true, MTU: 9000, TxRing: 7})
	a, b := link(t, cfg, cfg, LinkConfig{})
	f := build(protoUDP, addr4[0], addr4[1], fill(4000, 0))
	ds := append(chain(t, a.arena, f, 1500, ring.Desc{}), chain(t, a.arena, f, 1500, ring.Desc{})...)
	ds = append(ds, chain(t, a.arena, f, 1500, ring.Desc{})...) // 3 x 3 Descs
	if n := a.queues[0].TxBatch(ds[:5]); n != 5 || a.queues[0].Stats().TxInvalid != 1 {
		t.Errorf("took %d, a packet without its end among them, %+v", n, a.queues[0].Stats())
	}
	if n := a.queues[0].TxBatch(ds[3:]); n != 3 {
		t.Errorf("took %d", n)
	}
	a.queues[0].Kick()
	out := make([]ring.Desc, 5)
	if n := b.queues[0].RxBatch(out[:2]); n != 0 {
		t.Errorf("gave %d of a packet of 3", n)
	}
	for range 2 {
		if n := b.queues[0].RxBatch(out); n != 3 || out[2].Flags&ring.FlagMore != 0 {
			t.Errorf("gave %d", n)
		}
	}
}

func TestOverflow(t *testing.T) {
	a, b := link(t, Config{TakeAll: true}, Config{TakeAll: true, RxRing: 8, TxRing: 8, Frames: 12}, LinkConfig{})
	f := build(protoUDP, addr4[0], addr4[1], fill(100, 0))
	for range 10 {
		send(t, a.queues[0], a.arena, f, ring.Desc{})
	}
	if n := len(recv(t, b.queues[0], b.arena)); n != 8 {
		t.Errorf("%d came", n)
	}
	q := b.queues[0]
	if s := q.Stats(); s.RxDropped != 2 {
		t.Errorf("%+v", s)
	}
	// Three frames in the fill ring, five packets.
	for len(q.fill) > 3 {
		b.arena.Free(q.fill[len(q.fill)-1])
		q.fill = q.fill[:len(q.fill)-1]
	}
	for range 5 {
		send(t, a.queues[0], a.arena, f, ring.Desc{})
	}
	if n := len(recv(t, q, b.arena)); n != 3 {
		t.Errorf("%d came with 3 frames", n)
	}
	if s := q.Stats(); s.RxFillEmpty != 2 {
		t.Errorf("%+v", s)
	}
	balanced(t, b)
	// The lane itself.
	a, b = link(t, Config{TakeAll: true}, Config{TakeAll: true}, LinkConfig{InFlight: 4})
	for range 6 {
		send(t, a.queues[0], a.arena, f, ring.Desc{})
	}
	if n := len(recv(t, b.queues[0], b.arena)); n != 4 || b.queues[0].Stats().RxDropped != 2 {
		t.Errorf("%d came, %+v", n, b.queues[0].Stats())
	}
}

func TestInvalid(t *testing.T) {
	cfg := small(Config{TakeAll: true, MaxFrags: 2})
	a, b := link(t, cfg, small(Config{TakeAll: true, MTU: 9000}), LinkConfig{})
	q := a.queues[0]
	udp := func(n int) []byte { return build(protoUDP, addr4[0], addr4[1], fill(n, 0)) }
	bad := [][]ring.Desc{
		chain(t, a.arena, udp(1473), 1500, ring.Desc{}),                                // above the MTU
		chain(t, a.arena, udp(1400), 500, ring.Desc{}),                                 // three fragments
		chain(t, a.arena, udp(10)[:13], 500, ring.Desc{}),                              // no Ethernet header
		chain(t, a.arena, udp(10), 500, ring.Desc{Flags: ring.FlagGSO, SegSize: 1000}), // no TSO
		chain(t, a.arena, udp(10), 500, ring.Desc{Flags: ring.FlagCsumPartial}),        // no checksums
		{{Frame: 0, Off: 2000, Len: 100}},
	}
	f, _ := a.arena.Alloc()
	bad[5][0].Frame = f
	for i, ds := range bad {
		if n := q.TxBatch(ds); n != len(ds) {
			t.Fatalf("%d: took %d", i, n)
		}
		q.Kick()
		if s := q.Stats(); s.TxInvalid != uint64(i+1) {
			t.Errorf("%d: sent", i)
		}
		for _, d := range ds {
			a.arena.Release(d.Frame)
		}
	}
	if b.queues[0].RxPending() {
		t.Error("something came")
	}
	send(t, q, a.arena, udp(1472), ring.Desc{})
	if len(recv(t, b.queues[0], b.arena)) != 1 {
		t.Error("the good one did not come")
	}
	balanced(t, a)
}

func TestConfigErrors(t *testing.T) {
	for i, c := range []Config{{Queues: 65}, {Queues: -1}, {MTU: 60}, {TSO: 70000}, {FrameSize: 1000}, {RxHeadroom: 1500},
		{TxRing: -1}, {CompletionDelay: -1}, {MaxFrags: -1}} {
		if _, _, err := New(c, Config{}, LinkConfig{}); err == nil {
			t.Errorf("config %d was taken", i)
		}
	}
	for i, f := range []Faults{{Loss: 1.1}, {Corrupt: -1}, {Reorder: math.NaN()}, {Delay: -1}, {Rate: -1}} {
		if _, _, err := New(Config{}, Config{}, LinkConfig{BtoA: f}); err == nil {
			t.Errorf("faults %d were taken", i)
		}
	}
}

func TestLinkDownAndBreak(t *testing.T) {
	cfg := small(Config{TakeAll: true, Name: "nic"})
	a, b := link(t, cfg, cfg, LinkConfig{})
	if a.Name() != "nic" || len(a.Queues()) != 1 || a.Caps().Driver != "sim" || a.Arena() == b.Arena() {
		t.Error("device")
	}
	f := build(protoUDP, addr4[0], addr4[1], nil)
	b.SetLink(false)
	send(t, a.queues[0], a.arena, f, ring.Desc{})
	b.SetLink(true)
	send(t, a.queues[0], a.arena, f, ring.Desc{})
	if n := len(recv(t, b.queues[0], b.arena)); n != 1 || a.LinkStats().Down != 1 {
		t.Errorf("%d came, %+v", n, a.LinkStats())
	}
	gone := errors.New("unplugged")
	a.Break(gone)
	q := a.queues[0]
	if q.Err() != gone || q.Kick() != gone || q.TxSpace() != 0 || q.RxBatch(make([]ring.Desc, 4)) != 0 || !q.Arm() {
		t.Error("not broken")
	}
	if b.queues[0].Err() != nil {
		t.Error("the peer broke")
	}
}

func TestInjectAndTap(t *testing.T) {
	type seen struct {
		dir Dir
		n   int
	}
	var taps []seen
	cfg := small(Config{TakeAll: true, Queues: 2})
	a, b := link(t, cfg, cfg, LinkConfig{Tap: func(d Dir, f []byte) { taps = append(taps, seen{d, len(f)}) }})
	for i := range 2000 {
		if !b.Inject(1, fill(20+i%100, byte(i))) {
			t.Fatal("not injected")
		}
		got := recv(t, b.queues[1], b.arena)
		if len(got) != 1 || !bytes.Equal(got[0].data, fill(20+i%100, byte(i))) {
			t.Fatal("other bytes came")
		}
	}
	for i := 0; ; i++ {
		if !b.Inject(0, fill(20, 0)) {
			if i != 1024 {
				t.Errorf("full at %d", i)
			}
			break
		}
	}
	send(t, a.queues[1], a.arena, build(protoUDP, addr4[0], addr4[1], nil), ring.Desc{})
	send(t, b.queues[0], b.arena, build(protoUDP, addr4[1], addr4[0], fill(8, 0)), ring.Desc{})
	if len(taps) != 2 || taps[0] != (seen{AtoB, 42}) || taps[1] != (seen{BtoA, 50}) {
		t.Errorf("%v", taps)
	}
	if AtoB.String() == BtoA.String() {
		t.Error("String")
	}
}

func TestRSS(t *testing.T) {
	cfg := small(Config{TakeAll: true, Queues: 4, RxInfo: true})
	a, b := link(t, cfg, cfg, LinkConfig{})
	h := driver.NewToeplitz(b.Caps().RSSKey)
	used := map[int]int{}
	for port := range uint16(64) {
		for _, ends := range [][2]netip.AddrPort{addr4, addr6} {
			src := netip.AddrPortFrom(ends[0].Addr(), 5000+port)
			want := driver.RSSQueue(b.Caps().RSSTable, h.Flow(src, ends[1]))
			send(t, a.queues[port%4], a.arena, build(protoTCP, src, ends[1], nil), ring.Desc{})
			for i, q := range b.queues {
				got := recv(t, q, b.arena)
				if (i == want) != (len(got) == 1) {
					t.Fatalf("port %d: %d packets at queue %d, due at %d", src.Port(), len(got), i, want)
				}
			}
			used[want]++
		}
	}
	if len(used) != 4 {
		t.Errorf("queues used: %v", used)
	}
}

func TestSteering(t *testing.T) {
	var kernel [][]byte
	a, b := link(t, small(Config{}), small(Config{Unmatched: func(f []byte) { kernel = append(kernel, bytes.Clone(f)) }}), LinkConfig{})
	try := func(what string, frame []byte, ours bool) {
		t.Helper()
		kernel = nil
		send(t, a.queues[0], a.arena, frame, ring.Desc{})
		got := recv(t, b.queues[0], b.arena)
		if len(got)+len(kernel) != 1 || (len(got) == 1) != ours {
			t.Errorf("%s: %d ours, %d the kernel's", what, len(got), len(kernel))
		}
		if len(kernel) == 1 && !bytes.Equal(kernel[0], frame) {
			t.Errorf("%s: other bytes", what)
		}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Error(err)
		}
	}
	tcp4, tcp6 := build(protoTCP, addr4[0], addr4[1], nil), build(protoTCP, addr6[0], addr6[1], nil)
	try("nothing", tcp4, false)
	must(b.AddPort(protoTCP, addr4[1]))
	try("port", tcp4, true)
	try("other family", tcp6, false)
	try("other protocol", build(protoUDP, addr4[0], addr4[1], nil), false)
	must(b.AddPort(protoTCP, addr4[1]))
	must(b.RemovePort(protoTCP, addr4[1]))
	try("counted", tcp4, true)
	must(b.RemovePort(protoTCP, addr4[1]))
	try("removed", tcp4, false)
	if err := b.RemovePort(protoTCP, addr4[1]); !errors.Is(err, syscall.ENOENT) {
		t.Error(err)
	}
	any4 := netip.AddrPortFrom(netip.IPv4Unspecified(), 2000)
	any6 := netip.AddrPortFrom(netip.IPv6Unspecified(), 2000)
	must(b.AddPort(protoTCP, any4))
	try("0.0.0.0, IPv4", tcp4, true)
	try("0.0.0.0, IPv6", tcp6, false)
	must(b.RemovePort(protoTCP, any4))
	must(b.AddPort(protoTCP, any6))
	try("::, IPv4", tcp4, false)
	try("::, IPv6", tcp6, true)
	must(b.RemovePort(protoTCP, any6))
	must(b.AddPort(protoTCP, netip.AddrPortFrom(netip.Addr{}, 2000)))
	try("any, IPv4", tcp4, true)
	try("any, IPv6", tcp6, true)
	must(b.AddFlow(protoTCP, addr4[1], addr4[0], false))
	try("exception", tcp4, false)
	try("flow beside the exception", build(protoTCP, netip.AddrPortFrom(addr4[0].Addr(), 9), addr4[1], nil), true)
	must(b.AddFlow(protoTCP, addr4[1], addr4[0], true))
	try("the last added decides", tcp4, true)
	must(b.AddFlow(protoTCP, addr4[1], addr4[0], false))
	must(b.RemoveFlow(protoTCP, addr4[1], addr4[0]))
	must(b.RemoveFlow(protoTCP, addr4[1], addr4[0]))
	try("one of three entries is left", tcp4, false)
	must(b.RemoveFlow(protoTCP, addr4[1], addr4[0]))
	try("exception removed", tcp4, true)
	must(b.RemovePort(protoTCP, netip.AddrPortFrom(netip.Addr{}, 2000)))
	must(b.AddFlow(protoTCP, addr4[1], addr4[0], true))
	must(b.AddFlow(protoTCP, addr4[1], addr4[0], true))
	must(b.RemoveFlow(protoTCP, addr4[1], addr4[0]))
	try("flow of ours", tcp4, true)
	if b.RemoveFlow(protoTCP, addr4[0], addr4[0]) == nil || b.AddPort(1, any4) == nil || b.AddFlow(1, any4, any4, true) == nil {
		t.Error("nonsense was taken")
	}

	// An ICMP error goes where the packet that it quotes came from.
	quoted := build(protoTCP, addr4[1], addr4[0], nil)[14:]
	icmp := func(typ byte, quote []byte) []byte {
		f := build(protoUDP, addr4[0], addr4[1], quote)
		f[23] = ip.ProtoICMP
		f[34], f[35] = typ, 0
		putIPv4Sum(f[14:34])
		return f
	}
	try("ICMP error", icmp(3, quoted), true)
	try("ICMP error, short", icmp(3, quoted[:20]), false)
	try("ICMP echo", icmp(8, quoted), false)
	try("ICMP error, not ours", icmp(3, tcp4[14:]), false)
	try("ARP", append(append(make([]byte, 12), 8, 6), make([]byte, 46)...), false)

	// Fragments follow the first; before it, whether a port of ours has the address.
	must(b.AddPort(protoUDP, addr4[1]))
	first := build(protoUDP, addr4[0], addr4[1], fill(64, 0))
	first[20] = 0x20 // more fragments
	putIPv4Sum(first[14:34])
	second := bytes.Clone(first)
	second[20], second[21] = 0, 9
	putIPv4Sum(second[14:34])
	try("fragment before the first", second, true)
	try("first fragment", first, true)
	try("second fragment", second, true)
	other := func(f []byte) []byte { // of a datagram to another port
		f = bytes.Clone(f)
		f[18] ^= 1
		if f[21] == 0 {
			f[36] ^= 1
		}
		putIPv4Sum(f[14:34])
		return f
	}
	try("another's first fragment", other(first), false)
	try("another's second fragment", other(second), false)

	// VLAN tags are understood.
	tagged := append(append(bytes.Clone(tcp4[:12]), 0x81, 0, 0, 5), tcp4[12:]...)
	try("VLAN", tagged, true)
	if a.LinkStats().Unmatched == 0 {
		t.Error("not counted")
	}
}
