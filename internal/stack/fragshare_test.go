package stack

import (
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
	cache := ring.NewCache(arena)
	var f fragments
	f.init(arena, cache)
	all := len(arena.Mem()) / 8
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
	if f.Held() > all/2 || f.Stats.Evicted == 0 {
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
