package onload_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	onload "github.com/onload-go/onload/net"
)

// TestSynctest: connections within a bubble are like net's: waiting for them is not
// durable, so they use no fake time, and others may be at the other end.
func TestSynctest(t *testing.T) {
	a, b := memoryPair(t)
	outer, s := tcpPipe(t, a, b)
	go func() { // outside, for connections of the bubble
		_, _ = io.Copy(s, s)
	}()
	synctest.Test(t, func(t *testing.T) {
		c, inner := tcpPipe(t, a, b)
		begun := time.Now()
		var wg sync.WaitGroup
		wg.Go(func() {
			_, _ = io.Copy(inner, inner)
			inner.Close()
		})
		for _, c := range []*onload.TCPConn{c, outer} {
			for range 100 {
				p := []byte("hello")
				if _, err := c.Write(p); err != nil {
					t.Fatal(err)
				}
				if _, err := io.ReadFull(c, p); err != nil || string(p) != "hello" {
					t.Fatal(string(p), err)
				}
			}
		}
		if d := time.Since(begun); d != 0 {
			t.Errorf("fake time passed: %v", d)
		}
		c.Close()
		wg.Wait()
	})
	// The waiter of outer was the bubble's first.
	if _, err := outer.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(outer, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
}

// TestSynctestDeadline: deadlines that are set within a bubble come in real time, also
// when they are moved from outside, and those from outside within.
func TestSynctestDeadline(t *testing.T) {
	a, b := memoryPair(t)
	c, s := tcpPipe(t, a, b)
	expires := func(c *onload.TCPConn) {
		t.Helper()
		_ = c.SetReadDeadline(time.Now().Add(time.Hour))
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("Read: %v", err)
		}
		_ = c.SetReadDeadline(time.Time{})
	}
	synctest.Test(t, func(*testing.T) { expires(c) })
	expires(c)
	expires(s)
	synctest.Test(t, func(*testing.T) { expires(s) })
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := (&onload.Dialer{Engine: a}).DialContext(ctx, "tcp", addrB+":9"); err == nil {
			t.Error("a dial that was cancelled connects")
		}
	})
}

// TestSynctestDatagrams: a burst leaves no goroutine in the bubble.
func TestSynctestDatagrams(t *testing.T) {
	a, b := memoryPair(t)
	synctest.Test(t, func(t *testing.T) {
		s, err := b.ListenPacket("udp", addrB+":0")
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		c, err := a.Dial("udp", s.LocalAddr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		for range 100 {
			if _, err := c.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
		}
		for range 100 {
			if _, _, err := s.ReadFrom(make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// TestSynctestEngine: an engine that is made within a bubble is the process's: it goes
// on when the bubble has ended.
func TestSynctestEngine(t *testing.T) {
	var a, b *onload.Engine
	var c net.Conn
	synctest.Test(t, func(t *testing.T) {
		config := onload.MemoryConfig{Config: onload.Config{Logger: zap.NewNop()}}
		var err error
		if a, b, err = onload.NewMemoryPair(config, config); err != nil {
			t.Fatal(err)
		}
		c, _ = unclosed(t, a, b)
	})
	defer b.Close()
	defer a.Close()
	if _, err := c.Write([]byte("x")); err != nil {
		t.Error(err)
	}
}
