package tcp

import (
	"math/rand/v2"
	"testing"

	"github.com/onload-go/onload/ring"
)

// FuzzReassembly compares the out-of-order queue with a model: the set of
// bytes that were put in. Ops are of three bytes: where, how much, and what.
func FuzzReassembly(f *testing.F) {
	f.Add([]byte{10, 5, 0, 20, 5, 0, 15, 5, 0, 0, 0, 3, 0, 10, 0})
	f.Add([]byte{1, 200, 0, 100, 200, 0, 50, 10, 0, 0, 60, 0, 0, 0, 3})
	f.Add([]byte{10, 1, 1, 12, 1, 1, 14, 1, 1, 9, 20, 0, 0, 0, 2, 5, 1, 1, 0, 50, 0, 0, 0, 3})
	a := newArena(f, 256, 2048)
	cache := ring.NewCache(a, 1)
	f.Cleanup(cache.Flush)
	f.Fuzz(func(t *testing.T, ops []byte) {
		free := a.FreeFrames()
		const span = 4096
		var have [span]bool
		base := uint32(0xffffff00) // wraps
		next := base
		r := &reassembly{}
		limit := 64
		for len(ops) >= 3 {
			at, n, op := int(ops[0])*8, int(ops[1])*4, ops[2]
			ops = ops[3:]
			switch op % 4 {
			case 0, 1:
				if op%4 == 1 {
					n, at = int(n/4%3), at/8
				}
				if n == 0 {
					continue
				}
				fr, ok := cache.Alloc()
				if !ok {
					t.Fatal("no frame")
				}
				m := a.Meta(fr)
				m.Off, m.Len, m.Seq = 64, uint16(n), base+uint32(at)
				b := a.Bytes(fr)[64:]
				all := true
				for i := range n {
					b[i] = pattern(at + i)
					all = all && have[at+i]
				}
				if seqLT(m.Seq, next) {
					cache.Free(fr)
					continue
				}
				lo := at
				for lo < at+n && !have[lo] {
					lo++
				}
				hi := lo
				for hi < at+n && have[hi] {
					hi++
				}
				if l, h, ok := r.overlap(m.Seq, m.Seq+uint32(n)); ok != (lo < hi) ||
					ok && (l != base+uint32(lo) || h != base+uint32(hi)) {
					t.Fatalf("[%d, %d): overlap [%d, %d) %v, want [%d, %d)", at, at+n, l-base, h-base, ok, lo, hi)
				}
				before := r.frames
				dup := r.insert(cache, fr, limit)
				if dup != all {
					t.Fatalf("[%d, %d): duplicate %v, want %v", at, at+n, dup, all)
				}
				if before < limit {
					for i := range n {
						have[at+i] = true
					}
				} else {
					// The queue decides which segments to drop.
					for i := range have {
						have[i] = false
					}
					for _, p := range r.list {
						for s := p.lo; s != p.hi; s++ {
							have[s-base] = true
						}
					}
				}
			case 2:
				if r.evict(cache) {
					end := uint32(0)
					if k := len(r.list); k > 0 {
						end = r.list[k-1].hi - base
					}
					for i := int(end); i < span; i++ {
						have[i] = false
					}
				}
			case 3:
				// The bytes up to at arrive in order.
				if p := base + uint32(at); seqGT(p, next) {
					next = p
				}
				for {
					fr := r.pop(cache, next)
					if fr == ring.NoFrame {
						break
					}
					m := a.Meta(fr)
					if m.Seq != next || m.Len == 0 {
						t.Fatalf("popped %d, want %d", m.Seq-base, next-base)
					}
					for i, v := range a.Bytes(fr)[m.Off : m.Off+m.Len] {
						if k := int(next-base) + i; v != pattern(k) || !have[k] {
							t.Fatalf("byte %d is %d", k, v)
						}
					}
					next += uint32(m.Len)
					cache.Free(fr)
				}
				for i := range next - base {
					have[i] = false
				}
			}
			checkReassembly(t, a, r, have[:], base)
		}
		r.clear(cache)
		cache.Flush()
		if a.FreeFrames() != free {
			t.Fatalf("%d frames leaked", free-a.FreeFrames())
		}
	})
}

func checkReassembly(t *testing.T, a *ring.Arena, r *reassembly, have []bool, base uint32) {
	var got [4096]bool
	frames := 0
	for i, p := range r.list {
		if !seqLT(p.lo, p.hi) || i > 0 && !seqLT(r.list[i-1].hi, p.lo) {
			t.Fatalf("pieces %+v", r.list)
		}
		seq := p.lo
		last := ring.NoFrame
		for f := p.first; f != ring.NoFrame; f = a.Meta(f).Next {
			m := a.Meta(f)
			if m.Seq != seq {
				t.Fatalf("frame at %d, want %d", m.Seq-base, seq-base)
			}
			for _, v := range a.Bytes(f)[m.Off : m.Off+m.Len] {
				if v != pattern(int(seq-base)) {
					t.Fatalf("byte %d", seq-base)
				}
				got[seq-base] = true
				seq++
			}
			frames++
			last = f
		}
		if seq != p.hi || last != p.last {
			t.Fatalf("piece %+v ends at %d", p, seq)
		}
	}
	if frames != r.frames {
		t.Fatalf("%d frames, counted %d", frames, r.frames)
	}
	for i := range have {
		if got[i] != have[i] {
			t.Fatalf("byte %d: have %v, want %v", i, got[i], have[i])
		}
	}
	var b [4]SACKBlock
	n := r.blocks(b[:])
	if n != min(4, len(r.list)) {
		t.Fatalf("%d blocks of %d pieces", n, len(r.list))
	}
	for i, s := range b[:n] {
		found := false
		for _, p := range r.list {
			found = found || p.lo == s.Start && p.hi == s.End
		}
		for _, o := range b[:i] {
			found = found && o != s
		}
		if !found {
			t.Fatalf("block %+v of %+v", s, r.list)
		}
	}
}

// FuzzDuel: a hostile peer sends what it likes, after a proper handshake, while
// the application reads, writes and closes. The accounts must stay right, and
// the frames must come back.
func FuzzDuel(f *testing.F) {
	f.Add([]byte("0123456789abcdefghijklmnopqrstuvwxyz"), uint8(0))
	f.Add([]byte{5, 0x10, 0, 0, 0, 0, 10, 1, 0, 9, 0x10, 0, 0, 1, 0, 20, 2, 0, 1, 0, 9}, uint8(1))
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range uint8(16) {
		b := make([]byte, 400)
		for j := range b {
			b[j] = byte(rng.Uint32())
		}
		f.Add(b, i)
	}
	f.Fuzz(func(t *testing.T, ops []byte, mode uint8) {
		cfg := Config{
			NoDelay: mode&1 != 0, NoSACK: mode&2 != 0, NoTimestamps: mode&4 != 0,
			RcvBuf: 16 << 10, SndBuf: 16 << 10,
			MTUProbing: MTUProbing(mode >> 3 & 1),
		}
		w := dial(t, cfg, sackOK(mode&2 == 0), tsOK(mode&4 == 0))
		next := func() int {
			if len(ops) == 0 {
				return 0
			}
			v := ops[0]
			ops = ops[1:]
			return int(v)
		}
		near := func(x uint32) uint32 {
			d := next()
			switch d >> 6 {
			case 0:
				return x
			case 1:
				return x + uint32(d&63)*100
			case 2:
				return x - uint32(d&63)*100
			default:
				return x + uint32(d&63)<<26
			}
		}
		closed := false
		for len(ops) > 0 && len(w.out) < 10000 {
			switch op := next() % 16; op {
			case 0:
				w.write(next() * 40)
			case 1:
				w.read(next() * 40)
			case 2:
				w.advance(int64(next()) * 4 * ms)
			case 3:
				w.full = !w.full
			case 4:
				w.hold = !w.hold
				w.complete()
			case 5:
				if next() > 200 {
					closed = true
					w.c.CloseWrite(w.now)
				} else if next() > 240 {
					closed = true
					w.c.Close(w.now)
				}
			case 6:
				w.c.SetPathMTU(500+next()*8, w.now)
			default:
				fl := Flags(next())
				if op < 14 {
					fl = FlagACK | fl&FlagPSH
				}
				n := next() * 8
				if n > 1600 {
					n = 0
				}
				s := Segment{Local: addrA, Remote: addrB, Flags: fl, Len: n, Wnd: uint16(next() << 8)}
				s.Seq, s.Ack = near(w.c.rcvNxt), near(w.c.sndUna)
				if op&1 != 0 {
					s.Ack = w.c.sndNxt
				}
				s.Opt = Options{WScale: -1, HasTS: w.ts, TSVal: near(w.c.tsRecent), TSEcr: near(w.lastTS)}
				for k := next() % 5; k > 0; k-- {
					b := SACKBlock{Start: near(w.c.sndUna + 1000)}
					b.End = b.Start + uint32(next()*20)
					s.Opt.SACK[s.Opt.NSACK%4] = b
					s.Opt.NSACK = min(s.Opt.NSACK+1, 4)
				}
				if n > 0 {
					s.Payload = rxFrames(t, w.h, make([]byte, n))
				}
				input(&w.c, &s, w.now)
				w.check()
				if op&2 != 0 {
					w.c.Output(w.now)
				}
			}
			w.check()
			if fr, by := w.c.rcvUsed.load(); fr < 0 || by < 0 || by > 1<<20 {
				t.Fatalf("receive usage %d frames %d bytes", fr, by)
			}
		}
		_ = closed
		w.out = nil
		w.c.Free()
		w.complete()
		w.h.Cache.Flush()
		if got, all := w.h.Arena.FreeFrames(), w.h.Arena.Frames(); got != all {
			t.Fatalf("%d frames leaked", all-got)
		}
	})
}
