package stack

import (
	"io"
	"testing"
	"time"
)

// TestIdleSleeps: a stack that nothing happens on wakes for nothing, and the
// next packet still finds a reader that sleeps.
func TestIdleSleeps(t *testing.T) {
	for _, p := range []Profile{Balanced, Throughput} {
		t.Run(p.String(), func(t *testing.T) {
			a, b := newPair(t, pairOptions{profile: p})
			c, s := connect(t, a, b, addrB)
			done := make(chan error, 1)
			go func() {
				_, err := io.ReadFull(s, make([]byte, 2))
				done <- err
			}()
			if _, err := c.Write([]byte{1}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(100 * time.Millisecond) // the delayed ACK is out
			before := b.counters.reactorWakes.Load()
			const idle = 300 * time.Millisecond
			time.Sleep(idle)
			if n := b.counters.reactorWakes.Load() - before; n > 5 {
				t.Errorf("the reactor woke %d times in %v without traffic", n, idle)
			}
			if _, err := c.Write([]byte{2}); err != nil {
				t.Fatal(err)
			}
			select {
			case err := <-done:
				if err != nil {
					t.Fatal(err)
				}
			case <-time.After(patience):
				t.Fatal("the reader was not woken")
			}
		})
	}
}

// TestProgressWithoutReader: the stack acknowledges, and closes, while the
// application is busy elsewhere.
func TestProgressWithoutReader(t *testing.T) {
	for _, p := range []Profile{Balanced, Latency, Throughput} {
		t.Run(p.String(), func(t *testing.T) {
			a, b := newPair(t, pairOptions{profile: p})
			c, s := connect(t, a, b, addrB)
			if _, err := c.Write(make([]byte, 100<<10)); err != nil {
				t.Fatal(err)
			}
			end := time.Now().Add(patience)
			for {
				i, err := c.Info()
				if err != nil {
					t.Fatal(err)
				}
				if i.InFlight == 0 && i.Unsent == 0 {
					break
				}
				if time.Now().After(end) {
					t.Fatalf("not acknowledged: %+v", i)
				}
				time.Sleep(time.Millisecond)
			}
			s.Close() // with unread data: a reset
			if _, err := io.Copy(io.Discard, c); err == nil {
				t.Error("no reset")
			}
		})
	}
}
