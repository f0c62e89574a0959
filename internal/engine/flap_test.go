package engine_test

import (
	"fmt"
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
	for _, stacks := range []int{1, 2} {
		t.Run(fmt.Sprintf("stacks=%d", stacks), func(t *testing.T) { testFlapping(t, stacks) })
	}
}

func testFlapping(t *testing.T, stacks int) {
	o := lab.Options{Queues: 4, InUse: stacks}
	u := makeUplinks(t, o, onload.Config{Frames: 2048 * stacks, RingSize: 512, Spin: -1, Stacks: stacks})
	w := &changes{t: t, u: u, links: o}
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
		waitTaken(t, u.engine, i, true) // without any link connections end
		if n < 4 {                      // it comes back with fewer
			w.must(u.r[i].SetQueues(4))
			w.must(u.a[i].SetQueues(4))
		}
		talk("after")
	}
	sits := stats(0).Sits
	talk("at the end")
	if n := stats(0).Sits; n == sits {
		t.Errorf("nobody waits for packets at the queues any more: %+v", stats(0))
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
	for _, stacks := range []int{1, 2} {
		t.Run(fmt.Sprintf("stacks=%d", stacks), func(t *testing.T) { testOnlyInterfaceFlaps(t, stacks) })
	}
}

func testOnlyInterfaceFlaps(t *testing.T, stacks int) {
	o := lab.Options{Queues: stacks}
	pair := lab.NewPair(t, o)
	e := lifeEngine(t, pair.A, stacks, pair.A.If)
	arena := e.Stats()[pair.A.If].Frames
	l, u := bindAll(t, e, "0.0.0.0:0")
	for n := range 3 {
		if err := pair.A.Delete(); err != nil {
			t.Fatal(err)
		}
		waitTaken(t, e, 0, false)
		if err := lab.Remake(pair.A.Link, pair.B.Link, o); err != nil {
			t.Fatal(err)
		}
		waitTaken(t, e, 0, true)
		if st := e.Stats()[pair.A.If]; n > 0 && int(st.TCP.PassiveOpens) < n {
			t.Errorf("it has not the Stack of before: %+v", st.TCP)
		}
		if st := e.Status()[0]; st.Stacks != stacks || st.Queues != stacks || st.Frames != arena {
			t.Errorf("it came back with %d stacks, %d queues, %d frames; had %d stacks, %d frames", st.Stacks, st.Queues, st.Frames, stacks, arena)
		}
		served(t, e, pair.B, l, u, pair.A.Link, pair.B.Link)
	}
}

// TestMovedInterface: an interface that is moved to another namespace is without our
// program there, and is taken when it comes back.
func TestMovedInterface(t *testing.T) {
	for _, stacks := range []int{1, 2} {
		t.Run(fmt.Sprintf("stacks=%d", stacks), func(t *testing.T) { testMoved(t, stacks) })
	}
}

func testMoved(t *testing.T, stacks int) {
	pair := lab.NewPair(t, lab.Options{Queues: 2})
	away, err := lab.NewNS("away")
	if err != nil {
		t.Fatal(err)
	}
	defer away.Close()
	e := lifeEngine(t, pair.A, stacks, pair.A.If)
	l, u := bindAll(t, e, "0.0.0.0:0")
	for range 2 {
		moveLink(t, pair.A.If, pair.A, away)
		waitTaken(t, e, 0, false)
		for start := time.Now(); ; time.Sleep(time.Millisecond) {
			k, err := away.Netlink().LinkByName(pair.A.If)
			if err != nil {
				t.Fatal(err)
			}
			if x := k.Attrs().Xdp; x == nil || !x.Attached {
				break
			}
			if time.Since(start) > patience {
				t.Fatal("our program is on an interface of another namespace")
			}
		}
		moveLink(t, pair.A.If, away, pair.A)
		for _, a := range []netip.Prefix{netip.PrefixFrom(pair.A.Addr4, 24), netip.PrefixFrom(pair.A.Addr6, 64)} {
			if err := pair.A.AddAddr(a); err != nil {
				t.Fatal(err)
			}
		}
		if err := pair.A.SetUp(); err != nil {
			t.Fatal(err)
		}
		waitTaken(t, e, 0, true)
		served(t, e, pair.B, l, u, pair.A.Link, pair.B.Link)
	}
}

// moveLink moves an interface to another namespace.
func moveLink(t *testing.T, name string, from, to *lab.NS) {
	t.Helper()
	k, err := from.Netlink().LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	err = to.Handle().WithFD(func(fd int) error { return from.Netlink().LinkSetNsFd(k, fd) })
	if err != nil {
		t.Fatal(err)
	}
}
