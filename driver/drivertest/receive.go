package drivertest

import (
	"bytes"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/onload-go/onload/internal/allocs"
	"github.com/onload-go/onload/ring"
)

func testCaps(t *testing.T, l *Ends) {
	c, q := l.A.Caps(), l.A.queue()
	if c.Driver == "" || c.Mode == "" || c.MTU < 68 || c.MaxFrags < 1 || c.TxRing < 1 || c.RxRing < 1 {
		t.Errorf("%+v", *c)
	}
	if c.TxRoom > 32 {
		t.Errorf("TxRoom %d: ring.Headroom has 32 bytes for the driver", c.TxRoom)
	}
	if c.TSO > 0 && (c.TSO <= c.MTU || c.TSOFrags < 1) {
		t.Errorf("TSO %d in %d frames, MTU %d", c.TSO, c.TSOFrags, c.MTU)
	}
	if before := q.Caps(); before != q.Caps() || before.MTU != c.MTU {
		t.Error("the capabilities of the queue change")
	}
	if q.TxSpace() != q.Caps().TxRing {
		t.Errorf("TxSpace %d of a new ring of %d", q.TxSpace(), q.Caps().TxRing)
	}
	if l.A.Name() == "" || q.Err() != nil {
		t.Errorf("name %q, Err %v", l.A.Name(), q.Err())
	}
}

// Refill lends what the queue lacks, as far as there are frames.
func testRefill(t *testing.T, l *Ends) {
	q, a := l.A.queue(), l.A.Arena()
	free := a.FreeFrames()
	lacks := q.Lacks()
	if lacks == 0 || lacks > free {
		t.Fatalf("a new queue lacks %d of %d frames", lacks, free)
	}
	all := make([]ring.Frame, free)
	if n := a.AllocN(all); n != free {
		t.Fatalf("allocated %d of %d", n, free)
	}
	if q.Refill(); q.Lacks() != lacks {
		t.Errorf("lacks %d after a Refill without frames, %d before", q.Lacks(), lacks)
	}
	a.FreeN(all[:lacks/2])
	if q.Refill(); q.Lacks() != lacks-lacks/2 || a.FreeFrames() != 0 {
		t.Errorf("lacks %d, %d free, after a Refill with %d of %d", q.Lacks(), a.FreeFrames(), lacks/2, lacks)
	}
	a.FreeN(all[lacks/2:])
	if q.Refill(); q.Lacks() != 0 || a.FreeFrames() != free-lacks {
		t.Errorf("lacks %d, %d of %d free", q.Lacks(), a.FreeFrames(), free)
	}
}

// Each end receives what the other sends, in frames that are its own, and both
// count it.
func testExchange(t *testing.T, l *Ends) {
	l.ready(t)
	freeA, freeB := l.A.Arena().FreeFrames(), l.B.Arena().FreeFrames()
	var want, got [][]byte
	size := 0
	for i, n := range []int{18, 19, 100, 1000, 1472, l.B.Caps().MTU - 28} {
		b := l.datagram(n, byte(i))
		l.A.send(t, b)
		want = append(want, b)
		size += len(b)
		got = append(got, l.B.batch(t)...) // both rings may have room for two
	}
	got = append(got, l.B.receive(t, len(want)-len(got))...)
	for i := range want {
		if !slices.ContainsFunc(got, func(b []byte) bool { return bytes.Equal(b, want[i]) }) {
			t.Errorf("packet %d, of %d bytes, came otherwise", i, len(want[i]))
		}
	}
	if a := l.A.settled(t); a != freeA {
		t.Errorf("sender: %d free frames, %d before", a, freeA)
	}
	if b := l.B.Arena().FreeFrames() - l.B.queue().Lacks(); b > freeB {
		t.Errorf("receiver: %d free frames, %d before", b, freeB)
	}
	if s := l.A.queue().Stats(); s.TxPackets != uint64(len(want)) || s.TxBytes != uint64(size) || s.Kicks == 0 {
		t.Errorf("sender counts %+v", s)
	}
	if s := l.B.queue().Stats(); s.RxPackets != uint64(len(want)) || s.RxBytes != uint64(size) {
		t.Errorf("receiver counts %+v", s)
	}
}

// RxBatch leaves a packet that does not fit, and RxPending then reports it.
func testWholePacket(t *testing.T, l *Ends) {
	l.ready(t)
	q := l.B.queue()
	if q.RxPending() || q.RxBatch(make([]ring.Desc, 8)) != 0 {
		t.Fatal("a packet before any was sent")
	}
	b := l.datagram(l.B.Caps().MTU-28, 1)
	l.A.send(t, b)
	for start := time.Now(); !q.RxPending() && time.Since(start) < patience; runtime.Gosched() {
	}
	if n := q.RxBatch(nil); n != 0 {
		t.Errorf("RxBatch returned %d of no room", n)
	}
	ds := make([]ring.Desc, 64)
	need := 1
	for ; need < len(ds); need++ {
		if !q.RxPending() {
			t.Fatal("RxPending forgot a packet that did not fit")
		}
		n := q.RxBatch(ds[:need])
		if n == 0 {
			continue
		}
		k, size := ring.PacketLen(ds[:n])
		if n != need || k != n || size != len(b) || ds[n-1].Flags&ring.FlagMore != 0 {
			t.Fatalf("%d Descs in room for %d, %d of a packet, %d bytes of %d", n, need, k, size, len(b))
		}
		break
	}
	var got []byte
	for _, d := range ds[:need] {
		got = append(got, l.B.Arena().Data(d)...)
	}
	if !bytes.Equal(got, b) {
		t.Error("other bytes")
	}
	if q.RxPending() {
		t.Error("RxPending after the last packet")
	}
	l.B.release(ds[:need])
	t.Logf("%d bytes in %d frames", len(b), need)
}

// Receiving and sending allocate nothing.
func testAllocations(t *testing.T, l *Ends) {
	l.ready(t)
	x, y := l.A.queue(), l.B.queue()
	pkt := l.A.place(t, l.datagram(100, 1), 0)
	ds := make([]ring.Desc, 64)
	n := allocs.PerRun(200, func() {
		y.Arm()
		if x.TxSpace() > 0 {
			x.TxBatch(pkt)
		}
		_ = x.Kick() // the link has room, or the next round finds some
		x.Reclaim()
		y.RxPending()
		y.Disarm()
		for _, d := range ds[:y.RxBatch(ds)] {
			l.B.Arena().Free(d.Frame)
		}
		if y.Lacks() > 0 {
			y.Refill()
		}
	})
	if n != 0 {
		t.Errorf("%v allocations a packet", n)
	}
	for start := time.Now(); y.Stats().RxPackets == 0; runtime.Gosched() { // a link takes its time
		l.B.batch(t)
		if time.Since(start) > patience {
			t.Fatal("nothing received")
		}
	}
}
