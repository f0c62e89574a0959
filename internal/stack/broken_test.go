package stack

import (
	"errors"
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/driver/sim"
)

// TestBrokenQueue: when a device fails for good (attack 26), those that wait
// on its connections get an error, and the stack closes. A device that is gone
// is a network that is down, also where the kernel's notice comes later.
func TestBrokenQueue(t *testing.T) {
	corrupt := errors.New("descriptor out of range")
	for _, p := range []Profile{Balanced, Latency, Throughput} {
		t.Run(p.String(), func(t *testing.T) { breakQueue(t, p, corrupt, syscall.EIO) })
	}
	t.Run("gone", func(t *testing.T) {
		breakQueue(t, Balanced, fmt.Errorf("queue 0: %w", driver.ErrGone), syscall.ENETDOWN)
	})
}

func breakQueue(t *testing.T, p Profile, broken, want error) {
	a, b := newPair(t, pairOptions{profile: p})
	c, _ := connect(t, a, b, addrB)
	done := make(chan error, 1)
	go func() {
		_, err := c.Read(make([]byte, 1))
		done <- err
	}()
	time.Sleep(20 * time.Millisecond)
	a.cfg.Links[0].Steering.(*sim.Device).Break(broken)
	// The reactor may have noticed already, and then says itself that a device is gone.
	if err := a.Err(); !errors.Is(err, broken) && (want != syscall.ENETDOWN || !errors.Is(err, errGone)) {
		t.Errorf("Err: %v", err)
	}
	// Whatever moves next notices.
	_, _ = c.Write([]byte{1})
	select {
	case err := <-done:
		if !errors.Is(err, want) {
			t.Errorf("Read: %v, want %v", err, want)
		}
	case <-time.After(patience):
		t.Fatal("Read hangs on a broken device")
	}
}
