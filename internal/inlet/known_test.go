package inlet

import (
	"net/netip"
	"sync/atomic"
	"testing"
)

// TestCounters: flows that share a counter are counted, and one that is full stays
// so.
func TestCounters(t *testing.T) {
	k := known{words: make([]atomic.Uint64, portWords+flowWords), seed: 1}
	a := netip.MustParseAddrPort("192.0.2.1:80")
	of := func(n int) netip.AddrPort { return netip.AddrPortFrom(netip.MustParseAddr("192.0.2.2"), uint16(n)) }
	const most = 1<<portBits - 1
	for _, n := range []int{1, 100, most - 1} {
		for i := range n {
			k.count(i%2 == 0, a, of(1000), 1)
		}
		for i := range n {
			k.count(i%2 == 0, a, of(1000), -1)
		}
		sum := uint64(0)
		for i := range k.words[:portWords] {
			sum |= k.words[i].Load()
		}
		if sum != 0 {
			t.Fatalf("%d flows leave %#x", n, sum)
		}
	}
	for range most {
		k.count(false, a, of(7), 1)
	}
	for range most {
		k.count(false, a, of(7), -1)
	}
	if got := k.words[80/4].Load(); got != most {
		t.Errorf("a full counter becomes %#x", got)
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
// counters are in no cache.
func BenchmarkFlow(b *testing.B) {
	k := known{words: make([]atomic.Uint64, portWords+flowWords), seed: 1}
	local, addr := netip.MustParseAddrPort("192.0.2.1:80"), netip.MustParseAddr("192.0.2.2")
	for i := range b.N {
		remote := netip.AddrPortFrom(addr, uint16(i))
		k.count(false, local, remote, 1)
		k.count(false, local, remote, -1)
	}
}
