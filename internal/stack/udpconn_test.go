package stack

import (
	"net/netip"
	"testing"
	"time"
)

// TestFarDeadline: a deadline that the clock cannot reach is none, as in net.
func TestFarDeadline(t *testing.T) {
	a, b := newPair(t, pairOptions{})
	c := udpPair(t, a, b, addrB, nil)
	for _, at := range []time.Time{time.Now().AddDate(400, 0, 0), time.Unix(1<<40, 0)} {
		if err := c.SetDeadline(at); err != nil {
			t.Fatal(err)
		}
		if _, err := c.WriteTo([]byte{1}, netip.AddrPort{}); err != nil {
			t.Errorf("write until %v: %v", at, err)
		}
		if _, _, _, _, err := c.ReadFrom(make([]byte, 1)); err != nil {
			t.Errorf("read until %v: %v", at, err)
		}
	}
}

// TestUDPNoWriteBuffer: the least buffer holds a datagram, as the kernel's
// SOCK_MIN_SNDBUF does.
func TestUDPNoWriteBuffer(t *testing.T) {
	a, b := newPair(t, pairOptions{})
	c := udpPair(t, a, b, addrB, nil)
	if err := c.SetWriteBuffer(0); err != nil {
		t.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(patience))
	for _, size := range []int{1, 5000} {
		if _, err := c.WriteTo(make([]byte, size), netip.AddrPort{}); err != nil {
			t.Fatal(err)
		}
		if n, _, _, _, err := c.ReadFrom(make([]byte, size)); n != size || err != nil {
			t.Fatal(n, err)
		}
	}
}

// TestUDPWriteBufferGrows: a writer that waits for room goes on when the buffer
// is made larger.
func TestUDPWriteBufferGrows(t *testing.T) {
	a, b := newPair(t, pairOptions{})
	c := udpPair(t, a, b, addrB, nil)
	size := a.arena.FrameSize()
	c.SetWriteBuffer(4 * size)
	a.begin() // so that nothing is sent
	done := make(chan error, 1)
	go func() {
		for range 8 {
			if _, err := c.WriteTo([]byte{1}, netip.AddrPort{}); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	for end := time.Now().Add(patience); c.w.state.Load() != waiterParked; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the writer does not wait")
		}
	}
	c.SetWriteBuffer(16 * size)
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Error("the writer still waits")
	}
	a.end()
}
