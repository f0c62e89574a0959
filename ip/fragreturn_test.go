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
