package udp

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"testing"

	"github.com/onload-go/onload/ring"
)

const frameSize = 2048

func newQueue(t testing.TB, frames, limit int) (*Queue, *ring.Arena) {
	a, err := ring.NewArena(frames, frameSize)
	if err != nil {
		t.Fatal(err)
	}
	q := new(Queue)
	q.Init(a, limit)
	return q, a
}

// pieces puts a payload into frames as a device would, headers in front.
func pieces(t testing.TB, a *ring.Arena, p []byte) (ds []ring.Desc) {
	off := 62 // Ethernet, IPv6, UDP
	for {
		f, ok := a.Alloc()
		if !ok {
			t.Fatal("no frame")
		}
		n := copy(a.Bytes(f)[off:], p)
		p = p[n:]
		ds = append(ds, ring.Desc{Frame: f, Off: uint16(off), Len: uint16(n), Flags: ring.FlagMore})
		off = 0
		if len(p) == 0 {
			ds[len(ds)-1].Flags = 0
			return ds
		}
	}
}

func free(a *ring.Arena, ds []ring.Desc) {
	for _, d := range ds {
		a.Free(d.Frame)
	}
}

var (
	local4  = netip.MustParseAddrPort("192.0.2.1:53")
	remote4 = netip.MustParseAddrPort("198.51.100.7:40000")
	local6  = netip.MustParseAddrPort("[2001:db8::1]:53")
	remote6 = netip.MustParseAddrPort("[2001:db8:1::7]:65535")

	info4 = &Info{Src: remote4, Dst: local4}
	info6 = &Info{Src: remote6, Dst: local6, At: 1 << 60, Link: 1 << 31, TTL: 255, TOS: 3}
)

// readOne is Read for tests that look at few of its results.
func readOne(q *Queue, p []byte) (n, full int, src netip.AddrPort, ok bool) {
	var info Info
	n, full, ok = q.Read(p, &info, false)
	return n, full, info.Src, ok
}

// datagram is a payload that tells its number and length.
func datagram(i, n int) []byte {
	b := bytes.Repeat([]byte{byte(i)}, n)
	if n >= 8 {
		binary.BigEndian.PutUint64(b, uint64(i))
	}
	return b
}

// sizes are those of a mixed load: many small ones, empty ones, chains.
func size(r *rand.Rand) int {
	switch r.IntN(20) {
	case 0:
		return 0
	case 1:
		return r.IntN(65508)
	case 2, 3:
		return r.IntN(3 * frameSize)
	}
	return r.IntN(400)
}

func TestQueueOrder(t *testing.T) {
	q, a := newQueue(t, 4096, 1000*frameSize)
	r := rand.New(rand.NewPCG(1, 1))
	type entry struct {
		p    []byte
		info *Info
	}
	var model []entry
	buf := make([]byte, 65536)
	packed := false
	for i := range 30_000 {
		if (i/3000)&1 == 0 || r.IntN(3) == 0 { // fill for a while, then read faster
			e := entry{datagram(i, size(r)), info4}
			if i&1 != 0 {
				e.info = info6
			}
			ds := pieces(t, a, e.p)
			if q.Push(ds, e.info) {
				model = append(model, e)
			} else {
				free(a, ds)
			}
			if q.Held() > 1000*frameSize {
				t.Fatalf("%d bytes held", q.Held())
			}
			continue
		}
		var info Info
		n, full, ok := q.Read(buf, &info, false)
		if ok != (len(model) > 0) {
			t.Fatalf("read: %v, %d queued", ok, len(model))
		}
		if !ok {
			continue
		}
		packed = packed || q.pos > 0
		e := model[0]
		model = model[1:]
		if n != len(e.p) || full != n || !bytes.Equal(buf[:n], e.p) || info != *e.info {
			t.Fatalf("got %d bytes with %+v, want %d with %+v", n, info, len(e.p), *e.info)
		}
		if q.Ready() != (len(model) > 0) {
			t.Fatalf("ready is %v, %d queued", q.Ready(), len(model))
		}
	}
	if !packed {
		t.Error("nothing was packed")
	}
	q.Drain()
	if q.Ready() || q.Held() != 0 || a.FreeFrames() != a.Frames() {
		t.Errorf("after Drain: %d held, %d of %d frames free", q.Held(), a.FreeFrames(), a.Frames())
	}
}

func TestQueueTruncates(t *testing.T) {
	q, a := newQueue(t, 64, 1<<20)
	for _, n := range []int{0, 1, 100, 5000} {
		for _, room := range []int{0, 1, 99, 2006, 2007, 4999, 6000} {
			p := datagram(7, n)
			if !q.Push(pieces(t, a, p), info4) {
				t.Fatal("full")
			}
			buf := make([]byte, room)
			got, full, src, ok := readOne(q, buf)
			if !ok || got != min(n, room) || full != n || src != remote4 || !bytes.Equal(buf[:got], p[:got]) {
				t.Errorf("%d bytes into %d: %d of %d, %v", n, room, got, full, ok)
			}
			if q.Ready() {
				t.Fatal("the rest was not dropped")
			}
		}
	}
	if a.FreeFrames() != a.Frames() {
		t.Errorf("%d frames lost", a.Frames()-a.FreeFrames())
	}
}

// TestQueueLimit: datagrams of one byte count whole frames until they are packed, so
// that they cannot hold more memory than big ones; packed they are many.
func TestQueueLimit(t *testing.T) {
	const limit = 16 * frameSize
	q, a := newQueue(t, 256, limit)
	n := 0
	for {
		ds := pieces(t, a, []byte{byte(n)})
		if !q.Push(ds, info4) {
			free(a, ds)
			break
		}
		n++
		if used := a.Frames() - a.FreeFrames(); used > 17 || q.Held() > limit {
			t.Fatalf("%d frames in use, %d bytes held", used, q.Held())
		}
	}
	if n < 16*40 {
		t.Errorf("only %d datagrams of one byte in %d bytes", n, limit)
	}
	for i := range n {
		var b [1]byte
		if _, full, _, ok := readOne(q, b[:]); !ok || full != 1 || b[0] != byte(i) {
			t.Fatalf("datagram %d: %v, %d", i, ok, b[0])
		}
	}
	// A big one counts its bytes and what the kernel adds to a buffer. An empty queue
	// takes one whatever its size.
	for n = 0; ; n++ {
		ds := pieces(t, a, make([]byte, 1400))
		if !q.Push(ds, info4) {
			free(a, ds)
			break
		}
	}
	if want := limit / (1400 + frameOverhead); n != want {
		t.Errorf("%d datagrams of 1400 bytes, want %d", n, want)
	}
	q.Drain()
	q.SetLimit(1)
	if !q.Push(pieces(t, a, make([]byte, 60_000)), info4) {
		t.Error("an empty queue refuses")
	}
	ds := pieces(t, a, nil)
	if q.Push(ds, info4) {
		t.Error("beyond the limit")
	}
	free(a, ds)
	q.Drain()
	ds = pieces(t, a, []byte{1})
	ds[0].Off = MinRoom4 - 1
	if q.Push(ds, info4) {
		t.Error("no room for the addresses, and yet taken")
	}
	free(a, ds)
	if a.FreeFrames() != a.Frames() {
		t.Errorf("%d frames lost", a.Frames()-a.FreeFrames())
	}
}

// A producer and a reader at once: everything that was taken arrives, in
// order, and a reader that waits for Ready alone misses nothing.
func TestQueueConcurrent(t *testing.T) {
	const limit = 100 * frameSize
	q, a := newQueue(t, 512, limit)
	count := 60_000
	if testing.Short() {
		count = 10_000
	}
	taken := make(chan int, 1)
	go func() {
		r := rand.New(rand.NewPCG(2, 2))
		n := 0
		for i := range count {
			k := 8 + size(r)%6000
			if i%1000 < 700 { // bursts of small ones
				k = 8 + r.IntN(60)
			}
			ds := pieces(t, a, datagram(n, k))
			if q.Push(ds, info6) {
				n++
			} else {
				free(a, ds)
				runtime.Gosched()
			}
		}
		taken <- n
	}()
	buf := make([]byte, 65536)
	want, total := 0, -1
	for total != want {
		if !q.Ready() {
			select {
			case total = <-taken:
			default:
				runtime.Gosched()
			}
			if total >= 0 && !q.Ready() && total != want {
				t.Fatalf("not ready, %d of %d read", want, total)
			}
			continue
		}
		var info Info
		n, full, ok := q.Read(buf, &info, false)
		if !ok {
			continue
		}
		i := int(binary.BigEndian.Uint64(buf))
		if i != want || n != full || info != *info6 || !bytes.Equal(buf[8:n], bytes.Repeat([]byte{byte(i)}, n-8)) {
			t.Fatalf("datagram %d of %d bytes from %v, want %d", i, n, info.Src, want)
		}
		want++
	}
	if want < count/10 {
		t.Errorf("only %d of %d were taken", want, count)
	}
	if q.Held() != 0 || a.FreeFrames() != a.Frames() {
		t.Errorf("%d held, %d frames lost", q.Held(), a.Frames()-a.FreeFrames())
	}
}

func TestQueueAllocs(t *testing.T) {
	q, a := newQueue(t, 64, 1<<20)
	buf := make([]byte, 8000)
	ds := make([]ring.Desc, 3)
	if n := testing.AllocsPerRun(200, func() {
		for range 70 / 3 {
			for i := range ds {
				f, _ := a.Alloc()
				ds[i] = ring.Desc{Frame: f, Off: 100, Len: 50}
			}
			q.Push(ds[:1], info4)
			q.Push(ds[1:], info6)
			if _, full, _, _ := readOne(q, buf); full != 50 {
				t.Fatal(full)
			}
			if _, full, _, _ := readOne(q, buf); full != 100 {
				t.Fatal(full)
			}
		}
		for range 60 {
			f, _ := a.Alloc()
			ds[0] = ring.Desc{Frame: f, Off: 100, Len: 50}
			q.Push(ds[:1], info4)
		}
		q.pack()
		q.Drain()
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzQueue(f *testing.F) {
	f.Add([]byte{1, 2, 0, 255, 0, 0, 40, 41, 42})
	f.Add(bytes.Repeat([]byte{4, 4, 4, 255, 0, 4}, 40))
	_, a := newQueue(f, 2048, 0)
	f.Fuzz(func(t *testing.T, ops []byte) {
		if len(ops) > 1500 {
			return
		}
		var q Queue
		q.Init(a, 30*frameSize)
		pushed, read := 0, 0
		var lens []int
		buf := make([]byte, 65536)
		for _, op := range ops {
			if op&3 == 3 {
				n, full, _, ok := readOne(&q, buf)
				if ok != (read < pushed) {
					t.Fatalf("%d of %d read, and then %v", read, pushed, ok)
				}
				if ok {
					if full != lens[read] || n != full || !bytes.Equal(buf[:n], datagram(read, n)) {
						t.Fatalf("datagram %d: %d bytes, not %d", read, full, lens[read])
					}
					read++
				}
				continue
			}
			k := int(op>>2) * int(op>>2) // up to 3969
			ds := pieces(t, a, datagram(pushed, k))
			if q.Push(ds, info4) {
				pushed++
				lens = append(lens, k)
			} else {
				free(a, ds)
			}
		}
		q.Drain()
		if q.Held() != 0 || a.FreeFrames() != a.Frames() {
			t.Fatalf("%d held, %d frames lost", q.Held(), a.Frames()-a.FreeFrames())
		}
	})
}

func BenchmarkQueue(b *testing.B) {
	q, a := newQueue(b, 64, 1<<20)
	buf := make([]byte, 1500)
	ds := make([]ring.Desc, 1)
	for b.Loop() {
		f, _ := a.Alloc()
		ds[0] = ring.Desc{Frame: f, Off: 42, Len: 64}
		q.Push(ds, info4)
		readOne(q, buf)
	}
}

// A queue that nobody reads: most of the cost is packing.
func BenchmarkQueueFull(b *testing.B) {
	q, a := newQueue(b, 512, 256*frameSize)
	ds := make([]ring.Desc, 1)
	b.ReportAllocs()
	for b.Loop() {
		f, _ := a.Alloc()
		ds[0] = ring.Desc{Frame: f, Off: 42, Len: 64}
		if !q.Push(ds, info4) {
			a.Free(f)
			q.Drain()
		}
	}
}
