package vmxnet3

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
	filled place // completion that the device writes next
	gone   place // likewise, of what it has sent
}

const hostileRing = 16

type noLine struct{}

func (noLine) Enable()     {}
func (noLine) Disable()    {}
func (noLine) Lost() error { return nil }

func newHostile(t testing.TB, mtu int) *hostile {
	t.Helper()
	a, err := ring.NewArena(96, 2048)
	if err != nil {
		t.Fatal(err)
	}
	dev := nic.Loose(a)
	q := &Queue{fast: make(vfio.Regs, 4096), shared: make(vfio.Regs, sharedArea)}
	h := &hostile{Queue: q, filled: place{0, firstGen}, gone: place{0, firstGen}}
	h.MaxSegment = maxMSS
	if _, err := h.Init(dev, noLine{}, h, false); err != nil {
		t.Fatal(err)
	}
	dev.Add(h, &h.Queue.Queue)
	q.prepare(&nic.Config{RxRing: hostileRing, TxRing: hostileRing, MTU: mtu})
	dev.Traits = driver.Caps{
		MTU: mtu, RxRing: q.rings[head].most + q.rings[body].most, TxRing: hostileRing, MaxFrags: 8,
		TxCsum: true, TSO: 65535, TSOFrags: 16,
	}
	for i := range q.rings {
		q.rings[i].desc = make(vfio.Regs, len(q.rings[i].lent)*descLen)
	}
	q.comp = make(vfio.Regs, q.compLen*descLen)
	q.tx, q.done = make(vfio.Regs, len(q.sent)*descLen), make(vfio.Regs, len(q.sent)*descLen)
	t.Cleanup(func() { _ = dev.Close() })
	return h
}

// write says that the device has filled a buffer.
func (h *hostile) write(first, length, flags uint32) {
	at := h.filled.at * descLen
	h.comp.Write32(at, first)
	h.comp.Write32(at+compLength, length)
	h.comp.Write32(at+compFlags, flags&^(1<<compGen)|h.filled.gen<<compGen)
	h.filled = h.after(h.filled)
}

// report says that the device has sent the packet that ends at a descriptor.
func (h *hostile) report(last uint32) {
	at := h.gone.at * descLen
	h.done.Write32(at, last)
	h.done.Write32(at+doneFlags, h.gone.gen<<compGen)
	if h.gone.at++; h.gone.at == len(h.sent) {
		h.gone.at, h.gone.gen = 0, h.gone.gen^1
	}
}

const only = compStart | compEnd

// A statement that a device must not make breaks the queue, and nothing else.
func TestHostileReceive(t *testing.T) {
	const bodies = body << compRing
	for name, tt := range map[string]struct {
		say  func(h *hostile)
		want error
	}{
		"longer than the buffer": {func(h *hostile) { h.write(only, 2049, 0) }, errLength},
		"far longer":             {func(h *hostile) { h.write(only, lengthBits, 0) }, errLength},
		"second piece":           {func(h *hostile) { h.write(compStart, 2048, 0); h.write(compEnd|bodies, 4000, 0) }, errLength},
		"no beginning":           {func(h *hostile) { h.write(compEnd, 100, 0) }, errStart},
		"two beginnings":         {func(h *hostile) { h.write(compStart, 100, 0); h.write(only|1, 100, 0) }, errStart},
		"beyond what it has":     {func(h *hostile) { h.write(only|hostileRing, 100, 0) }, errNoFrame},
		"beyond the ring":        {func(h *hostile) { h.write(only|compIndex, 100, 0) }, errNoFrame},
		"the same twice":         {func(h *hostile) { h.write(compStart|3, 100, 0); h.write(compEnd|3, 100, 0) }, errNoFrame},
		"one that it went past":  {func(h *hostile) { h.write(compStart|3, 100, 0); h.write(compEnd|2, 100, 0) }, errNoFrame},
		"a third ring":           {func(h *hostile) { h.write(only|2<<compRing, 100, 0) }, errNoFrame},
		"the last ring":          {func(h *hostile) { h.write(only|ringBits<<compRing, 100, 0) }, errNoFrame},
		"no end": {func(h *hostile) {
			h.write(compStart, 2048, 0)
			for i := range uint32(h.pieces) {
				h.write(bodies|i, 2048, 0)
			}
		}, errEndless},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHostile(t, 9000)
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

// A link whose packets fit into one buffer gives the device no others.
func TestOneBuffer(t *testing.T) {
	h := newHostile(t, 1500)
	if h.Refill(); h.rings[body].out != 0 || h.rings[head].out != hostileRing || h.Lacks() != 0 {
		t.Errorf("%d bodies, %d heads, %d lacking", h.rings[body].out, h.rings[head].out, h.Lacks())
	}
	h.write(compEnd|compStart|body<<compRing, 100, 0)
	if n := h.RxBatch(make([]ring.Desc, 8)); n != 0 || h.Err() != errNoFrame {
		t.Errorf("%d Descs, %v", n, h.Err())
	}
}

// A packet with an error is dropped, and so is one without length; frames that the device
// went past are free.
func TestHostileDropped(t *testing.T) {
	h := newHostile(t, 9000)
	h.Refill()
	free := h.Arena.FreeFrames()
	ds := make([]ring.Desc, 8)
	h.write(only, 100|compError, 0)
	h.write(only|1, 0, 0)
	if n := h.RxBatch(ds); n != 0 || h.Err() != nil || h.Stats().RxInvalid != 2 || h.Arena.FreeFrames() != free+2 {
		t.Fatalf("%d Descs, %v, %+v", n, h.Err(), h.Stats())
	}
	h.Refill()
	h.write(only|5, 100, 0)
	if n := h.RxBatch(ds); n != 1 || h.Err() != nil || h.Lacks() != 4 {
		t.Fatalf("%d Descs, %v, %d lacking", n, h.Err(), h.Lacks())
	}
	h.Arena.Free(ds[0].Frame)
	if h.Refill(); h.Lacks() != 0 || h.Arena.FreeFrames() != free {
		t.Errorf("%d lacking, %d frames free, %d before", h.Lacks(), h.Arena.FreeFrames(), free)
	}
}

// Only what the device has verified as a whole counts as verified.
func TestVerified(t *testing.T) {
	const tcp4 = flagL4 | flagTCP | flagIP
	for flags, want := range map[uint32]bool{
		tcp4: true, flagL4 | flagUDP | flagIP: true, flagL4 | flagTCP | flagV6: true,
		tcp4 &^ flagL4: false, tcp4 &^ flagIP: false, tcp4 &^ flagTCP: false, tcp4 | flagPiece: false, 0: false,
	} {
		h := newHostile(t, 1500)
		h.Refill()
		h.write(only, 100, flags)
		h.write(only|1|compNoSum, 100, flags)
		ds := make([]ring.Desc, 8)
		if n := h.RxBatch(ds); n != 2 || (ds[0].Flags&ring.FlagCsumGood != 0) != want || ds[1].Flags != 0 {
			t.Errorf("%#x: %d Descs, %+v, want %v", flags, n, ds[:2], want)
		}
	}
}
