package ip

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

// The pieces of a large fragment say what it said: a reassembler makes the same of
// them.
func TestRefragment(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	data := randomBytes(r, 20_000)
	for _, v6 := range []bool{false, true} {
		for _, most := range []int{600, 1500, 3500, 9014} {
			l := newFragLab(t, 256, 1<<20, 1<<20)
			var whole []byte
			pieces := 0
			for off := 0; off < len(data); off += 8000 {
				n := min(8000, len(data)-off)
				var h Header
				if v6 {
					h.Init(macA, macB, 5, a6, b6, ProtoUDP, 0, 64)
				} else {
					h.Init(macA, macB, 0, a4, b4, ProtoUDP, 0, 64)
				}
				frame := make([]byte, h.FragLen()+n)
				h.PutFragment(frame, n, 0, 77, off, off+n < len(data))
				copy(frame[h.FragLen():], data[off:])
				if !Refragment(frame, most, func(b []byte) {
					var p Packet
					if len(b) > most {
						t.Fatalf("%d bytes, at most %d", len(b), most)
					}
					if err := Parse(b, len(b), &p); err != nil {
						t.Fatal(err)
					}
					pieces++
					ds := l.frames(b[p.L4Off:p.L4Off+p.L4Len], 1500)
					for _, d := range l.r.Add(&p, ds, 0, 0) {
						whole = append(whole, l.arena.Data(d)...)
						l.cache.Free(d.Frame)
					}
				}) {
					t.Fatal("refused")
				}
			}
			if !bytes.Equal(whole, data) || most < 9014 && pieces < len(data)/most || most == 9014 && pieces != 3 {
				t.Errorf("IPv6 %v, %d: %d bytes of %d pieces", v6, most, len(whole), pieces)
			}
			l.empty()
		}
	}
	if Refragment(make([]byte, 100), 50, nil) {
		t.Error("what is no fragment was cut")
	}
}
