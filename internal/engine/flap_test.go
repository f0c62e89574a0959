package engine_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/onload-go/onload/internal/lab"
	onload "github.com/onload-go/onload/net"
)

// TestFlappingInterface: an interface that is deleted and made again, many times,
// joins the Stack that lost it. Connections go on, those by its own address too, and
// it takes no more memory.
func TestFlappingInterface(t *testing.T) {
	o := lab.Options{Queues: 4, InUse: 1}
	u := makeUplinks(t, o, onload.Config{Frames: 2048, RingSize: 512})
	w := &changes{t: t, u: u}
	w.prepare()
	stats := func(i int) onload.Stats { return u.engine.Stats()[u.a[i].If] }
	frames, free := stats(0).Frames, stats(0).FreeFrames
	p := newParley(t, u, 16)
	talk := func(when string) {
		t.Helper()
		if stuck := p.progress(patience); len(stuck) > 0 {
			t.Fatalf("%s: %v\n%s", when, stuck, w.last(30))
		}
	}
	talk("before")
	for n := range 6 {
		i := n % 2
		w.must(u.a[i].Delete())
		w.gone[i] = true
		waitTaken(t, u.engine, i, false)
		w.remake(i)
		if n < 4 { // it comes back with fewer
			w.must(u.r[i].SetQueues(4))
			w.must(u.a[i].SetQueues(4))
		}
		talk("after")
	}
	if faults := p.verdict(); len(faults) > 0 {
		t.Error(faults)
	}
	p.close()
	for i := range u.a {
		if n := stats(i).Frames; n != frames {
			t.Errorf("interface %d has %d frames of packet memory, had %d", i, n, frames)
		}
	}
	// Some frames may be on their way for good.
	for start := time.Now(); stats(0).FreeFrames < free-frames/50; time.Sleep(10 * time.Millisecond) {
		if time.Since(start) > patience {
			st := stats(0)
			t.Fatalf("%d of %d frames are free, there were %d; %d connections", st.FreeFrames, st.Frames, free, st.Conns)
		}
	}
}

// TestOnlyInterfaceFlaps: sockets of an engine without any interface end, except
// those that are bound. The interface that comes back has the memory of the one before.
func TestOnlyInterfaceFlaps(t *testing.T) {
	pair := lab.NewPair(t, lab.Options{})
	e := lifeEngine(t, pair.A, 1, pair.A.If)
	l, err := e.Listen("tcp", netip.AddrPortFrom(netip.IPv4Unspecified(), 0).String())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	u, err := e.ListenPacket("udp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	for n := range 3 {
		if err := pair.A.Delete(); err != nil {
			t.Fatal(err)
		}
		waitTaken(t, e, 0, false)
		if err := lab.Remake(pair.A.Link, pair.B.Link, lab.Options{}); err != nil {
			t.Fatal(err)
		}
		waitTaken(t, e, 0, true)
		if st := e.Stats()[pair.A.If]; n > 0 && int(st.TCP.PassiveOpens) < n {
			t.Errorf("it has not the Stack of before: %+v", st.TCP)
		}
		served(t, e, pair.B, l, u, pair.A.Link, pair.B.Link)
	}
}
