package ip

import (
	"bytes"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/onload-go/onload/ring"
)

// fragModel is a datagram in units of 8 bytes: which fragment each is of, and the
// runs that came in order.
type fragModel struct {
	have  map[int]byte
	runs  [][2]int
	top   int
	ended bool
	whole bool
}

// add adds the fragment n. false: the datagram is to be forgotten.
func (m *fragModel) add(off, end int, last bool, n byte) bool {
	if last && (end < m.top || m.ended && end != m.top) || !last && m.ended && end > m.top {
		return false
	}
	m.ended, m.top = m.ended || last, max(m.top, end)
	most, tail := 0, -1
	for i, r := range m.runs {
		if off < r[1] && r[0] < end {
			return r[0] <= off && end <= r[1]
		}
		if r[1] > most {
			most, tail = r[1], i
		}
	}
	if tail >= 0 && off == most {
		m.runs[tail][1] = end
	} else {
		m.runs = append(m.runs, [2]int{off, end})
	}
	for u := off; u < end; u++ {
		m.have[u] = n
	}
	m.whole = m.ended && len(m.have) == m.top
	return true
}

// Modes of FuzzReassembler. Without any, a model says what becomes of each
// fragment.
const (
	fuzzV4      = 1 << iota
	fuzzReturn  // a kernel is there
	fuzzKernels // some firsts are the kernel's
	fuzzExts    // first fragments begin with extension headers
	fuzzLengths // fragments of any length
)

// FuzzReassembler compares with a model, a map of bytes, or has any fragments
// come, and checks that nothing is read beyond its frame or lost.
func FuzzReassembler(f *testing.F) {
	f.Add(byte(0), []byte{0, 0, 4, 0, 4, 4, 0x80, 8, 4})
	f.Add(byte(0), []byte{0x80, 8, 4, 0, 4, 4, 0, 0, 4, 1, 0, 9, 1, 2, 3})
	f.Add(byte(fuzzExts|fuzzLengths), []byte{0x82, 1, 8, 4, 0, 16, 2, 0, 8})
	r := rand.New(rand.NewPCG(5, 6))
	for mode := range byte(2 * fuzzLengths) {
		f.Add(mode, randomBytes(r, 300))
	}
	lab := newFragLab(f, 1024, 0, 0)
	f.Fuzz(func(t *testing.T, mode byte, ops []byte) {
		if len(ops) > 900 {
			return
		}
		l := *lab
		l.TB = t
		l.r.Return = nil
		if mode == 0 {
			l.r.Init(l.cache, 1<<30, 1<<30)
			l.fuzzModel(ops)
		} else {
			l.r.Init(l.cache, 256*2048, 128*2048)
			l.fuzzAny(mode, ops)
		}
		l.r.Expire(math.MaxInt64)
		l.empty()
	})
}

func (l *fragLab) fuzzModel(ops []byte) {
	models := map[uint32]*fragModel{}
	for n := 0; len(ops) >= 3; n++ {
		op, off, units := ops[0], int(ops[1])%40, 1+int(ops[2])%8
		ops = ops[3:]
		id, last := uint32(op&3), op&0x80 != 0
		size := (off + units) * 8
		data := bytes.Repeat([]byte{byte(n)}, size)
		if !last {
			data = append(data, make([]byte, 8)...) // more follows
		}
		whole, _ := l.add(packet6(id), data, off*8, size, 24+int(op&0x7c), 0)
		m := models[id]
		if m == nil {
			m = &fragModel{have: map[int]byte{}}
		}
		models[id] = m
		if !m.add(off, off+units, last, byte(n)) {
			delete(models, id)
		}
		if m.whole != (whole != nil) {
			l.Fatalf("step %d: model says complete %v", n, m.whole)
		}
		if m.whole {
			for i, c := range whole {
				if c != m.have[i/8] {
					l.Fatalf("step %d: byte %d is %d", n, i, c)
				}
			}
			delete(models, id)
		}
	}
}

func (l *fragLab) fuzzAny(mode byte, ops []byte) {
	if mode&fuzzReturn != 0 {
		l.r.Return = func(_ int, ds []ring.Desc) { l.inside(ds, 100-62) }
	}
	for now := int64(0); len(ops) >= 3; ops = ops[3:] {
		op, n := ops[0], int(ops[2])%64
		now += int64(ops[2]) << 22 // up to a second
		if mode&fuzzLengths == 0 {
			n = 8 + n&^7
		}
		p := packet6(uint32(op & 3))
		p.NetOff, p.L4Off = 14, 62
		if mode&fuzzV4 != 0 {
			p = packet4(uint32(op & 3))
			p.NetOff, p.L4Off = 14, 34
		}
		p.Fragment, p.MoreFrags, p.FragOff, p.L4Len = true, op&0x80 == 0, int(ops[1])%8*8, n
		data := make([]byte, n) // all options are padding
		if mode&fuzzExts != 0 && p.FragOff == 0 && n > 1 {
			p.Proto, data[0], data[1] = extDest, ProtoUDP, op>>2&3
		}
		ds := l.frames(data, 8+int(op&0x7c))
		if mode&fuzzKernels != 0 && p.FragOff == 0 && ops[2]&0x80 != 0 {
			ds[0].Flags |= ring.FlagKernels
		}
		done := l.r.Add(&p, ds, 3, now)
		if done == nil {
			continue
		}
		if got := l.inside(done, 100); got != p.L4Len {
			l.Fatalf("%d bytes of %d", got, p.L4Len)
		}
		l.cache.FreeDescs(done)
	}
}

// inside checks that ds lie within their frames, from least on, and returns their
// length.
func (l *fragLab) inside(ds []ring.Desc, least int) (n int) {
	for _, d := range ds {
		if int(d.Off) < least || int(d.Off)+int(d.Len) > l.arena.FrameSize() {
			l.Fatalf("%d bytes at %d", d.Len, d.Off)
		}
		n += int(d.Len)
	}
	return n
}
