package ip

import (
	"encoding/binary"
	"net/netip"
	"testing"
)

// Parse reads the headers that Put writes.
func TestHeaderPut(t *testing.T) {
	for _, vlan := range []uint16{0, 42} {
		for _, fam := range [][2]netip.Addr{{a4, b4}, {a6, b6}} {
			for _, c := range []struct {
				tos, ecn uint8
				n        int
				id       uint16
			}{{0, 0, 0, 0}, {0xb8, 2, 1480, 0xffff}, {0xff, 3, 65515, 0x8000}, {3, 1, 20, 1}} {
				var h Header
				h.Init(macA, macB, vlan, fam[0], fam[1], ProtoTCP, c.tos, 64)
				b := make([]byte, h.Len()+c.n)
				h.Put(b, c.n, c.ecn, c.id)
				var p Packet
				if err := Parse(b, len(b), &p); err != nil {
					t.Fatalf("%v, VLAN %d: %v", fam, vlan, err)
				}
				want := Packet{DstMAC: macB, SrcMAC: macA, VLAN: vlan, V6: fam[0].Is6(), Src: fam[0], Dst: fam[1],
					Proto: ProtoTCP, TTL: 64, TOS: c.tos&^3 | c.ecn, NetOff: h.Len() - h.NetLen(), L4Off: h.Len(), L4Len: c.n}
				if vlan != 0 {
					want.Tags = 1
				}
				if !p.V6 {
					want.FragID = uint32(c.id)
					if binary.BigEndian.Uint16(b[p.NetOff+6:]) != flagDF {
						t.Error("DF is not set")
					}
				}
				if p != want {
					t.Errorf("got  %+v\nwant %+v", p, want)
				}
			}
		}
	}
}

func TestHeaderReply(t *testing.T) {
	p := Packet{DstMAC: macB, SrcMAC: macA, VLAN: 5, Src: a4, Dst: b4}
	var h, want Header
	h.InitReply(&p, ProtoICMP, 0, 64)
	want.Init(macB, macA, 5, b4, a4, ProtoICMP, 0, 64)
	if h != want {
		t.Errorf("%+v", h)
	}
}

func TestFragments(t *testing.T) {
	for _, fam := range [][2]netip.Addr{{a4, b4}, {a6, b6}} {
		var h Header
		h.Init(macA, macB, 0, fam[0], fam[1], ProtoUDP, 0, 64)
		for _, mtu := range []int{1280, 1500, 1501, 9000} {
			for _, size := range []int{1, mtu, 2 * mtu, 65515} {
				plan, ok := h.Fragments(size, mtu)
				if !ok {
					t.Fatalf("MTU %d: no plan", mtu)
				}
				covered := 0
				for {
					off, n, more, ok := plan.Next()
					if !ok {
						break
					}
					b := make([]byte, h.FragLen()+n)
					h.PutFragment(b, n, 2, 0x12345678, off, more)
					if len(b)-etherLen > mtu {
						t.Fatalf("fragment of %d bytes, MTU %d", len(b)-etherLen, mtu)
					}
					var p Packet
					if err := Parse(b, len(b), &p); err != nil {
						t.Fatalf("%v: %v", fam, err)
					}
					id := uint32(0x12345678)
					if !p.V6 {
						id &= 0xffff
					}
					if off != covered || p.FragOff != off || p.MoreFrags != more || p.L4Len != n || p.FragID != id ||
						p.Proto != ProtoUDP || p.TOS != 2 {
						t.Fatalf("at %d: %+v", covered, p)
					}
					if more && n != plan.Step() || more != (off+n < size) {
						t.Fatalf("fragment of %d at %d of %d, more %v", n, off, size, more)
					}
					covered += n
				}
				if covered != size {
					t.Fatalf("%d of %d bytes covered", covered, size)
				}
			}
		}
		if _, ok := h.Fragments(100, h.NetLen()+7); ok {
			t.Error("a plan for an MTU that has no room")
		}
	}
}

func TestHeaderAllocs(t *testing.T) {
	var b [MaxHeader]byte
	if n := testing.AllocsPerRun(100, func() {
		var h Header
		h.Init(macA, macB, 1, a6, b6, ProtoUDP, 0, 64)
		h.Put(b[:], 100, 0, 0)
		h.PutFragment(b[:], 100, 0, 1, 8, true)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkHeaderPut(b *testing.B) {
	var h Header
	h.Init(macA, macB, 0, a4, b4, ProtoTCP, 0, 64)
	var buf [MaxHeader]byte
	for i := uint16(0); b.Loop(); i++ {
		h.Put(buf[:], 1460, 0, i)
	}
}
