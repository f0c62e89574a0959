package ring

import (
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"unsafe"
)

func newTestArena(t testing.TB, frames int) *Arena {
	t.Helper()
	a, err := NewArena(frames, 2048)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	return a
}

func TestMetaSize(t *testing.T) {
	if n := unsafe.Sizeof(Meta{}); n != 64 {
		t.Errorf("Meta has %d bytes, want one cache line", n)
	}
	if n := unsafe.Sizeof(Desc{}); n != 20 {
		t.Errorf("Desc has %d bytes", n)
	}
}

// all takes every frame and checks that each is there once.
func all(t *testing.T, a *Arena) {
	t.Helper()
	if n := a.FreeFrames(); n != a.Frames() {
		t.Errorf("%d of %d frames free", n, a.Frames())
	}
	seen := make([]bool, a.Frames())
	fs := make([]Frame, 0, a.Frames())
	for {
		f, ok := a.Alloc()
		if !ok {
			break
		}
		if seen[f] {
			t.Fatalf("frame %d handed out twice", f)
		}
		seen[f] = true
		fs = append(fs, f)
	}
	if len(fs) != a.Frames() {
		t.Errorf("%d of %d frames left: lost", len(fs), a.Frames())
	}
	if n := a.FreeFrames(); n != 0 {
		t.Errorf("FreeFrames is %d with all taken", n)
	}
	a.FreeN(fs)
}

func TestArenaBounds(t *testing.T) {
	for _, bad := range [][2]int{{16, 1024}, {16, 3000}, {0, 2048}, {-1, 2048}} {
		if _, err := NewArena(bad[0], bad[1]); err == nil {
			t.Errorf("NewArena(%d, %d) succeeded", bad[0], bad[1])
		}
	}
	for _, size := range []int{2048, 4096} {
		a, err := NewArena(8, size)
		if err != nil {
			t.Fatal(err)
		}
		for f := range Frame(8) {
			b := a.Bytes(f)
			if len(b) != size || cap(b) != size || &b[0] != &a.Mem()[int(f)*size] {
				t.Fatalf("frame %d: wrong bytes", f)
			}
			if g, ok := a.FrameAt(uint64(int(f)*size + size - 1)); g != f || !ok {
				t.Errorf("FrameAt: %d, %v", g, ok)
			}
			d := a.Data(Desc{Frame: f, Off: 100, Len: 50})
			if len(d) != 50 || cap(d) != 50 || &d[0] != &b[100] {
				t.Errorf("Data of frame %d is wrong", f)
			}
		}
		for _, off := range []uint64{uint64(8 * size), 1 << 45, 1<<64 - 1} {
			if _, ok := a.FrameAt(off); ok {
				t.Errorf("FrameAt(%d) is ok", off)
			}
		}
		if err := a.Close(); err != nil {
			t.Error(err)
		}
		if a.Close() == nil {
			t.Error("closed twice")
		}
	}
}

// Goroutines take and free frames, one and many, and write into what they
// hold: the race detector sees a frame that two hold.
func arenaTorture(t *testing.T, frames, workers, rounds int) {
	a := newTestArena(t, frames)
	var wg sync.WaitGroup
	for id := range workers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			r := rand.New(rand.NewPCG(uint64(id), 9))
			var held []Frame
			buf := make([]Frame, 8)
			take := func(f Frame) {
				m := a.Meta(f)
				if m.refs != 1 || m.Next != NoFrame || m.Prev != NoFrame || m.inNIC != 0 {
					t.Errorf("frame %d not fresh: %+v", f, m.refs)
				}
				m.Seq = uint32(id)
				a.Bytes(f)[0] = byte(id)
				held = append(held, f)
			}
			give := func(n int) []Frame {
				out := held[len(held)-n:]
				held = held[:len(held)-n]
				for _, f := range out {
					if a.Meta(f).Seq != uint32(id) || a.Bytes(f)[0] != byte(id) {
						t.Errorf("frame %d was written by another", f)
					}
				}
				return out
			}
			for range rounds {
				switch r.IntN(5) {
				case 0:
					if f, ok := a.Alloc(); ok {
						take(f)
					}
				case 1:
					for _, f := range buf[:a.AllocN(buf[:r.IntN(9)])] {
						take(f)
					}
				case 2:
					if len(held) > 0 {
						a.Free(give(1)[0])
					}
				case 3:
					a.FreeN(give(r.IntN(len(held) + 1)))
				case 4:
					if len(held) == 0 {
						break
					}
					f := give(1)[0]
					a.Posted(f)
					a.Posted(f)
					a.Release(f)
					if !a.InNIC(f) || !a.Completed(f) || !a.InNIC(f) || !a.Completed(f) {
						t.Error("completion refused")
					}
				}
				if n := a.FreeFrames(); n < 0 || n > a.Frames() {
					t.Errorf("FreeFrames is %d", n)
				}
			}
			a.FreeN(held)
		}()
	}
	wg.Wait()
	all(t, a)
}

func TestArenaTorture(t *testing.T) {
	arenaTorture(t, 64, 8, tortureRounds())
	arenaTorture(t, 3, 8, tortureRounds()) // always near empty: ABA
}

// Few frames, taken in pairs and freed in the order that brings the old head
// back on top with another frame below it: without the tag in the head's word
// a frame is handed out twice, and Free panics.
func TestArenaABA(t *testing.T) {
	a := newTestArena(t, 4)
	var wg sync.WaitGroup
	for range 4 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for range 300 * tortureRounds() {
				f, ok := a.Alloc()
				if !ok {
					continue
				}
				if g, ok := a.Alloc(); ok {
					a.Free(f)
					a.Free(g)
				} else {
					a.Free(f)
				}
			}
		}()
	}
	wg.Wait()
	all(t, a)
}

func TestArenaOneProcessor(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	arenaTorture(t, 16, 8, tortureRounds())
}

func mustPanic(t *testing.T, what string, f func()) {
	t.Helper()
	defer func() {
		if recover() == nil {
			t.Errorf("%s did not panic", what)
		}
	}()
	f()
}

func TestArenaRefs(t *testing.T) {
	a := newTestArena(t, 4)
	f, _ := a.Alloc()
	if a.InNIC(f) || a.Completed(f) {
		t.Error("a fresh frame is in the NIC")
	}
	a.Posted(f)
	mustPanic(t, "Free of a frame in the ring", func() { a.Free(f) })
	mustPanic(t, "FreeN of a frame in the ring", func() { a.FreeN([]Frame{f}) })
	a.Release(f) // the owner lets go first
	if a.FreeFrames() != 3 {
		t.Error("freed while in the ring")
	}
	if !a.Completed(f) || a.FreeFrames() != 4 {
		t.Error("not freed with the last reference")
	}
	if a.Completed(f) {
		t.Error("a free frame completed")
	}
	mustPanic(t, "double Free", func() { a.Free(f) })
	g, _ := a.Alloc()
	mustPanic(t, "double FreeN", func() { a.FreeN([]Frame{g, g}) })
}

func TestCache(t *testing.T) {
	a := newTestArena(t, 500)
	c := NewCache(a, 1)
	r := rand.New(rand.NewPCG(1, 1))
	held := map[Frame]bool{}
	for range 200000 {
		if r.IntN(1000) < 500+r.IntN(3)-1 && len(held) < 500 {
			f, ok := c.Alloc()
			if !ok {
				if a.FreeFrames() > 0 {
					t.Fatal("no frame although some are free")
				}
				continue
			}
			if held[f] {
				t.Fatal("handed out twice")
			}
			if m := a.Meta(f); m.refs != 1 || m.Next != NoFrame {
				t.Fatal("not fresh")
			}
			held[f] = true
		} else {
			for f := range held {
				delete(held, f)
				if r.IntN(2) == 0 {
					a.Posted(f)
					c.Release(f)
					a.Completed(f)
				} else {
					c.FreeDescs([]Desc{{Frame: f}})
				}
				break
			}
		}
	}
	for f := range held {
		c.Free(f)
	}
	c.Flush()
	all(t, a)
	f, _ := c.Alloc()
	c.Free(f)
	mustPanic(t, "double Free", func() { c.Free(f) })
	f, _ = c.Alloc()
	a.Posted(f)
	mustPanic(t, "Free of a frame in the ring", func() { c.Free(f) })
	if c.Arena() != a {
		t.Error("Arena")
	}
}

// Every frame through one cache, until there is none.
func TestCacheExhaust(t *testing.T) {
	a := newTestArena(t, 150)
	c := NewCache(a, 1)
	var fs []Frame
	for {
		f, ok := c.Alloc()
		if !ok {
			break
		}
		fs = append(fs, f)
	}
	if len(fs) != 150 {
		t.Fatalf("%d frames", len(fs))
	}
	for _, f := range fs {
		c.Free(f)
	}
	c.Flush()
	all(t, a)
}

func TestMailboxTorture(t *testing.T) {
	for _, takers := range []int{1, 3} {
		const producers = 4
		a := newTestArena(t, 64)
		var m Mailbox
		var wg sync.WaitGroup
		var taken, wokeups atomic.Int64
		rounds := tortureRounds()
		for id := range producers {
			wg.Add(1)
			go func() {
				defer wg.Done()
				for n := 0; n < rounds; {
					f, ok := a.Alloc()
					if !ok {
						runtime.Gosched()
						continue
					}
					mt := a.Meta(f)
					mt.Seq, mt.Flags = uint32(n), uint16(id)
					if m.Push(a, f) {
						wokeups.Add(1)
					}
					n++
				}
			}()
		}
		for range takers {
			wg.Add(1)
			go func() {
				defer wg.Done()
				var next [producers]int64
				for taken.Load() < int64(producers*rounds) {
					first, last := m.TakeAll(a)
					if first == NoFrame {
						if last != NoFrame {
							t.Error("last without first")
						}
						runtime.Gosched()
						continue
					}
					for f := first; ; {
						mt := a.Meta(f)
						if int64(mt.Seq) < next[mt.Flags] {
							t.Errorf("producer %d: %d after %d", mt.Flags, mt.Seq, next[mt.Flags])
						}
						next[mt.Flags] = int64(mt.Seq) + 1
						g := mt.Next
						if f == last && g != NoFrame {
							t.Error("last has a successor")
						}
						taken.Add(1)
						a.Free(f)
						if g == NoFrame {
							break
						}
						f = g
					}
				}
			}()
		}
		wg.Wait()
		if !m.Empty() || taken.Load() != int64(producers*rounds) {
			t.Errorf("%d of %d taken", taken.Load(), producers*rounds)
		}
		if wokeups.Load() == 0 {
			t.Error("no push found the mailbox empty")
		}
		all(t, a)
	}
}

// A wasEmpty from Push is what wakes a reader: one that sleeps exactly when
// the mailbox is empty must miss nothing.
func TestMailboxWake(t *testing.T) {
	a := newTestArena(t, 256)
	var m Mailbox
	wake := make(chan struct{}, 1)
	rounds := tortureRounds()
	go func() {
		for n := 0; n < rounds; {
			f, ok := a.Alloc()
			if !ok {
				runtime.Gosched()
				continue
			}
			n++
			if m.Push(a, f) {
				select {
				case wake <- struct{}{}:
				default:
				}
			}
		}
	}()
	for got := 0; got < rounds; {
		if m.Empty() {
			<-wake
			continue
		}
		for f, _ := m.TakeAll(a); f != NoFrame; {
			g := a.Meta(f).Next
			a.Free(f)
			f = g
			got++
		}
	}
	all(t, a)
}

// The coalescer (the producer, under the stack lock) takes the list back
// while the reader takes too, and pushes fewer frames: the bytes stay in
// order for a reader that the producer excludes.
func TestMailboxTakeBack(t *testing.T) {
	a := newTestArena(t, 128)
	var m Mailbox
	var mu sync.Mutex // the reader's mutex, which the coalescer takes too
	rounds := tortureRounds()
	var wg sync.WaitGroup
	wg.Add(1)
	go func() {
		defer wg.Done()
		for n := 0; n < rounds; {
			f, ok := a.Alloc()
			if !ok {
				runtime.Gosched()
				continue
			}
			mt := a.Meta(f)
			mt.Seq, mt.Len = uint32(n), 1
			n++
			m.Push(a, f)
			if n%16 != 0 || !mu.TryLock() {
				continue
			}
			first, _ := m.TakeAll(a)
			for f := first; f != NoFrame; {
				g := a.Meta(f).Next
				if g != NoFrame && int(a.Meta(f).Len)+int(a.Meta(g).Len) <= a.FrameSize() {
					a.Meta(f).Len += a.Meta(g).Len
					h := a.Meta(g).Next
					a.Free(g)
					g = h
				}
				m.Push(a, f)
				f = g
			}
			mu.Unlock()
		}
	}()
	next := uint32(0)
	for next < uint32(rounds) {
		mu.Lock()
		for f, _ := m.TakeAll(a); f != NoFrame; {
			mt := a.Meta(f)
			if mt.Seq != next {
				t.Fatalf("byte %d where %d was due", mt.Seq, next)
			}
			next += uint32(mt.Len)
			g := mt.Next
			a.Free(f)
			f = g
		}
		mu.Unlock()
		runtime.Gosched()
	}
	wg.Wait()
	all(t, a)
}

func TestPacketLen(t *testing.T) {
	more := FlagMore
	ds := []Desc{{Len: 5, Flags: more}, {Len: 6, Flags: more}, {Len: 7}, {Len: 8}}
	for i, want := range [][2]int{{3, 18}, {2, 13}, {1, 7}, {1, 8}} {
		if n, b := PacketLen(ds[i:]); n != want[0] || b != want[1] {
			t.Errorf("PacketLen at %d: %d, %d", i, n, b)
		}
	}
	if n, b := PacketLen(nil); n != 0 || b != 0 {
		t.Error("PacketLen of nothing")
	}
}

func TestArenaAllocs(t *testing.T) {
	a := newTestArena(t, 512)
	c := NewCache(a, 1)
	var m Mailbox
	fs := make([]Frame, 32)
	if n := testing.AllocsPerRun(1000, func() {
		n := a.AllocN(fs)
		for _, f := range fs[:n] {
			m.Push(a, f)
		}
		for f, _ := m.TakeAll(a); f != NoFrame; {
			g := a.Meta(f).Next
			c.Free(f)
			f = g
		}
		f, _ := c.Alloc()
		c.Free(f)
		c.Flush()
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkArenaAllocFree(b *testing.B) {
	a := newTestArena(b, 4096)
	b.ReportAllocs()
	b.Run("one", func(b *testing.B) {
		for b.Loop() {
			f, _ := a.Alloc()
			a.Free(f)
		}
	})
	b.Run("batch32", func(b *testing.B) {
		fs := make([]Frame, 32)
		for b.Loop() {
			a.FreeN(fs[:a.AllocN(fs)])
		}
	})
	b.Run("parallel", func(b *testing.B) {
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if f, ok := a.Alloc(); ok {
					a.Free(f)
				}
			}
		})
	})
	b.Run("cache", func(b *testing.B) {
		c := NewCache(a, 1)
		for b.Loop() {
			f, _ := c.Alloc()
			c.Free(f)
		}
		c.Flush()
	})
}

func BenchmarkMailbox(b *testing.B) {
	a := newTestArena(b, 64)
	fs := make([]Frame, 32)
	a.AllocN(fs)
	var m Mailbox
	b.Run("push1take1", func(b *testing.B) {
		for b.Loop() {
			m.Push(a, fs[0])
			m.TakeAll(a)
		}
	})
	b.Run("push32take", func(b *testing.B) {
		for b.Loop() {
			for _, f := range fs {
				m.Push(a, f)
			}
			m.TakeAll(a)
		}
	})
}
