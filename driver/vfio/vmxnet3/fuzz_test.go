package vmxnet3

import (
	"testing"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/ring"
)

// send puts a packet of one frame on the ring.
func (h *hostile) send(flags ring.DescFlags, segment byte) {
	f, ok := h.Arena.Alloc()
	if !ok {
		return
	}
	h.TxBatch([]ring.Desc{{
		Frame: f, Off: ring.Headroom, Len: 80, Flags: flags &^ ring.FlagMore,
		NetOff: 14, CsumStart: 34, CsumOff: driver.TCPChecksum, HdrLen: 54, SegSize: uint16(segment),
	}})
	h.Arena.Release(f)
	_ = h.Kick() // the callers look at Err
}

// A device that says that it has sent what it did not get breaks the queue.
func TestHostileSent(t *testing.T) {
	for name, last := range map[string]uint32{
		"not yet": 2, "nor ever": 31, "beyond the ring": 32, "far beyond": compIndex,
	} {
		t.Run(name, func(t *testing.T) {
			h := newHostile(t, 1500)
			h.send(0, 0)
			h.send(0, 0)
			h.report(last)
			if n := h.Reclaim(); n != 0 || h.Err() != errSent {
				t.Errorf("%d frames, %v", n, h.Err())
			}
		})
	}
	h := newHostile(t, 1500)
	free := h.Arena.FreeFrames()
	h.send(0, 0)
	h.send(0, 0)
	h.report(1) // both
	h.report(0) // nothing is on the ring: a completion beyond is not looked at
	if n := h.Reclaim(); n != 2 || h.Err() != nil || h.Arena.FreeFrames() != free || h.TxSpace() != hostileRing {
		t.Errorf("%d frames, %v", n, h.Err())
	}
}

// FuzzDevice: whatever the device writes, no frame is lost or given twice, and
// nothing panics.
func FuzzDevice(f *testing.F) {
	f.Add([]byte{0xc0, 100, 0, 0, 0xc0, 100, 0, 1}, true)
	f.Add([]byte{0x80, 128, 7, 0, 0x40, 255, 1, 1, 0xc2, 9, 0, 31}, false)
	f.Fuzz(func(t *testing.T, script []byte, jumbo bool) {
		mtu := 1500
		if jumbo {
			mtu = 9000
		}
		h := newHostile(t, mtu)
		ds := make([]ring.Desc, 6)
		for ; len(script) >= 4 && h.Err() == nil; script = script[4:] {
			h.Refill()
			h.send(ring.DescFlags(script[0]), script[1])
			// Mostly the descriptor that comes next, at times another, of either ring.
			which := script[2] & 3
			index := uint32(script[0] & 0x1f)
			if script[0]&0x20 == 0 && which <= body {
				index = uint32(h.rings[which].next)
			}
			h.write(index|uint32(script[0]&0xc0)<<8|uint32(which)<<compRing, uint32(script[1])*9, uint32(script[2])<<16)
			if script[3] < 64 {
				h.report(uint32(script[3]))
			} else {
				h.report(uint32((h.free + len(h.sent) - 1) % len(h.sent)))
			}
			for _, d := range ds[:h.RxBatch(ds)] {
				h.Arena.Data(d)
				h.Arena.Free(d.Frame) // panics where there is not one reference
			}
			h.Reclaim()
		}
		seen := map[ring.Frame]bool{}
		for i := range h.rings {
			r, n := &h.rings[i], 0
			for _, fr := range r.lent {
				if fr != ring.NoFrame {
					if n++; seen[fr] {
						t.Fatalf("frame %d is lent twice", fr)
					}
					seen[fr] = true
				}
			}
			if h.Err() == nil && n != r.out {
				t.Fatalf("ring %d: %d frames, %d lent", i, n, r.out)
			}
		}
		if h.Flight < 0 || h.Flight > hostileRing {
			t.Fatalf("%d descriptors on the ring", h.Flight)
		}
		held := h.Arena.Frames() - h.Arena.FreeFrames()
		if h.Err() == nil && held != len(seen)+h.Flight {
			t.Fatalf("%d frames held, %d lent, %d to be sent", held, len(seen), h.Flight)
		}
	})
}
