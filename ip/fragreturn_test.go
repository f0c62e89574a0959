package ip

import (
	"bytes"
	"slices"
	"testing"

	"github.com/onload-go/onload/ring"
)

// returnLab is a fragLab with a kernel behind it: given holds the offsets of the
// fragments that it got.
type returnLab struct {
	*fragLab
	given []int
}

func newReturnLab(t testing.TB) *returnLab {
	l := &returnLab{fragLab: newFragLab(t, 256, 1<<20, 1<<20)}
	l.r.Return = func(from int, ds []ring.Desc) {
		b := bytes.Join([][]byte{l.arena.Data(ds[0]), nil}, nil)
		if from != 3 || len(b) <= 62 || ds[0].Off != 100-62 {
			t.Errorf("from queue %d, %d bytes at %d", from, len(b), ds[0].Off)
		}
		l.given = append(l.given, int(b[62])) // its data begins with its offset
	}
	return l
}

// put adds the 16 bytes at off of the datagram id, which has 64.
func (l *returnLab) put(id uint32, off int, first ring.DescFlags, now int64) bool {
	p := packet6(id)
	p.Fragment, p.MoreFrags, p.FragOff, p.L4Len, p.NetOff, p.L4Off = true, off+16 < 64, off, 16, 14, 62
	ds := l.frames(bytes.Repeat([]byte{byte(off)}, 16), 1500)
	ds[0].Flags |= first
	done := l.r.Add(&p, ds, 3, now)
	l.cache.FreeDescs(done)
	return done != nil
}

// malformed adds a fragment whose length is no multiple of 8.
func (l *returnLab) malformed(id uint32, off int) {
	p := packet6(id)
	p.Fragment, p.MoreFrags, p.FragOff, p.L4Len, p.NetOff, p.L4Off = true, true, off, 13, 14, 62
	l.r.Add(&p, l.frames(bytes.Repeat([]byte{byte(off)}, 13), 1500), 3, 0)
}

func (l *returnLab) got(want ...int) {
	l.Helper()
	if !slices.Equal(l.given, want) {
		l.Errorf("the kernel got %v, want %v", l.given, want)
	}
	l.given = nil
}

// What overtook its first waits, and goes where that goes.
func TestReturn(t *testing.T) {
	t.Run("ours", func(t *testing.T) {
		l := newReturnLab(t)
		for _, off := range []int{32, 16, 0} {
			l.put(1, off, 0, 0)
		}
		if !l.put(1, 48, 0, lendAfter) {
			t.Error("not delivered")
		}
		l.got()
		l.empty()
	})
	t.Run("the kernel's", func(t *testing.T) {
		l := newReturnLab(t)
		l.put(1, 32, 0, 0)
		l.put(1, 16, 0, 0)
		l.got()
		l.put(1, 0, ring.FlagKernels, 0)
		l.got(16, 32, 0)
		l.put(1, 48, 0, 0)
		l.got(48)
		for _, off := range []int{0, 16, 32} { // the identification again, and ours
			l.put(1, off, 0, 1)
		}
		if !l.put(1, 48, 0, 1) {
			t.Error("not delivered")
		}
		l.got()
		l.empty()
	})
	t.Run("a first of another port", func(t *testing.T) {
		l := newReturnLab(t)
		l.put(1, 32, 0, 0)
		l.put(1, 0, 0, 0)
		l.put(1, 0, ring.FlagKernels, 0)
		l.got(0)
		l.put(1, 16, 0, 0)
		if !l.put(1, 48, 0, 0) {
			t.Error("not delivered")
		}
		l.got()
		l.empty()
	})
	t.Run("lent", func(t *testing.T) {
		l := newReturnLab(t)
		l.put(1, 32, 0, 0)
		if at := l.r.Deadline(); at != lendAfter {
			t.Errorf("deadline %d", at)
		}
		l.r.Expire(lendAfter)
		l.got(32)
		l.put(1, 16, 0, lendAfter+1) // to both
		l.got(16)
		l.put(1, 0, 0, lendAfter+2)
		if !l.put(1, 48, 0, lendAfter+3) {
			t.Error("not delivered")
		}
		l.got()
		l.empty()
	})
	t.Run("dropped", func(t *testing.T) {
		l := newReturnLab(t)
		l.put(1, 32, 0, 0)
		l.put(2, 32, 0, 0)
		l.put(2, 0, 0, 0)
		l.r.Flush() // of the second the first is ours
		l.got(32)
		l.empty()
	})
	t.Run("overlap in doubt", func(t *testing.T) {
		l := newReturnLab(t)
		l.put(1, 32, 0, 0)
		l.put(1, 24, 0, 0)
		l.got(32, 24)
		l.put(1, 48, 0, 0)
		l.got()
		l.r.Flush()
		l.got(48)
		l.empty()
	})
	t.Run("malformed, of ours", func(t *testing.T) {
		l := newReturnLab(t)
		asked := 0
		l.r.MayAnswer = func(int64) bool { asked++; return asked > 1 }
		l.put(1, 0, 0, 0)
		for range 2 {
			l.malformed(1, 16)
		}
		l.got(16)
		l.malformed(2, 16) // it may be the kernel's
		l.put(3, 32, 0, 0)
		l.malformed(3, 16) // likewise
		l.got(16, 16)
		if asked != 2 || l.r.Stats.Returned != 3 {
			t.Errorf("asked %d times, %d returned", asked, l.r.Stats.Returned)
		}
		l.r.Flush()
		l.got(32)
		l.empty()
	})
	t.Run("the identification returns", func(t *testing.T) {
		l := newReturnLab(t)
		l.put(1, 0, ring.FlagKernels, 0)
		l.got(0)
		l.put(1, 16, 0, kernelsFor)
		l.got(16)
		for _, off := range []int{16, 0, 32} {
			l.put(1, off, 0, 2*kernelsFor)
		}
		if !l.put(1, 48, 0, 2*kernelsFor) {
			t.Error("not delivered")
		}
		l.got()
		l.empty()
	})
	t.Run("the kernel's again", func(t *testing.T) {
		l := newReturnLab(t)
		l.put(1, 0, ring.FlagKernels, 0)
		l.put(1, 0, ring.FlagKernels, 2*kernelsFor)
		l.got(0, 0)
		l.put(1, 16, 0, 3*kernelsFor)
		l.got(16)
		l.r.Flush()
		l.empty()
	})
}

// A fragment of IPv4 that was shortened says so in its header.
func TestReturnCut(t *testing.T) {
	const at, data = 100, 13
	l := newFragLab(t, 64, 1<<20, 1<<20)
	frame := make([]byte, 34, 34+data)
	frame[12], frame[14] = 8, 0x45
	p := packet4(7)
	p.NetOff, p.L4Off = 14, 34
	copy(frame[26:], p.Src.AsSlice())
	copy(frame[30:], p.Dst.AsSlice())
	frame[23] = p.Proto
	frame = append(frame, make([]byte, data)...)
	p.putFragment(frame, 16, true)
	if err := Parse(frame, len(frame), &p); err != nil || p.L4Len != data {
		t.Fatalf("%+v, %v", p, err)
	}
	var got []byte
	l.r.Return = func(_ int, ds []ring.Desc) { got = bytes.Clone(l.arena.Data(ds[0])) }
	ds := l.frames(frame[34:], 1500)
	copy(l.arena.Bytes(ds[0].Frame)[at-34:], frame[:34])
	l.r.Add(&p, ds, 0, 0)
	l.r.Flush()
	var q Packet
	if err := Parse(got, len(got), &q); err != nil || q.L4Len != 8 || q.FragOff != 16 || !q.MoreFrags {
		t.Errorf("%x: %+v, %v", got, q, err)
	}
	l.empty()
}
