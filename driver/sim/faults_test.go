package sim

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"math"
	"testing"
	"time"

	"github.com/onload-go/onload/ip"
	"github.com/onload-go/onload/ring"
)

func numbered(n uint32) []byte {
	p := fill(200, 0)
	binary.BigEndian.PutUint32(p, n)
	return build(protoUDP, addr4[0], addr4[1], p)
}

func number(f []byte) uint32 { return binary.BigEndian.Uint32(f[42:]) }

type arrival struct {
	n  uint32
	at int64
}

// run sends n packets, gap ns apart on virtual time, and returns what comes,
// in order.
func run(t *testing.T, f Faults, seed uint64, n int, gap int64) (got []arrival, raw []received, a, b *Device) {
	t.Helper()
	c := &clock{now: 1000}
	cfg := small(Config{TakeAll: true, RxInfo: true, RxRing: 2048, Frames: 8192})
	a, b = link(t, cfg, cfg, LinkConfig{AtoB: f, Seed: seed, Clock: c.read})
	poll := func() {
		for _, r := range recv(t, b.queues[0], b.arena) {
			got = append(got, arrival{number(r.data), c.now})
			raw = append(raw, r)
		}
	}
	for i := range n {
		next := 1000 + int64(i)*gap
		for b.Next() <= next {
			c.now = max(b.Next(), c.now)
			poll()
		}
		c.now = next
		send(t, a.queues[0], a.arena, numbered(uint32(i)), ring.Desc{})
	}
	for b.Next() != math.MaxInt64 {
		c.now = max(b.Next(), c.now)
		poll()
	}
	if b.queues[0].RxPending() {
		t.Error("RxPending although nothing is on the way")
	}
	balanced(t, a)
	balanced(t, b)
	return got, raw, a, b
}

func within(t *testing.T, what string, got, want, slack float64) {
	t.Helper()
	if math.Abs(got-want) > slack {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

func TestLoss(t *testing.T) {
	got, _, a, _ := run(t, Faults{Loss: 0.1}, 1, 10000, 10)
	within(t, "lost", float64(10000-len(got)), 1000, 150)
	if a.LinkStats().Lost != uint64(10000-len(got)) {
		t.Error("count")
	}
	got, _, _, _ = run(t, Faults{Loss: 1}, 1, 100, 10)
	if len(got) != 0 {
		t.Error("something came")
	}
	got, _, _, _ = run(t, Faults{Drop: func(n uint64, f []byte) bool { return n == 3 || number(f) == 5 }}, 1, 7, 10)
	if len(got) != 5 || got[3].n != 4 || got[4].n != 6 {
		t.Errorf("%v", got)
	}
}

func TestDuplicate(t *testing.T) {
	got, raw, _, _ := run(t, Faults{Duplicate: 0.2}, 1, 5000, 10)
	within(t, "came", float64(len(got)), 6000, 150)
	for i, r := range raw {
		if !bytes.Equal(r.data, numbered(got[i].n)) {
			t.Fatal("other bytes")
		}
	}
}

func TestCorrupt(t *testing.T) {
	got, raw, a, _ := run(t, Faults{Corrupt: 0.3}, 1, 5000, 10)
	bad := 0
	for i, r := range raw {
		if !bytes.Equal(r.data, numbered(uint32(i))) {
			bad++
			if r.desc.Flags&ring.FlagCsumGood != 0 && verified(r.data) == false {
				t.Error("a bad checksum is called good")
			}
		} else if r.desc.Flags&ring.FlagCsumGood == 0 {
			t.Error("a good checksum is not called so")
		}
		if !bytes.Equal(r.data[:14], numbered(0)[:14]) {
			t.Error("the Ethernet header is hit")
		}
	}
	if len(got) != 5000 {
		t.Errorf("%d came", len(got))
	}
	within(t, "corrupted", float64(bad), 1500, 150)
	within(t, "counted", float64(a.LinkStats().Corrupted), float64(bad), 30) // two flips may undo each other

	// A partial checksum does not survive corruption.
	va, vb := link(t, small(Config{TxCsum: true}), small(Config{TakeAll: true, Virtual: true, RxInfo: true}),
		LinkConfig{AtoB: Faults{Corrupt: 1}})
	f := build(protoUDP, addr4[0], addr4[1], fill(1000, 0))
	first := setSum(f, true)
	passed := 0
	for range 200 {
		send(t, va.queues[0], va.arena, f, first)
		for _, r := range recv(t, vb.queues[0], vb.arena) {
			if r.desc.Flags&ring.FlagCsumPartial != 0 {
				t.Fatal("a corrupted packet is partial")
			}
			if verified(r.data) {
				passed++
			}
		}
	}
	if passed > 10 {
		t.Errorf("%d of 200 corrupted packets have a right checksum", passed)
	}
}

func TestReorder(t *testing.T) {
	got, _, a, _ := run(t, Faults{Reorder: 0.1, ReorderDelay: 5 * time.Microsecond}, 1, 5000, 1000)
	late := 0
	last := uint32(0)
	for _, g := range got {
		if g.n < last {
			late++
		}
		last = max(last, g.n)
	}
	if len(got) != 5000 || late < 300 || a.LinkStats().Reordered < uint64(late) {
		t.Errorf("%d came, %d late, %d counted", len(got), late, a.LinkStats().Reordered)
	}
}

func TestDelay(t *testing.T) {
	got, _, _, _ := run(t, Faults{Delay: 10 * time.Millisecond}, 1, 100, 1000)
	for i, g := range got {
		if g.n != uint32(i) || g.at != 1000+int64(i)*1000+10e6 {
			t.Fatalf("packet %d: %+v", i, g)
		}
	}
	got, _, _, _ = run(t, Faults{Delay: 10 * time.Millisecond, Jitter: 5 * time.Millisecond}, 1, 1000, 100_000)
	least, most := int64(math.MaxInt64), int64(0)
	for i, g := range got {
		if g.n != uint32(i) {
			t.Fatal("jitter reordered")
		}
		d := g.at - (1000 + int64(i)*100_000)
		least, most = min(least, d), max(most, d)
	}
	if len(got) != 1000 || least < 10e6 || least > 14e6 || most < 14e6 || most > 15e6 {
		t.Errorf("%d came, delays %d to %d", len(got), least, most)
	}
}

func TestRate(t *testing.T) {
	// 242 bytes at 1.936 Mbit/s: 1 ms each.
	f := Faults{Rate: 1_936_000, QueuePackets: 10}
	got, _, a, _ := run(t, f, 1, 50, 0)
	if len(got) != 10 || a.LinkStats().QueueFull != 40 {
		t.Fatalf("%d came, %+v", len(got), a.LinkStats())
	}
	for i, g := range got {
		if g.at != 1000+int64(i+1)*1e6 {
			t.Errorf("packet %d at %d", i, g.at)
		}
	}
	f = Faults{Rate: 1_936_000, QueueBytes: 242*5 + 100}
	if got, _, _, _ = run(t, f, 1, 50, 0); len(got) != 5 {
		t.Errorf("%d came", len(got))
	}
	if got, _, _, _ = run(t, f, 1, 50, 1e6); len(got) != 50 {
		t.Errorf("%d came at the link's rate", len(got))
	}
}

func TestMTUDrop(t *testing.T) {
	got, _, a, _ := run(t, Faults{MTU: 227}, 1, 5, 0)
	if len(got) != 0 || a.LinkStats().TooBig != 5 {
		t.Errorf("%d came", len(got))
	}
	if got, _, _, _ = run(t, Faults{MTU: 228}, 1, 5, 0); len(got) != 5 {
		t.Errorf("%d came", len(got))
	}
	// The peer takes no more than its own MTU.
	x, y := link(t, small(Config{MTU: 9000}), small(Config{TakeAll: true}), LinkConfig{})
	send(t, x.queues[0], x.arena, build(protoUDP, addr4[0], addr4[1], fill(1473, 0)), ring.Desc{})
	if y.queues[0].RxPending() || x.LinkStats().TooBig != 1 {
		t.Error("a giant came")
	}
}

func TestMark(t *testing.T) {
	for _, ends := range [...]struct{ v6, ect bool }{{false, true}, {true, true}, {false, false}, {true, false}} {
		c := &clock{now: 1}
		cfg := small(Config{TakeAll: true})
		a, b := link(t, cfg, cfg, LinkConfig{Clock: c.read, AtoB: Faults{Rate: 1e6, MarkBytes: 1000}})
		f := build(protoUDP, addr4[0], addr4[1], fill(500, 0))
		if ends.v6 {
			f = build(protoUDP, addr6[0], addr6[1], fill(500, 0))
		}
		if ends.ect && ends.v6 {
			f[15] |= 2 << 4
		} else if ends.ect {
			f[15] |= 2
			putIPv4Sum(f[14:34])
		}
		for range 4 {
			send(t, a.queues[0], a.arena, f, ring.Desc{})
		}
		c.now = 1e12
		marked := 0
		for i, r := range recv(t, b.queues[0], b.arena) {
			ecn := r.data[15] & 3
			if ends.v6 {
				ecn = r.data[15] >> 4 & 3
			} else if ip.Sum(r.data[14:34]) != 0xffff {
				t.Error("IPv4 checksum")
			}
			if ecn == 3 {
				marked++
				if i < 2 {
					t.Error("marked too early")
				}
			}
		}
		if want := map[bool]int{true: 2}[ends.ect]; marked != want || a.LinkStats().Marked != uint64(want) {
			t.Errorf("%+v: %d marked", ends, marked)
		}
	}
}

var allFaults = Faults{Loss: 0.05, Duplicate: 0.05, Corrupt: 0.05, Reorder: 0.05, Delay: time.Millisecond,
	Jitter: time.Millisecond, Rate: 50e6, QueuePackets: 50}

// The same seed gives the same run, another one does not.
func TestDeterminism(t *testing.T) {
	trace := func(seed uint64) uint64 {
		h := fnv.New64a()
		got, raw, _, _ := run(t, allFaults, seed, 3000, 20_000)
		for i, g := range got {
			fmt.Fprint(h, g.n, g.at, raw[i].desc, raw[i].data)
		}
		return h.Sum64()
	}
	first, second, other := trace(7), trace(7), trace(8)
	if first != second {
		t.Error("two runs of one seed differ")
	}
	if first == other {
		t.Error("the seed does not matter")
	}
}

// Faults may change while packets are on the way: those on the way come in
// time, and none overtakes.
func TestSetFaults(t *testing.T) {
	c := &clock{now: 1}
	cfg := small(Config{TakeAll: true})
	a, b := link(t, cfg, cfg, LinkConfig{Clock: c.read, AtoB: Faults{Delay: time.Second}})
	send(t, a.queues[0], a.arena, numbered(0), ring.Desc{})
	if err := a.SetFaults(Faults{}); err != nil {
		t.Fatal(err)
	}
	if a.SetFaults(Faults{Loss: 2}) == nil {
		t.Error("nonsense was taken")
	}
	send(t, a.queues[0], a.arena, numbered(1), ring.Desc{})
	if len(recv(t, b.queues[0], b.arena)) != 0 {
		t.Error("overtaken")
	}
	c.now += 2e9
	send(t, a.queues[0], a.arena, numbered(2), ring.Desc{})
	got := recv(t, b.queues[0], b.arena)
	if len(got) != 3 {
		t.Fatalf("%d came", len(got))
	}
	for i, g := range got {
		if number(g.data) != uint32(i) {
			t.Errorf("packet %d at place %d", number(g.data), i)
		}
	}
}
