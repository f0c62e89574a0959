package stack

import (
	"io"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/onload-go/onload/internal/processors"
)

// TestBreath: the kernel's connections go on while a goroutine spins on the only
// processor of the process. Without the way through the netpoller each trip over a
// pipe would wait for the runtime's look at it, every 10 ms: hundreds of the
// spinner's breaths.
func TestBreath(t *testing.T) {
	a, b := newPair(t, pairOptions{profile: Latency})
	_, s := connect(t, a, b, addrB)
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	var pipes [2][2]*os.File
	for i := range pipes {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		defer w.Close()
		pipes[i] = [2]*os.File{r, w}
	}
	go func() {
		p := make([]byte, 1)
		for {
			if _, err := pipes[0][0].Read(p); err != nil {
				return
			}
			if _, err := pipes[1][1].Write(p); err != nil {
				return
			}
		}
	}()
	var breaths atomic.Int64
	turn := b.waits.breath.turn
	b.waits.breath.turn = func(fd uintptr) bool {
		over := turn(fd)
		if over {
			breaths.Add(1)
		}
		return over
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for s.userError() == nil {
			// A goroutine that slept longer than its budget parks; the next one
			// spins again.
			_ = s.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
			if _, err := s.Read(make([]byte, 1)); err != os.ErrDeadlineExceeded {
				return
			}
		}
	}()
	for end := time.Now().Add(patience); breaths.Load() == 0; runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatal("a goroutine that spins does not go through the netpoller")
		}
	}
	const trips = 300
	before := breaths.Load()
	p := make([]byte, 1)
	for range trips {
		if _, err := pipes[0][1].Write(p); err != nil {
			t.Fatal(err)
		}
		if _, err := pipes[1][0].Read(p); err != nil {
			t.Fatal(err)
		}
	}
	n := breaths.Load() - before
	t.Logf("%d breaths in %d trips", n, trips)
	if n > 20*trips {
		t.Errorf("%d trips over a pipe took %d breaths of a goroutine that spins", trips, n)
	}
	s.Close()
	<-done
}

// TestSharing: a processor is shared where others take a quarter of what was spun,
// several times, or two milliseconds at once. Of several processors only the
// milliseconds count.
func TestSharing(t *testing.T) {
	for _, c := range []struct {
		lost, spun int64
		times      int
		shared     bool
	}{
		{sharedLook/sharedShare - 1, sharedLook, sharedTimes, false},
		{sharedLook / sharedShare, sharedLook, sharedTimes, true},
		{sharedLook / sharedShare, sharedLook, sharedTimes - 1, false}, // a hypervisor perhaps
		{sharedLook / 2, sharedLook / 2, sharedTimes, false},           // too little to say
		{sharedLook, sharedLook / 2, sharedTimes, true},
		{0, 100 * sharedLook, 0, false},
	} {
		for _, several := range []bool{false, true} {
			h := sharing{lost: c.lost, times: c.times}
			h.several.Store(several)
			if got, want := h.end(c.spun), c.shared && !several; got != want {
				t.Errorf("%d of %d ns lost, several processors %v: shared %v, want %v", c.lost, c.spun, several, got, want)
			}
		}
	}
	var h sharing
	h.several.Store(true)
	h.base, h.since = usedTime(), nanotime()-2*sharedAtOnce // 2 ms that the process has not used
	if !h.lose(nanotime()) {
		t.Errorf("%d ns were lost at once, and %d counted", 2*sharedAtOnce, h.lost)
	}
	// A wait that goes on alone loses nothing that counts.
	h.lost = 0
	h.begin(nanotime())
	h.base, h.since = usedTime(), nanotime()
	for usedTime()-h.base < 1_000_000 {
	}
	before := h.base
	h.lose(nanotime())
	if used := h.base - before; h.base-before < 1_000_000 || h.since == 0 {
		t.Errorf("%d ns used after a millisecond of computing", used)
	}
}

// TestSeatFollowsPolicy: while goroutines spin the seat is closed, where idle
// threads of the runtime would be woken by each packet; while the processor is
// shared it is open.
func TestSeatFollowsPolicy(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(2))
	a, _ := newPair(t, pairOptions{profile: Balanced})
	a.begin()
	defer a.end()
	p := a.waits.policy
	p.eager, p.scarceUntil, p.sharedUntil = true, 0, 0
	if err := a.setSeat(); err != nil || a.waits.seat.open() {
		t.Fatalf("the seat is open while goroutines spin (%v)", err)
	}
	p.shared(a.now)
	if err := a.setSeat(); err != nil || !a.waits.seat.open() {
		t.Fatalf("the seat is closed while the processor is shared (%v)", err)
	}
	p.sharedUntil = 0
	a.arrived(1000, false)
	if p.eager && a.waits.seat.open() {
		t.Error("the seat is still open when goroutines spin again")
	}
	p.limited(a.now, 0.2, 0)
	if p.spins(a.now) || p.spins(a.now+scarceFor-1) {
		t.Error("goroutines spin though a cgroup grants a fifth of a processor")
	}
}

// TestWarnings: the profile for latency says where it cannot work as meant.
func TestWarnings(t *testing.T) {
	for _, c := range []struct {
		profile Profile
		view    processors.View
		shared  uint64
		want    []string
	}{
		{Latency, processors.View{Usable: 4}, 0, nil},
		{Latency, processors.View{Usable: 1}, 0, []string{"only one"}},
		{Latency, processors.View{Usable: 4, Quota: 0.5}, 0, []string{"grants 0.5"}},
		{Latency, processors.View{Usable: 1, Quota: 0.5}, 3, []string{"grants 0.5", "only one", "3 times"}},
		{Balanced, processors.View{Usable: 1, Quota: 0.5}, 3, nil},
		{Throughput, processors.View{Usable: 1, Quota: 0.5}, 3, nil},
	} {
		a, _ := newPair(t, pairOptions{profile: c.profile})
		a.begin()
		a.waits.limits.view = c.view
		a.end()
		a.counters.shared.Store(c.shared)
		got := a.Warnings()
		if len(got) != len(c.want) {
			t.Errorf("%v, %+v: %q", c.profile, c.view, got)
			continue
		}
		for i, w := range c.want {
			if !strings.Contains(got[i], w) {
				t.Errorf("%v, %+v: %q does not say %q", c.profile, c.view, got[i], w)
			}
		}
	}
}

// TestSpinsInVain: the policy hears also of the packets for which a goroutine
// had spun in vain, and which the reactor found.
func TestSpinsInVain(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(2))
	a, b := newPair(t, pairOptions{profile: Balanced})
	c, s := connect(t, a, b, addrB)
	const messages = 2 * budgetEvery
	read := make(chan error, messages)
	go func() {
		for range messages {
			_, err := io.ReadFull(s, make([]byte, 1))
			read <- err
		}
	}()
	heard := func() uint32 {
		b.begin()
		defer b.end()
		return b.waits.policy.gaps.total
	}
	before := heard()
	for range messages {
		// The reader has gone to sleep: no longer spins, and waits for this byte.
		for s.r.state.Load() == waiterIdle {
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Millisecond)
		if _, err := c.Write([]byte{1}); err != nil {
			t.Fatal(err)
		}
		if err := <-read; err != nil {
			t.Fatal(err)
		}
	}
	if n := heard() - before; n < messages/2 { // a few are found while the queues are armed
		t.Errorf("the policy heard of %d packets, and %d came", n, messages)
	}
}
