package stack

import (
	"errors"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/onload-go/onload/tcp"
)

// TestLinger: with SO_LINGER Close waits until what was sent, and the FIN, is
// acknowledged. It does not wait for the peer to close too (as Linux).
func TestLinger(t *testing.T) {
	a, b := newPair(t, pairOptions{})
	for _, half := range []bool{false, true} {
		c, s := connect(t, a, b, addrB)
		if err := c.SetLinger(600); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if half {
			if err := c.CloseWrite(); err != nil {
				t.Fatal(err)
			}
		}
		start := time.Now()
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(start); d > 5*patience {
			t.Errorf("CloseWrite first %v: Close took %v", half, d)
		}
		if st := c.tc.State(); st != tcp.FinWait2 {
			t.Errorf("state %v", st)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestListenerClosedShard: if the listener that a shard forwards to is closed
// already, the shard resets the connections that it accepts.
func TestListenerClosedShard(t *testing.T) {
	a, b := newPair(t, pairOptions{})
	l, err := a.ListenTCP(netip.AddrPortFrom(addrA, 80), nil)
	if err != nil {
		t.Fatal(err)
	}
	shard, err := b.ListenTCP(netip.AddrPortFrom(addrB, 80), &TCPOptions{Forward: l})
	if err != nil {
		t.Fatal(err)
	}
	defer shard.Close()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	c, err := a.DialTCP(t.Context(), netip.AddrPort{}, shard.Addr(), nil)
	if errors.Is(err, syscall.ECONNRESET) {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetReadDeadline(time.Now().Add(patience))
	if _, err := c.Read(make([]byte, 1)); err != syscall.ECONNRESET {
		t.Error(err)
	}
	if n := b.Stats().Conns; n != 0 {
		t.Errorf("%d connections left", n)
	}
}

// TestInfoAfterEnd: a connection's counts can be asked for until it is closed, as
// with TCP_INFO.
func TestInfoAfterEnd(t *testing.T) {
	a, b := newPair(t, pairOptions{})
	c, s := connect(t, a, b, addrB)
	if err := c.SetKeepAlive(tcp.KeepAlive{Enable: true, Count: 7}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Write(make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	n := 0
	for buf := make([]byte, 1000); n < 1000; {
		k, err := c.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		n += k
	}
	if _, err := c.Write(make([]byte, 500)); err != nil {
		t.Fatal(err)
	}
	for n = 0; n < 500; {
		k, err := s.Read(make([]byte, 500))
		if err != nil {
			t.Fatal(err)
		}
		n += k
	}
	s.SetLinger(0)
	s.Close()
	if _, err := c.Read(make([]byte, 1)); err != syscall.ECONNRESET {
		t.Fatal(err)
	}
	i, err := c.Info()
	if err != nil || i.State != tcp.Closed || i.BytesReceived != 1000 || i.BytesSent != 500 || i.InFlight != 0 {
		t.Errorf("%+v, %v", i, err)
	}
	if k, err := c.KeepAlive(); err != nil || k.Count != 7 {
		t.Errorf("%+v, %v", k, err)
	}
	c.Close()
	if _, err := c.Info(); err != errClosed {
		t.Error(err)
	}
}
