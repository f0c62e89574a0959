package afxdp

import (
	"errors"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/lab"
	"github.com/onload-go/onload/ring"
)

// Somebody writes nonsense into the rings (attack 26): it is noticed before
// it is used, counted, and the queue stops.
func TestCorruptReceive(t *testing.T) {
	const size = DefaultFrameSize
	// The first frame of the fill ring is the one that good returns; more are
	// lent, and the last of the arena is not.
	tests := []struct {
		name string
		add  func(q *Queue, good uint64) []unix.XDPDesc
		want int // Descs of whole packets in front of it
	}{
		{"beyond the arena", func(q *Queue, good uint64) []unix.XDPDesc {
			return []unix.XDPDesc{{Addr: uint64(len(q.arena.Mem())), Len: 60}}
		}, 0},
		{"far beyond", func(q *Queue, good uint64) []unix.XDPDesc {
			return []unix.XDPDesc{{Addr: 1<<63 + good, Len: 60}}
		}, 0},
		{"beyond the frame", func(q *Queue, good uint64) []unix.XDPDesc {
			return []unix.XDPDesc{{Addr: good + 256, Len: size - 255}}
		}, 0},
		{"length wraps", func(q *Queue, good uint64) []unix.XDPDesc {
			return []unix.XDPDesc{{Addr: good + 256, Len: 1<<32 - 1}}
		}, 0},
		{"empty", func(q *Queue, good uint64) []unix.XDPDesc {
			return []unix.XDPDesc{{Addr: good, Len: 0}}
		}, 0},
		{"not lent", func(q *Queue, good uint64) []unix.XDPDesc {
			f, _ := q.arena.Alloc()
			return []unix.XDPDesc{{Addr: uint64(f) * size, Len: 60}}
		}, 0},
		{"twice", func(q *Queue, good uint64) []unix.XDPDesc {
			return []unix.XDPDesc{{Addr: good + 256, Len: 60}, {Addr: good + 300, Len: 60}}
		}, 1},
		{"second of a chain", func(q *Queue, good uint64) []unix.XDPDesc {
			return []unix.XDPDesc{{Addr: good, Len: 60, Options: unix.XDP_PKT_CONTD}, {Addr: 1 << 40, Len: 60}}
		}, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := lab.NewPair(t, lab.Options{})
			d := openAt(t, p.A, Config{Frames: 1024, RxRing: 256, TxRing: 256})
			q := d.queues.all()[0]
			prod := atomic.LoadUint32(q.rx.prod)
			bad := tt.add(q, q.fill.slots[0])
			for i, x := range bad {
				q.rx.slots[(prod+uint32(i))&q.rx.mask] = x
			}
			atomic.StoreUint32(q.rx.prod, prod+uint32(len(bad)))
			broken(t, q, tt.want)
		})
	}
	t.Run("index", func(t *testing.T) {
		p := lab.NewPair(t, lab.Options{})
		d := openAt(t, p.A, Config{Frames: 1024, RxRing: 256})
		q := d.queues.all()[0]
		atomic.AddUint32(q.rx.prod, 257)
		broken(t, q, 0)
	})
}

func broken(t *testing.T, q *Queue, want int) {
	t.Helper()
	ds := make([]ring.Desc, 64)
	if n := q.RxBatch(ds); n != want {
		t.Errorf("RxBatch returned %d, want %d", n, want)
	}
	checkBroken(t, q)
}

func checkBroken(t *testing.T, q *Queue) {
	t.Helper()
	if err := q.Err(); !errors.Is(err, ErrCorrupt) {
		t.Errorf("Err %v", err)
	}
	if s := q.Stats(); s.BadDesc != 1 {
		t.Errorf("BadDesc %d", s.BadDesc)
	}
	ds := make([]ring.Desc, 4)
	if q.RxBatch(ds) != 0 || q.TxBatch(ds) != 0 || q.TxSpace() != 0 || q.Lacks() != 0 || q.Reclaim() != 0 ||
		q.RxPending() || !q.Arm() || !errors.Is(q.Kick(), ErrCorrupt) {
		t.Error("the queue goes on")
	}
}

func TestCorruptCompletion(t *testing.T) {
	tests := []struct {
		name string
		addr func(q *Queue) []uint64
	}{
		{"beyond the arena", func(q *Queue) []uint64 { return []uint64{uint64(len(q.arena.Mem()))} }},
		{"never sent", func(q *Queue) []uint64 {
			f, _ := q.arena.Alloc()
			return []uint64{uint64(f) * DefaultFrameSize}
		}},
		{"lent for receiving", func(q *Queue) []uint64 { return []uint64{q.fill.slots[0]} }},
		{"more than sent", func(q *Queue) []uint64 { return []uint64{0, 0, 0} }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, a, _ := couple(t, Config{Frames: 1024, RxRing: 256, TxRing: 256}, lab.Options{})
			q := a.queues.all()[0]
			// Two Descs are on the ring, and not kicked.
			for range 2 {
				q.TxBatch(put(t, a, datagram(v4of(p.A), v4of(p.B), 7, 7, pattern(18))))
			}
			for _, x := range tt.addr(q) {
				i := atomic.LoadUint32(q.comp.prod)
				q.comp.slots[i&q.comp.mask] = x
				atomic.StoreUint32(q.comp.prod, i+1)
			}
			if n := q.Reclaim(); n != 0 {
				t.Errorf("reclaimed %d", n)
			}
			checkBroken(t, q)
		})
	}
}

// One queue that broke leaves the others alone, and the device closes.
func TestCorruptLeavesOthers(t *testing.T) {
	p, a, b := couple(t, Config{Mode: ModeNative}, lab.Options{Queues: 2})
	bad := b.queues.all()[0]
	atomic.AddUint32(bad.rx.prod, 5000)
	broken(t, bad, 0)
	send(t, a, a.queues.all()[1], datagram(v4of(p.A), v4of(p.B), 7, 7, pattern(18)))
	if got, _ := receive(t, b, b.queues.all()[1], patience); got == nil {
		t.Error("the other queue does not receive")
	}
}
