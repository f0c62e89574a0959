package stack

import (
	"errors"
	"testing"
	"time"

	"github.com/onload-go/onload/driver/sim"
)

// TestBrokenQueue: when a device fails for good (attack 26), those that wait
// on its connections get an error, and the stack closes.
func TestBrokenQueue(t *testing.T) {
	for _, p := range []Profile{Balanced, Latency, Throughput} {
		t.Run(p.String(), func(t *testing.T) {
			a, b := newPair(t, pairOptions{profile: p})
			c, _ := connect(t, a, b, addrB)
			done := make(chan error, 1)
			go func() {
				_, err := c.Read(make([]byte, 1))
				done <- err
			}()
			time.Sleep(20 * time.Millisecond)
			broken := errors.New("descriptor out of range")
			a.cfg.Steering.(*sim.Device).Break(broken)
			if err := a.Err(); !errors.Is(err, broken) {
				t.Errorf("Err: %v", err)
			}
			// Whatever moves next notices.
			_, _ = c.Write([]byte{1})
			select {
			case err := <-done:
				if err == nil {
					t.Error("read from a broken device")
				}
			case <-time.After(10 * time.Second):
				t.Fatal("Read hangs on a broken device")
			}
		})
	}
}
