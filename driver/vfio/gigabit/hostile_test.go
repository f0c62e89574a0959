package gigabit

import (
	"testing"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/driver/vfio"
	"github.com/onload-go/onload/driver/vfio/nic"
	_ "github.com/onload-go/onload/internal/testlong" // go test ./... -long
	"github.com/onload-go/onload/ring"
)

// hostile is a queue whose device is the test.
type hostile struct {
	*Queue
	at int // the receive descriptor that the device writes next
}

const hostileRing = 16

type noLine struct{}

func (noLine) Enable()     {}
func (noLine) Disable()    {}
func (noLine) Lost() error { return nil }

func newHostile(t testing.TB, advanced bool) *hostile {
	t.Helper()
	a, err := ring.NewArena(64, 2048)
	if err != nil {
		t.Fatal(err)
	}
	dev := nic.Loose(a)
	dev.Traits = driver.Caps{
		MTU: 1500, RxRing: hostileRing, TxRing: hostileRing, MaxFrags: 8,
		TxCsum: true, TSO: 65535, TSOFrags: 16,
	}
	h := &hostile{Queue: &Queue{regs: make(vfio.Regs, 64), rxTail: 0, txTail: 32, advanced: advanced}}
	if _, err := h.Init(dev, noLine{}, h, false); err != nil {
		t.Fatal(err)
	}
	dev.Add(h, &h.Queue.Queue)
	nrx, ntx := slots(hostileRing), slots(2*hostileRing)
	h.rx, h.tx = make(vfio.Regs, nrx*descLen), make(vfio.Regs, ntx*descLen)
	h.remember(nrx, ntx)
	t.Cleanup(func() { _ = dev.Close() })
	return h
}

// write says that the device has filled the next descriptor.
func (h *hostile) write(status, length uint32) {
	h.rx.Put64(h.at*descLen, ^uint64(0)) // no address any more
	h.rx.Put64(h.at*descLen+rxStatus, uint64(status)|uint64(length)<<32)
	if h.at++; h.at == len(h.lent) {
		h.at = 0
	}
}

// A statement that a device must not make breaks the queue, and nothing else.
func TestHostileReceive(t *testing.T) {
	for name, tt := range map[string]struct {
		say  func(h *hostile)
		want error
	}{
		"longer than the buffer": {func(h *hostile) { h.write(statusDone|statusEnd, 2049) }, errLength},
		"far longer":             {func(h *hostile) { h.write(statusDone|statusEnd, 0xffff) }, errLength},
		"no length":              {func(h *hostile) { h.write(statusDone|statusEnd, 0) }, errLength},
		"second piece":           {func(h *hostile) { h.write(statusDone, 2048); h.write(statusDone|statusEnd, 4000) }, errLength},
		"no end": {func(h *hostile) {
			for range maxPieces {
				h.write(statusDone, 2048)
			}
		}, errEndless},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHostile(t, false)
			h.Refill()
			tt.say(h)
			if !h.RxPending() {
				t.Fatal("nothing pending")
			}
			if n := h.RxBatch(make([]ring.Desc, 8)); n != 0 || h.Err() != tt.want {
				t.Errorf("%d Descs, error %v, want %v", n, h.Err(), tt.want)
			}
			if h.RxPending() || h.Lacks() != 0 || h.Stats().BadDesc != 1 {
				t.Errorf("the queue goes on: %+v", h.Stats())
			}
		})
	}
}

// A descriptor that the device was not given is not looked at, and a packet with an
// error is dropped.
func TestHostileIgnored(t *testing.T) {
	h := newHostile(t, false)
	h.write(statusDone|statusEnd, 100)
	ds := make([]ring.Desc, 8)
	if n := h.RxBatch(ds); n != 0 || h.Err() != nil {
		t.Errorf("%d Descs of a descriptor that the device does not have, %v", n, h.Err())
	}
	h.at = 0
	h.Refill()
	free := h.Arena.FreeFrames()
	h.write(statusDone|statusEnd|errorReceive, 100)
	if n := h.RxBatch(ds); n != 0 || h.Err() != nil || h.Stats().RxInvalid != 1 || h.Arena.FreeFrames() != free+1 {
		t.Errorf("%d Descs of a packet with an error, %v, %+v", n, h.Err(), h.Stats())
	}
}

// FuzzDevice: whatever the device writes, no frame is lost or given twice, and
// nothing panics.
func FuzzDevice(f *testing.F) {
	f.Add([]byte{3, 100, 1, 3, 100, 1}, false)
	f.Add([]byte{1, 255, 0, 3, 4, 9, 0, 0, 255}, true)
	f.Fuzz(func(t *testing.T, script []byte, advanced bool) {
		h := newHostile(t, advanced)
		ds := make([]ring.Desc, 6)
		for ; len(script) >= 3 && h.Err() == nil; script = script[3:] {
			h.Refill()
			if fr, ok := h.Arena.Alloc(); ok {
				h.TxBatch([]ring.Desc{{
					Frame: fr, Off: ring.Headroom, Len: 80, Flags: ring.DescFlags(script[0]) &^ ring.FlagMore,
					NetOff: 14, CsumStart: 34, CsumOff: driver.TCPChecksum, HdrLen: 54, SegSize: uint16(script[1]),
				}})
				h.Arena.Release(fr)
				_ = h.Kick() // the loop looks at Err
			}
			h.write(uint32(script[0])|uint32(script[2])<<24, uint32(script[1])*16)
			h.tx.Put64(int(script[2])%len(h.sent)*descLen+8, uint64(script[0])<<32)
			for _, d := range ds[:h.RxBatch(ds)] {
				h.Arena.Data(d)
				h.Arena.Free(d.Frame) // panics where there is not one reference
			}
			h.Reclaim()
		}
		if h.Flight < 0 || h.pending < 0 || h.Flight > hostileRing {
			t.Fatalf("%d Descs, %d descriptors on the ring", h.Flight, h.pending)
		}
		seen := map[ring.Frame]bool{}
		for _, fr := range h.lent {
			if fr != ring.NoFrame && seen[fr] {
				t.Fatalf("frame %d is lent twice", fr)
			}
			seen[fr] = true
		}
		held := h.Arena.Frames() - h.Arena.FreeFrames()
		if h.Err() == nil && held != h.out+h.Flight {
			t.Fatalf("%d frames held, %d lent, %d to be sent", held, h.out, h.Flight)
		}
	})
}
