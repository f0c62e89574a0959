package onload_test

import (
	"io"
	"runtime"
	"testing"
	"time"

	onload "github.com/onload-go/onload/net"
)

// untilCollected collects garbage until done reports true, or a minute has passed.
func untilCollected(t *testing.T, done func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !done(); {
		if time.Now().After(end) {
			t.Fatal("a minute of garbage collection changes nothing")
		}
		runtime.GC()
		time.Sleep(time.Millisecond)
	}
}

// unclosed returns the ends of a connection that nobody closes.
func unclosed(t *testing.T, a, b *onload.Engine) (client, server *onload.TCPConn) {
	t.Helper()
	ln, err := b.Listen("tcp", addrB+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c, err := a.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return c.(*onload.TCPConn), s.(*onload.TCPConn)
}

// TestForgotten: a connection that the program has lost is closed, as net's is.
func TestForgotten(t *testing.T) {
	a, b := memoryPair(t)
	var s *onload.TCPConn
	func() { _, s = unclosed(t, a, b) }()
	end := make(chan error, 1)
	go func() {
		_, err := s.Read(make([]byte, 1))
		end <- err
	}()
	untilCollected(t, func() bool {
		select {
		case err := <-end:
			if err != io.EOF {
				t.Errorf("the peer reads %v", err)
			}
			return true
		default:
			return false
		}
	})
}

// TestForgottenWhileReading: a connection on which a goroutine waits is not forgotten,
// even if nobody else knows it.
func TestForgottenWhileReading(t *testing.T) {
	a, b := memoryPair(t)
	got := make(chan error, 1)
	s := func() *onload.TCPConn {
		c, s := unclosed(t, a, b)
		go func() {
			_, err := c.Read(make([]byte, 1))
			got <- err
		}()
		return s
	}()
	for range 5 {
		runtime.GC()
		time.Sleep(time.Millisecond)
	}
	if _, err := s.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if err := <-got; err != nil {
		t.Errorf("Read: %v", err)
	}
}

// TestForgottenUDP: the port of a connected socket that the program has lost is free.
func TestForgottenUDP(t *testing.T) {
	a, b := memoryPair(t)
	s, err := b.ListenPacket("udp", addrB+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	dial := func(from onload.Addr) (onload.Addr, error) {
		c, err := (&onload.Dialer{Engine: a, LocalAddr: from}).Dial("udp", s.LocalAddr().String())
		if err != nil {
			return nil, err
		}
		return c.LocalAddr(), nil
	}
	from, err := dial(nil)
	if err != nil {
		t.Fatal(err)
	}
	untilCollected(t, func() bool {
		_, err := dial(from)
		return err == nil
	})
}
