package tcp

import (
	"sync"
	"testing"

	"github.com/onload-go/onload/ip"
)

// held is how many frames the connection holds for reception.
func (w *wire) heldFrames() int {
	n, _ := w.c.rcvUsed.load()
	if w.c.ooo != nil {
		n += w.c.ooo.frames
	}
	return n
}

// CVE-2018-5390 and its kin: segments of one byte may not pin more frames than
// a full buffer would. In order, they are copied together.
func TestSmallSegmentsInOrder(t *testing.T) {
	w := dial(t, Config{RcvBuf: 32 << 10})
	most := 0
	for i := range uint32(20000) {
		before := w.h.Stats.TCPRcvCollapsed
		w.ev = 0
		w.in("A", 1+i, 1, 1)
		most = max(most, w.heldFrames())
		// The reader may have seen an empty mailbox meanwhile.
		if w.h.Stats.TCPRcvCollapsed != before && w.ev&EvReadable == 0 {
			t.Fatal("the reader is not woken")
		}
	}
	if w.h.Stats.TCPRcvCollapsed == 0 {
		t.Error("nothing was copied together")
	}
	w.out = nil
	if limit := w.c.heldLimit(); most > limit {
		t.Errorf("%d frames held, limit %d", most, limit)
	}
	buf := make([]byte, 30000)
	n, _, _ := w.c.Read(buf)
	if n != 20000 {
		t.Fatalf("read %d", n)
	}
	for i := range n {
		if buf[i] != pattern(i) {
			t.Fatalf("byte %d", i)
		}
	}
}

// Out of order with gaps, nothing can be joined: the queue is capped, and what
// is furthest from delivery goes.
func TestSmallSegmentsOutOfOrder(t *testing.T) {
	w := dial(t, Config{RcvBuf: 32 << 10, NoSACK: true}, sackOK(false))
	for i := range uint32(16000) {
		w.in("A", 32000-2*i, 1, 1)
	}
	if n, limit := w.heldFrames(), w.c.heldLimit(); n > limit || n < limit/2 {
		t.Errorf("%d frames held, limit %d", n, limit)
	}
	if n := len(w.c.ooo.list); n > maxRanges {
		t.Errorf("%d pieces", n)
	}
	if lo := w.c.ooo.list[0].lo - w.peer; lo != 2 {
		t.Errorf("the nearest piece begins at %d", lo)
	}
	// Data in order has precedence.
	for i := range uint32(16) {
		w.in("A", 1+i*1000, 1, 1000)
	}
	if n := w.read(20000); n < 16000 {
		t.Errorf("read %d", n)
	}
	w.out = nil
}

// When the arena runs low, early data is dropped first.
func TestOutOfOrderUnderPressure(t *testing.T) {
	w := dial(t, Config{})
	w.in("A", 1001, 1, 1000)
	if w.heldFrames() != 1 {
		t.Fatal("not queued")
	}
	w.h.Reserve = 4 * 1025
	w.in("A", 3001, 1, 1000)
	if n := w.heldFrames(); n != 0 {
		t.Errorf("%d frames held", n)
	}
	w.in("A", 1, 1, 1000)
	if n := w.read(5000); n != 1000 {
		t.Errorf("read %d", n)
	}
	w.out = nil
}

// Early data beyond a share is dropped when memory has run low meanwhile, even if
// nothing more comes.
func TestOutOfOrderShare(t *testing.T) {
	w := dial(t, Config{})
	for i := range uint32(20) {
		w.in("A", 1001+2*i, 1, 1)
	}
	if n := w.heldFrames(); n != 20 {
		t.Fatalf("%d frames held", n)
	}
	w.h.Cache.Flush()
	w.h.Reserve = w.h.Arena.FreeFrames() - 1
	w.advance(squeezeAfter)
	if n := w.heldFrames(); n != leastShare || w.c.ooo.list[0].lo != w.peer+1001 {
		t.Errorf("%d frames held from %d on, want the next %d", n, w.c.ooo.list[0].lo-w.peer, leastShare)
	}
	w.in("A", 2001, 1, 1)
	if n := w.heldFrames(); n > leastShare {
		t.Errorf("%d frames held after another", n)
	}
	w.h.Reserve = w.h.Arena.Frames()
	w.advance(squeezeAfter)
	if n := w.heldFrames(); n != 0 {
		t.Errorf("%d frames held below the reserve", n)
	}
	w.out = nil
}

// Joined small segments share frames.
func TestSmallSegmentsOutOfOrderJoined(t *testing.T) {
	w := dial(t, Config{RcvBuf: 32 << 10})
	for i := range uint32(10000) {
		w.in("A", 100+i, 1, 1)
	}
	if n := w.heldFrames(); n > 10 {
		t.Errorf("%d frames held", n)
	}
	w.in("A", 1, 1, 99)
	if n := w.read(20000); n != 10099 {
		t.Errorf("read %d", n)
	}
	w.out = nil
}

// The holder squeezes the receive queue while the reader reads from it.
func TestCollapseUnderReader(t *testing.T) {
	w := dial(t, Config{RcvBuf: 8 << 10, NoTimestamps: true}, tsOK(false))
	const total = 200000
	var wg sync.WaitGroup
	wg.Add(1)
	squeezed := make(chan struct{})
	start := squeezed
	go func() {
		defer wg.Done()
		<-start
		buf := make([]byte, 7)
		for at := 0; at < total; {
			n, _, _ := w.c.Read(buf)
			for i := range n {
				if buf[i] != pattern(at+i) {
					t.Errorf("byte %d", at+i)
					return
				}
			}
			at += n
			if w.c.Err() != nil {
				t.Error(w.c.Err())
				return
			}
		}
	}()
	for !t.Failed() && w.c.received < total {
		n := 1
		if w.c.received%11 == 0 {
			n = 3
		}
		w.in("A", uint32(w.c.received)+1, 1, min(n, total-int(w.c.received)))
		w.c.Output(w.now)
		w.out, w.wnds = nil, nil
		if squeezed != nil && w.h.Stats.TCPRcvCollapsed.Load() > 0 {
			close(squeezed)
			squeezed = nil
		}
	}
	wg.Wait()
}

// EvReadable comes once for what the reader has not taken; EvWritable when a
// full buffer is a third free.
func TestWakeUps(t *testing.T) {
	w := dial(t, Config{SndBuf: 30000, NoDelay: true})
	w.ev = 0
	w.in("A", 1, 1, 1000)
	if w.ev != EvReadable {
		t.Errorf("events %b", w.ev)
	}
	w.ev = 0
	w.in("A", 1001, 1, 1000)
	if w.ev != 0 {
		t.Errorf("events %b for the second segment", w.ev)
	}
	w.read(500)
	w.ev = 0
	w.in("A", 2001, 1, 1000)
	if w.ev != EvReadable {
		t.Errorf("events %b", w.ev)
	}
	w.c.cc.SetCwnd(100000)
	if n := w.write(40000); n != 30000 {
		t.Errorf("wrote %d", n)
	}
	if w.c.Writable() {
		t.Error("writable")
	}
	w.ev = 0
	for i := range uint32(9) {
		w.feed("A", 3001, 1+1000*(i+1), 0)
	}
	if w.ev&EvWritable != 0 {
		t.Error("woken too early")
	}
	w.feed("A", 3001, 10001, 0)
	if w.ev&EvWritable == 0 || !w.c.Writable() {
		t.Error("not woken")
	}
	w.ev = 0
	w.feed("A", 3001, 11001, 0)
	if w.ev&EvWritable != 0 {
		t.Error("woken again")
	}
	w.out = nil
}

// A writer for whom the arena had no frame is woken when there are some,
// although no acknowledgement comes.
func TestStarvedWriter(t *testing.T) {
	w := dial(t, Config{})
	w.h.Cache.Flush()
	fs := rxFrames(t, w.h, make([]byte, 1920*1024))
	if w.h.Arena.FreeFrames() > 0 {
		w.h.Reserve = w.h.Arena.FreeFrames()
	}
	w.h.Cache.Flush()
	for w.h.Arena.FreeFrames() > 0 {
		fs = append(fs, rxFrames(t, w.h, []byte{1})...)
	}
	if n := w.write(10); n != 0 {
		t.Fatalf("wrote %d", n)
	}
	w.ev = 0
	w.h.Cache.FreeDescs(fs)
	w.h.Cache.Flush()
	w.h.Reserve = 0
	w.advance(10 * ms)
	if w.ev&EvWritable == 0 {
		t.Error("not woken")
	}
	if n := w.write(10); n != 10 {
		t.Errorf("wrote %d", n)
	}
	w.want("PA 1:1 len 10")
}

// An acknowledgement that could not be sent for want of room is sent later.
func TestRingFull(t *testing.T) {
	w := dial(t, Config{})
	w.full = true
	w.in("A", 1, 1, 2000)
	if more := w.c.Output(w.now); !more {
		t.Error("no more")
	}
	w.full = false
	if more := w.c.Output(w.now); more {
		t.Error("more")
	}
	w.want("A 1:2001")
	w.full = true
	w.c.Write(make([]byte, 2500))
	if more := w.c.Output(w.now); !more {
		t.Error("no more")
	}
	w.full = false
	w.c.Output(w.now)
	w.want("A 1:2001 len 1000", "A 1001:2001 len 1000", "PA 2001:2001 len 500")
}

// Frames of the send buffer: tiny writes may not pin the arena.
func TestTinyWrites(t *testing.T) {
	w := dial(t, Config{SndBuf: 64 << 10})
	w.feed("A", 1, 1, 0, wnd(0))
	n := 0
	for range 10000 {
		n += w.c.Write([]byte{1})
	}
	if fr, _ := w.c.sndUsed.load(); fr > sendFrames(64<<10) {
		t.Errorf("%d frames", fr)
	}
	w.c.Output(w.now)
	if fr, by := w.c.sndUsed.load(); fr > 2 || by != n {
		t.Errorf("%d frames hold %d of %d bytes", fr, by, n)
	}
	w.feed("A", 1, 1, 0)
	w.want("PA 1:1 len 144")
	if n != 144 {
		t.Errorf("wrote %d", n)
	}
}

// Attack 8: the cost of a SACK does not grow with what is in flight.
func TestSACKCost(t *testing.T) {
	w := dial(t, Config{SndBuf: 1 << 20, NoDelay: true})
	w.c.cc.SetCwnd(1 << 20)
	w.c.sndWnd, w.c.maxWnd = 1<<20, 1<<20
	w.write(700000)
	w.out = nil
	const n = 700
	var st ackState
	most, total := 0, 0
	for i := uint32(1); i < n; i++ {
		budget := sackSteps
		b := SACKBlock{w.iss + 1001, w.iss + 1001 + 1000*i}
		if i == n-1 {
			break
		}
		c := &w.c
		f := c.sackBlock(&b, &budget, &st, w.now)
		c.sackHint = f
		most, total = max(most, sackSteps-budget), total+sackSteps-budget
	}
	if most > 4 {
		t.Errorf("up to %d steps for an ACK that adds one segment, %d in all", most, total)
	}
	// Blocks at random places: never above the budget, and few steps here.
	for i := uint32(0); i < 1000; i++ {
		budget := sackSteps
		at := w.iss + 1001 + 1000*(i*7919%600)
		w.c.sackBlock(&SACKBlock{at, at + 3000}, &budget, &st, w.now)
		if used := sackSteps - budget; used > 8 {
			t.Fatalf("%d steps", used)
		}
	}
}

// RFC 1191 and RFC 8201 by way of ICMP, and what must be ignored.
func TestICMPPathMTU(t *testing.T) {
	w := dial(t, Config{}, mss(1460))
	w.write(5000)
	w.out = nil
	e := ip.ICMPError{Type: 3, Code: 4, MTU: 1000, Proto: ip.ProtoTCP, Local: addrA, Remote: addrB, HasSeq: true}
	e.Seq = w.iss + 100000
	w.c.ICMP(&e, w.now)
	if w.c.mtu != 1500 {
		t.Fatal("took a sequence number that is not in flight")
	}
	e.Seq = w.iss + 1
	w.c.ICMP(&e, w.now)
	if w.c.mtu != 1000 || len(w.out) == 0 {
		t.Fatalf("MTU %d, sent %q", w.c.mtu, w.out)
	}
	e.MTU = 68
	w.c.ICMP(&e, w.now)
	if w.c.mtu != minMTU4 {
		t.Errorf("MTU %d", w.c.mtu)
	}
	e.MTU = 1400
	w.c.ICMP(&e, w.now)
	if w.c.mtu != minMTU4 {
		t.Errorf("ICMP raised the MTU to %d", w.c.mtu)
	}
	w.check()
	e = ip.ICMPError{Type: 3, Code: 3, Proto: ip.ProtoTCP, HasSeq: true, Seq: w.iss + 1}
	w.c.ICMP(&e, w.now)
	w.state(Established)
	w.out = nil
}

// A FIN may not lie before data that is there already.
func TestFINBelowData(t *testing.T) {
	w := dial(t, Config{})
	w.feed("A", 101, 1, 100)
	w.feed("FA", 151, 1, 0)
	w.feed("A", 1, 1, 100)
	w.state(Established)
	w.feed("FA", 201, 1, 0)
	w.state(CloseWait)
	if n := w.read(1000); n != 200 {
		t.Errorf("read %d", n)
	}
	w.out = nil
}

// A window that was shut because memory was short opens by itself when there
// is some again: the peer's probes are 200 ms apart.
func TestShutWindowReopens(t *testing.T) {
	w := dial(t, Config{RcvBuf: 64 << 10})
	w.h.Cache.Flush()
	w.h.Reserve = 2 * (w.h.Arena.FreeFrames() + 100)
	seq := uint32(1)
	for w.c.openWindow() >= 2000 {
		w.feed("A", seq, 1, 1000)
		seq += 1000
		w.read(1000)
	}
	w.out = nil
	for range 2 {
		if n := w.c.openWindow(); n < 1000 || n > 2000 {
			t.Fatalf("a window of %d bytes below the reserve, want a segment", n)
		}
		w.feed("A", seq, 1, 1000)
		seq += 1000
		if n := w.read(2000); n != 1000 {
			t.Fatalf("%d bytes received below the reserve", n)
		}
		w.c.WindowUpdate(w.now)
	}
	w.feed("A", seq, 1, 1000)
	w.h.Reserve = exhaustedPart * (w.h.Arena.FreeFrames() + 100)
	w.read(1000)
	w.out = nil
	w.advance(20 * ms)
	if w.c.openWindow() >= 1000 {
		t.Fatal("the window opened while memory was short")
	}
	w.out = nil
	w.h.Reserve = 0
	w.advance(shareRetry)
	if n := w.c.openWindow(); n < 3000 {
		t.Errorf("a window of %d bytes, a while after memory came back", n)
	}
	if len(w.out) == 0 {
		t.Error("and nobody told the peer")
	}
	w.out = nil
}
