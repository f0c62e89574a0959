package inlet

import (
	"math/rand/v2"
	"net/netip"
	"sync/atomic"
	"testing"
)

func newKnown() *known {
	return &known{ports: make([]atomic.Uint64, portWords), flows: make([]bucket, buckets), seed: 1}
}

var (
	here  = netip.MustParseAddrPort("192.0.2.1:80")
	there = netip.MustParseAddr("192.0.2.2")
)

// has reports how many slots hold a flow.
func (k *known) has(udp bool, local, remote netip.AddrPort) (n int) {
	h := hash(k.seed, udp, local, remote)
	for _, b := range []uint64{h, h >> 32} {
		for i := range k.flows[b%buckets] {
			if k.flows[b%buckets][i].Load() == h {
				n++
			}
		}
	}
	return n
}

// TestPortCounters: flows of a port are counted, and a counter that is full stays so.
func TestPortCounters(t *testing.T) {
	k := newKnown()
	const most = 1<<portBits - 1
	for _, n := range []int{1, 100, most - 1} {
		for i := range n {
			k.countPort(i%2 == 0, 80, 1)
		}
		for i := range n {
			k.countPort(i%2 == 0, 80, -1)
		}
		for i := range k.ports {
			if w := k.ports[i].Load(); w != 0 {
				t.Fatalf("%d flows leave %#x", n, w)
			}
		}
	}
	for _, d := range []int{1, -1} {
		for range most {
			k.countPort(false, 80, d)
		}
	}
	if got := k.ports[80/perWord].Load(); got != most {
		t.Errorf("a full counter becomes %#x", got)
	}
}

// TestFlowsComeAndGo: what is in the table is what was added and not yet removed,
// however often, in a random order.
func TestFlowsComeAndGo(t *testing.T) {
	k := newKnown()
	r := rand.New(rand.NewPCG(1, 2))
	want := map[netip.AddrPort]int{}
	for range 100_000 {
		remote := netip.AddrPortFrom(there, uint16(r.IntN(2000)))
		switch n := want[remote]; {
		case n == 0 || n < 3 && r.IntN(2) == 0:
			k.add(false, here, remote)
			want[remote]++
		default:
			k.remove(false, here, remote)
			want[remote]--
		}
	}
	for remote, n := range want {
		if got := k.has(false, here, remote); got != n {
			t.Fatalf("%v is %d times in the table, added %d times", remote, got, n)
		}
		for range n {
			k.remove(false, here, remote)
		}
	}
	for i := range k.flows {
		for j := range k.flows[i] {
			if k.flows[i][j].Load() != 0 {
				t.Fatal("a flow is left")
			}
		}
	}
}

// TestFlowsWithoutRoom: they are counted, and their removal takes nothing from others.
func TestFlowsWithoutRoom(t *testing.T) {
	k := newKnown()
	one := netip.AddrPortFrom(there, 1)
	const other = 7
	h := hash(k.seed, true, here, one)
	both := []*bucket{&k.flows[h%buckets], &k.flows[h>>32%buckets]}
	for _, b := range both {
		for i := range b {
			b[i].Store(other)
		}
	}
	k.add(true, here, one)
	k.remove(true, here, one)
	if n := k.without.Load(); n != 1 {
		t.Errorf("%d flows without room", n)
	}
	for _, b := range both {
		for i := range b {
			if b[i].Load() != other {
				t.Error("a slot of another flow is free")
			}
		}
	}
	both[1][slots-1].Store(0)
	k.add(true, here, one)
	if k.has(true, here, one) != 1 || k.without.Load() != 1 {
		t.Error("the last free slot is not taken")
	}
}

// TestHash: each part of a flow makes a difference.
func TestHash(t *testing.T) {
	seen := map[uint64]string{}
	for _, udp := range []bool{false, true} {
		for _, l := range []string{"192.0.2.1:80", "192.0.2.2:80", "192.0.2.1:81", "[2001:db8::1]:80", "[2001:db8::2]:80", "[2001:db9::1]:80"} {
			for _, r := range []string{"192.0.2.1:80", "198.51.100.1:80", "198.51.100.1:81", "[2001:db8::1]:80", "[2001:db8:1::1]:80"} {
				local, remote := netip.MustParseAddrPort(l), netip.MustParseAddrPort(r)
				h := hash(7, udp, local, remote)
				if h == hash(8, udp, local, remote) {
					t.Error("the seed makes no difference")
				}
				if o := seen[h]; o != "" {
					t.Errorf("%v %s %s is %s", udp, l, r, o)
				}
				seen[h] = l + r
			}
		}
	}
}

// BenchmarkFlow is what a connection of ours costs, from begin to end, where its
// slots are in no cache.
func BenchmarkFlow(b *testing.B) {
	k := newKnown()
	for i := range b.N {
		remote := netip.AddrPortFrom(there, uint16(i))
		k.add(false, here, remote)
		k.remove(false, here, remote)
	}
}
