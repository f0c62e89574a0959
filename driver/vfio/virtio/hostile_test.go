package virtio

import (
	"encoding/binary"
	"testing"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/driver/steer"
	"github.com/onload-go/onload/driver/vfio"
	_ "github.com/onload-go/onload/internal/testlong" // go test ./... -long
	"github.com/onload-go/onload/ring"
)

// hostile is a queue whose device is the test.
type hostile struct {
	*Queue
	in, out virtqueue
	used    [2]uint16 // how many were used of the receive and the transmit ring
}

const hostileSize = 16

// heap makes memory that no device sees.
type heap struct{}

func (heap) Alloc(n int) (vfio.Regs, uint64, error) { return make(vfio.Regs, n), 1 << 32, nil }

func newHostile(t testing.TB, layout uint64) *hostile {
	t.Helper()
	a, err := ring.NewArena(64, 2048)
	if err != nil {
		t.Fatal(err)
	}
	d := &Device{Table: steer.New(), arena: a, features: layout | featMergeBuffers | featGuestCsum | featGuestTSO}
	d.caps = driver.Caps{MTU: 1500, MaxFrags: 1}
	d.up.Store(true)
	h := &hostile{Queue: &Queue{dev: d, arena: a, fd: -1}}
	for i, v := range []*virtqueue{&h.in, &h.out} {
		if *v, err = newVirtqueue(heap{}, hostileSize, 1, d.features); err != nil {
			t.Fatal(err)
		}
		p := (*v).where()
		p.index, p.bell = uint16(i), make(vfio.Regs, 2)
	}
	h.rx, h.tx = h.in, h.out
	h.prepare()
	t.Cleanup(func() { _ = a.Close() })
	return h
}

// use says that the device has used a buffer. It is shown by show.
func (h *hostile) use(v virtqueue, id, n uint32) {
	p := v.where()
	used := h.used[p.index]
	h.used[p.index]++
	switch v := v.(type) {
	case *split:
		at := v.used + 4 + usedLen*(int(used)&(v.size-1))
		binary.NativeEndian.PutUint32(v.mem[at:], id)
		binary.NativeEndian.PutUint32(v.mem[at+4:], n)
	case *packed: // shown at once
		at, flags := descLen*(int(used)%v.size), uint32(0)
		if int(used)/v.size%2 == 0 {
			flags = packedAvail | packedUsed
		}
		binary.NativeEndian.PutUint32(v.mem[at+8:], n)
		v.mem.Store32(at+12, id&0xffff|flags<<16)
	}
}

func (h *hostile) show(v virtqueue) {
	if v, ok := v.(*split); ok {
		v.mem.Store32(v.used, uint32(h.used[v.index])<<16)
	}
}

var layouts = map[string]uint64{"split": 0, "packed": featPacked}

// merged writes the number of buffers into the buffer of a descriptor.
func (h *hostile) merged(id uint32, n uint16) {
	h.header(id, headerMerged, byte(n))
	h.header(id, headerMerged+1, byte(n>>8))
}

// header writes a byte of the header of a buffer.
func (h *hostile) header(id uint32, at int, b byte) { h.arena.Bytes(h.lent[id])[rxStart+at] = b }

// A statement that a device must not make breaks the queue, and nothing else.
func TestHostileReceive(t *testing.T) {
	const room = 2048 - rxStart
	for name, tt := range map[string]struct {
		say  func(h *hostile)
		want error
	}{
		"no such descriptor":     {func(h *hostile) { h.use(h.in, hostileSize, 100) }, errBadUsed},
		"descriptor far outside": {func(h *hostile) { h.use(h.in, 1<<15, 100) }, errBadUsed},
		"twice":                  {func(h *hostile) { h.merged(3, 2); h.use(h.in, 3, 100); h.use(h.in, 3, 100) }, errBadUsed},
		"longer than the buffer": {func(h *hostile) { h.merged(3, 1); h.use(h.in, 3, room+1) }, errBadLen},
		"no length":              {func(h *hostile) { h.merged(3, 1); h.use(h.in, 3, 0) }, errBadLen},
		"a header alone":         {func(h *hostile) { h.merged(3, 1); h.use(h.in, 3, headerLen) }, errBadLen},
		"no buffers":             {func(h *hostile) { h.merged(3, 0); h.use(h.in, 3, 100) }, errCut},
		"far too many buffers":   {func(h *hostile) { h.merged(3, 0xffff); h.use(h.in, 3, 100) }, errCut},
		"no such segments":       {func(h *hostile) { h.header(3, headerGSO, 3); h.use(h.in, 3, 100) }, errNotAgree},
		"more buffers than used": {func(h *hostile) { h.merged(3, 2); h.use(h.in, 3, 100) }, errCut},
	} {
		both(t, name, func(t *testing.T, layout uint64) {
			h := newHostile(t, layout)
			h.Refill()
			tt.say(h)
			h.show(h.in)
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
	both(t, "more used than the device has", func(t *testing.T, layout uint64) {
		h := newHostile(t, layout)
		h.Refill()
		for id := range uint32(hostileSize) {
			h.merged(id, 1)
			h.use(h.in, id, 100)
		}
		h.show(h.in)
		if n := h.RxBatch(make([]ring.Desc, 2*hostileSize)); n != 0 || h.Lacks() != hostileSize {
			t.Fatalf("%d Descs of nobody's, %d buffers lack", n, h.Lacks())
		}
		h.use(h.in, 3, 100)
		h.show(h.in)
		h.RxBatch(make([]ring.Desc, 2*hostileSize))
		if h.Err() != errTooMuch {
			t.Error(h.Err())
		}
	})
}

func both(t *testing.T, name string, test func(t *testing.T, layout uint64)) {
	for layout, f := range layouts {
		t.Run(name+"/"+layout, func(t *testing.T) { test(t, f) })
	}
}

func TestHostileTransmit(t *testing.T) {
	for name, id := range map[string]uint32{"never sent": 9, "outside": hostileSize} {
		both(t, name, func(t *testing.T, layout uint64) {
			h := newHostile(t, layout)
			f, _ := h.arena.Alloc()
			if n := h.TxBatch([]ring.Desc{{Frame: f, Off: ring.Headroom, Len: 60}}); n != 1 || h.Kick() != nil {
				t.Fatal(n, h.Err())
			}
			h.use(h.out, id, 0)
			h.show(h.out)
			if h.Reclaim(); h.Err() != errBadUsed || !h.arena.InNIC(f) {
				t.Errorf("error %v", h.Err())
			}
		})
	}
}

// FuzzDevice: whatever the device writes, no frame is lost or given twice, and
// nothing panics.
func FuzzDevice(f *testing.F) {
	f.Add([]byte{3, 100, 1, 4, 100, 1})
	f.Add([]byte{3, 100, 2, 4, 100, 0, 3, 100, 1})
	f.Fuzz(func(t *testing.T, script []byte) {
		for _, layout := range layouts {
			fuzz(t, layout, script)
		}
	})
}

func fuzz(t *testing.T, layout uint64, script []byte) {
	h := newHostile(t, layout)
	ds := make([]ring.Desc, 4)
	for ; len(script) >= 3 && h.Err() == nil; script = script[3:] {
		h.Refill()
		if fr, ok := h.arena.Alloc(); ok {
			h.TxBatch([]ring.Desc{{Frame: fr, Off: ring.Headroom, Len: 60}})
			h.arena.Release(fr)
			_ = h.Kick() // the loop looks at Err
		}
		id, size := uint32(script[0]), uint32(script[1])*16
		if id < hostileSize && h.lent[id] != ring.NoFrame {
			h.merged(id, uint16(script[2]&3))
		}
		h.use(h.in, id, size)
		h.use(h.out, uint32(script[2]>>2), 0)
		if script[2]&2 == 0 {
			h.show(h.in)
		}
		h.show(h.out)
		for _, d := range ds[:h.RxBatch(ds)] {
			h.arena.Data(d)
			h.arena.Free(d.Frame) // panics where there is not one reference
		}
		h.Reclaim()
	}
	seen := map[ring.Frame]bool{}
	for _, fr := range h.lent {
		if fr != ring.NoFrame && seen[fr] {
			t.Fatalf("frame %d is lent twice", fr)
		}
		seen[fr] = true
	}
}
