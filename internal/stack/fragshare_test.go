package stack

import (
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/onload-go/onload/ip"
	"github.com/onload-go/onload/ring"
)

// One peer's fragments never take all the memory that there is for fragments, also
// where that is little.
func TestFragmentShare(t *testing.T) {
	arena, err := ring.NewArena(1024, 2048)
	if err != nil {
		t.Fatal(err)
	}
	cache := ring.NewCache(arena, 1)
	var f fragments
	f.init(arena, cache, 1)
	all, _ := fragLimits(arena, 1)
	add := func(src string, id uint32) {
		frame, ok := cache.Alloc()
		if !ok {
			t.Fatal("no frame")
		}
		p := ip.Packet{Src: netip.MustParseAddr(src), Dst: netip.MustParseAddr("192.0.2.1"), Proto: ip.ProtoUDP,
			Fragment: true, MoreFrags: true, FragOff: 8, FragID: id, NetOff: 14, L4Off: 34, L4Len: 800}
		f.Add(&p, []ring.Desc{{Frame: frame, Off: 100, Len: 800}}, 0, 0)
	}
	add("192.0.2.2", 0)
	for id := range uint32(1000) {
		add("192.0.2.3", id)
	}
	if f.Held() > all*3/4 || f.Stats.Evicted == 0 {
		t.Errorf("one peer holds %d bytes of %d", f.Held(), all)
	}
	evicted := f.Stats.Evicted
	for id := range uint32(5) {
		add("192.0.2.2", id+1)
	}
	if f.Stats.Evicted != evicted {
		t.Errorf("its flood evicts another's")
	}
	f.Flush()
}

// TestFragmentsLargest: a peer's datagram of 64 KiB comes through in fragments for
// small MTUs, in any order, where the arena is small too.
func TestFragmentsLargest(t *testing.T) {
	for _, frames := range []int{1024, 4096, 32768} {
		for _, size := range []int{2048, 4096} {
			arena, err := ring.NewArena(frames, size)
			if err != nil {
				t.Fatal(err)
			}
			for _, mtu := range []int{296, 576, 1280, 1500} {
				most, peer := fragLimits(arena, 1)
				if peer > most/2 || most > len(arena.Mem())/4 {
					t.Errorf("%d frames: %d bytes of fragments, %d of a peer", frames, most, peer)
				}
				payload := (mtu - 20) &^ 7
				if n := 65515/payload + 1; n*size > peer {
					if mtu >= 576 {
						t.Errorf("%d frames of %d, MTU %d: %d fragments are too many", frames, size, mtu, n)
					}
					continue
				}
				if !reassembles(t, arena, payload) {
					t.Errorf("%d frames of %d, MTU %d: the datagram was lost", frames, size, mtu)
				}
			}
		}
	}
}

// reassembles reports whether a datagram of 65,515 bytes in fragments of a size
// comes through, while another peer's waits.
func reassembles(t *testing.T, arena *ring.Arena, size int) bool {
	t.Helper()
	cache := ring.NewCache(arena, 1)
	var f fragments
	f.init(arena, cache, 1)
	defer f.Flush()
	add := func(src string, off, n int) []ring.Desc {
		frame, ok := cache.Alloc()
		if !ok {
			t.Fatal("no frame")
		}
		p := ip.Packet{Src: netip.MustParseAddr(src), Dst: netip.MustParseAddr("192.0.2.1"), Proto: ip.ProtoUDP,
			Fragment: true, MoreFrags: off+n < 65515, FragOff: off, NetOff: 14, L4Off: 34, L4Len: n}
		return f.Add(&p, []ring.Desc{{Frame: frame, Off: 100, Len: uint16(n)}}, 0, 0)
	}
	add("192.0.2.3", 8, 8)
	rng := rand.New(rand.NewPCG(1, uint64(size)))
	for _, k := range rng.Perm(65515/size + 1) {
		if whole := add("192.0.2.2", k*size, min(size, 65515-k*size)); whole != nil {
			cache.FreeDescs(whole)
			return f.Stats.Evicted == 0
		}
	}
	return false
}
