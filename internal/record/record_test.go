package record

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"

	"golang.org/x/net/bpf"

	"github.com/onload-go/onload/driver"
	_ "github.com/onload-go/onload/internal/testlong" // go test ./... -long
	"github.com/onload-go/onload/ring"
)

// bench is a Tap, with an arena for its packets.
type bench struct {
	*Tap
	mem   []byte
	in    Reader
	point *driver.TapPoint
}

func newBench(t *testing.T, size int, o Options) *bench {
	t.Helper()
	a, err := ring.NewArena(256, 2048)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	b := &bench{mem: make([]byte, Size(size)), point: &driver.TapPoint{Interface: "eth7", Number: 0, Queue: 3, Arena: a}}
	if b.Tap, err = NewTap(b.mem, []string{"eth7"}, &o); err != nil {
		t.Fatal(err)
	}
	if !b.in.Add(b.mem, "") {
		t.Fatal("the Reader does not take the ring")
	}
	return b
}

// packet puts p into frames of at most most bytes. The caller frees them.
func (b *bench) packet(t *testing.T, p []byte, most int) (ds []ring.Desc) {
	t.Helper()
	for first := true; first || len(p) > 0; first = false {
		f, ok := b.point.Arena.Alloc()
		if !ok {
			t.Fatal("no frame")
		}
		n := copy(b.point.Arena.Bytes(f)[64:], p[:min(len(p), most)])
		p = p[n:]
		ds = append(ds, ring.Desc{Frame: f, Off: 64, Len: uint16(n), Flags: ring.FlagMore})
	}
	ds[len(ds)-1].Flags = 0
	return ds
}

func (b *bench) free(ds []ring.Desc) {
	for _, d := range ds {
		b.point.Arena.Free(d.Frame)
	}
}

func pattern(n int, seed byte) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(i)*3 + seed
	}
	return p
}

// What is read is what was recorded, in order, around the end of the ring many times.
func TestRing(t *testing.T) {
	b := newBench(t, 1<<14, Options{SnapLen: 3000})
	type want struct {
		data   []byte
		length int
		out    bool
		why    string
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	var wants []want
	var last int64
	check := func() {
		for _, w := range wants {
			p, ok := b.in.Next(All)
			if !ok {
				t.Fatal("a packet is missing")
			}
			if !bytes.Equal(p.Data, w.data) || p.Length != w.length || p.Out != w.out || p.Why != w.why ||
				p.Name != "eth7" || p.Queue != 3 || p.Time < last {
				t.Fatalf("%d of %d bytes, out %v, %q, %s", len(p.Data), p.Length, p.Out, p.Why, p.Name)
			}
			last = p.Time
		}
		if p, ok := b.in.Next(All); ok {
			t.Fatalf("a packet too many: %+v", p)
		}
		wants = wants[:0]
	}
	for i := range 500 {
		full := pattern(1+rnd.IntN(4000), byte(i))
		ds := b.packet(t, full, 20+rnd.IntN(1500))
		w := want{full[:min(len(full), 3000)], len(full), i%2 == 0, ""}
		if w.out {
			b.Sent(b.point, ds)
		} else {
			b.Received(b.point, ds)
			if len(wants) == 0 {
				if _, ok := b.in.Next(All); ok {
					t.Fatal("a packet shows before its fate is known")
				}
			}
			if i%3 == 0 {
				w.why = fmt.Sprint("reason ", i%5)
				b.Dropped(ds[0].Frame, w.why)
			}
			b.Done()
		}
		b.free(ds)
		wants = append(wants, w)
		if i%3 != 1 {
			check()
		}
	}
	check()
	if b.in.Lost() != 0 || b.in.Err() != nil {
		t.Error(b.in.Lost(), b.in.Err())
	}
}

// A full ring loses packets and counts them; what a reader writes to its head harms
// nobody.
func TestRingFull(t *testing.T) {
	b := newBench(t, 1<<12, Options{})
	ds := b.packet(t, pattern(500, 0), 500)
	defer b.free(ds)
	fill := func() {
		for range 20 {
			b.Sent(b.point, ds)
		}
	}
	fill()
	n := 0
	for p, ok := b.in.Next(All); ok; p, ok = b.in.Next(All) {
		if len(p.Data) != 500 {
			t.Fatalf("%d bytes", len(p.Data))
		}
		n++
	}
	if lost := b.in.Lost(); n == 0 || lost == 0 || uint64(n)+lost != 20 {
		t.Errorf("%d read, %d lost of 20", n, lost)
	}
	for _, wrong := range []uint64{1 << 63, ^uint64(0), b.next + 8, b.next - uint64(len(b.m.data)) - 8} {
		b.m.head.Store(wrong)
		was := b.next
		fill()
		if b.next != was {
			t.Errorf("head %d: written", wrong)
		}
	}
}

// With NoMatch only packets that met no socket are there.
func TestNoMatch(t *testing.T) {
	b := newBench(t, 1<<12, Options{NoMatch: true})
	for i := range 300 {
		var ds []ring.Desc
		for k := range 3 {
			ds = append(ds, b.packet(t, pattern(100, byte(3*i+k)), 100)...)
		}
		b.Received(b.point, ds)
		b.Sent(b.point, ds[:1])
		b.Dropped(ds[0].Frame, "wrong checksum")
		if i%10 == 0 {
			b.Dropped(ds[2].Frame, driver.DropNoSocket)
		}
		b.Done()
		b.free(ds)
		p, ok := b.in.Next(All)
		if ok != (i%10 == 0) {
			t.Fatalf("batch %d: a packet: %v", i, ok)
		}
		if ok && (!bytes.Equal(p.Data, pattern(100, byte(3*i+2))) || p.Why != driver.DropNoSocket || p.Out) {
			t.Fatalf("batch %d: %+v", i, p)
		}
		if p, ok := b.in.Next(All); ok {
			t.Fatalf("batch %d: another packet, %+v", i, p)
		}
	}
	if b.in.Lost() != 0 {
		t.Errorf("%d lost: what met a socket took room", b.in.Lost())
	}
}

// A filter sees whole packets, also of several frames.
func TestFilter(t *testing.T) {
	raw, err := bpf.Assemble([]bpf.Instruction{
		bpf.LoadAbsolute{Off: 150, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: 7, SkipFalse: 1},
		bpf.RetConstant{Val: 1},
		bpf.RetConstant{Val: 0},
	})
	if err != nil {
		t.Fatal(err)
	}
	b := newBench(t, 1<<14, Options{Filter: raw, Interface: "eth7"})
	for _, c := range []struct {
		at   byte
		n    int
		pass bool
	}{{7, 200, true}, {8, 200, false}, {7, 150, false}} {
		p := make([]byte, 200)
		p[150] = c.at
		ds := b.packet(t, p[:c.n], 60)
		b.Sent(b.point, ds)
		b.Sent(&driver.TapPoint{Interface: "eth8", Number: 1, Arena: b.point.Arena}, ds)
		b.free(ds)
		if _, ok := b.in.Next(All); ok != c.pass {
			t.Errorf("%+v: passed: %v", c, ok)
		}
		if _, ok := b.in.Next(All); ok {
			t.Error("a packet of another interface")
		}
	}
	for _, wrong := range [][]bpf.RawInstruction{{}, {{Op: 0xffff}}, {{Op: 0x20, K: 0}}, make([]bpf.RawInstruction, MostInstructions+1)} {
		if _, err := NewTap(make([]byte, Size(4096)), nil, &Options{Filter: wrong}); err == nil {
			t.Errorf("a filter of %d instructions was taken", len(wrong))
		}
	}
}

// Several rings are read in the order of time, as far as the horizon.
func TestMerge(t *testing.T) {
	a := newBench(t, 1<<12, Options{})
	c := newBench(t, 1<<12, Options{})
	a.in.Add(c.mem, "")
	var times []int64
	for i := range 10 {
		b := []*bench{a, c}[i%2]
		ds := b.packet(t, pattern(60, byte(i)), 60)
		b.Sent(b.point, ds)
		b.free(ds)
	}
	for i := range 10 {
		if i == 5 {
			if _, ok := a.in.Next(times[4]); ok {
				t.Error("a packet from behind the horizon")
			}
		}
		p, ok := a.in.Next(All)
		if !ok || !bytes.Equal(p.Data, pattern(60, byte(i))) {
			t.Fatalf("packet %d", i)
		}
		times = append(times, p.Time)
	}
}

// A writer that writes nonsense is not followed.
func TestHostileWriter(t *testing.T) {
	first := padded(len("eth7")) // the place of the packet
	for _, size := range []uint32{0, 8, uint32(padded(60)) - 8, uint32(padded(60)) + 8, uint32(padded(60)) + 1, 1 << 20, 1<<32 - 8} {
		b := newBench(t, 1<<12, Options{})
		ds := b.packet(t, pattern(60, 1), 60)
		b.Sent(b.point, ds)
		b.free(ds)
		binary.LittleEndian.PutUint32(b.mem[headSize+first+atSize:], size)
		if p, ok := b.in.Next(All); ok || b.in.Err() == nil {
			t.Errorf("size %d: %+v, %v", size, p, b.in.Err())
		}
	}
}
