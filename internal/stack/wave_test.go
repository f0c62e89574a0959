package stack

import (
	"net/netip"
	"runtime"
	"sync/atomic"
	"testing"
	"time"
)

// A turn takes no more packets once it is to wake so many goroutines; for one
// goroutine it takes all that are there.
func TestWave(t *testing.T) {
	const socks = 32
	for _, c := range []struct{ socks, each int }{{socks, 1}, {1, 100}} {
		a, b := newPair(t, pairOptions{profile: Latency})
		u, err := a.OpenUDP(netip.AddrPort{}, netip.AddrPort{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer u.Close()
		var to []*UDPConn
		for range c.socks {
			r, err := b.OpenUDP(netip.AddrPortFrom(addrB, 0), netip.AddrPort{}, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			to = append(to, r)
		}
		b.begin() // nobody else polls
		for _, r := range to {
			r.r.state.Store(waiterParked) // as if a goroutine waited
			for range c.each {
				if _, err := u.WriteTo([]byte{1}, r.LocalAddr()); err != nil {
					t.Fatal(err)
				}
			}
		}
		a.kickDeferred()                  // the last packets may wait for a kick
		most := b.rx.wave + waveWakes - 1 // what comes in a batch is taken whole
		turns, packets, woken := 0, 0, 0
		for start := time.Now(); packets < c.socks*c.each && time.Since(start) < patience; {
			n := b.poll()
			if n == 0 { // the link is at it
				runtime.Gosched()
				continue
			}
			packets += n
			turns++
			if w := len(b.turn.wakes); w > most {
				t.Errorf("%d goroutines are to be woken, the most is %d", w, most)
			} else {
				woken += w
			}
			b.turn.wakes = b.turn.wakes[:0]
		}
		if woken != c.socks {
			t.Errorf("%d goroutines are to be woken, not %d", woken, c.socks)
		}
		if packets < c.socks*c.each {
			t.Errorf("%d packets of %d", packets, c.socks*c.each)
		}
		if c.socks == 1 && turns > c.each/4 {
			t.Errorf("%d packets for one goroutine took %d turns", packets, turns)
		}
		for _, r := range to {
			r.r.state.Store(waiterIdle)
		}
		b.end()
	}
}

// On one P a goroutine that is about to take packets lets those finish first
// that have yielded, where another gave way.
func TestLetOthersFinish(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	a, _ := newPair(t, pairOptions{profile: Latency})
	if a.letOthersFinish() {
		t.Error("gives way though nobody has")
	}
	var answered atomic.Bool
	go func() {
		runtime.Gosched() // as a writer that waits for more to write
		answered.Store(true)
	}()
	const passes = 10 // the runtime does not promise an order
	for i := 0; i < passes && !answered.Load(); i++ {
		a.waits.away.Store(true) // as if one gave way
		if !a.letOthersFinish() || a.waits.away.Load() {
			t.Error("does not give way, or the next would too")
		}
	}
	if !answered.Load() {
		t.Error("a goroutine that has yielded does not run")
	}
}
