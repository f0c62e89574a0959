package onload_test

import (
	"errors"
	"io"
	"math"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"

	onload "github.com/onload-go/onload/net"
	"github.com/onload-go/onload/tcp"
)

// bothPaths runs f with an accelerated connection and one of the kernel's.
func bothPaths(t *testing.T, f func(t *testing.T, client, server *onload.TCPConn)) {
	t.Run("accelerated", func(t *testing.T) {
		a, b := memoryPair(t)
		client, server := tcpPipe(t, a, b)
		f(t, client, server)
	})
	t.Run("kernel", func(t *testing.T) {
		e, err := onload.New(onload.Config{Logger: zap.NewNop()})
		if err != nil {
			t.Fatal(err)
		}
		defer e.Close()
		ln, err := e.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		c, err := e.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		s, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		f(t, c.(*onload.TCPConn), s.(*onload.TCPConn))
	})
}

func info(t *testing.T, c *onload.TCPConn) onload.TCPInfo {
	t.Helper()
	i, err := c.Info()
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func TestTCPInfo(t *testing.T) {
	bothPaths(t, func(t *testing.T, c, s *onload.TCPConn) {
		const n = 100_000
		before := info(t, c)
		if before.State != tcp.Established || before.Ssthresh != math.MaxUint32 || before.Limit != onload.LimitIdle {
			t.Errorf("%+v", before)
		}
		if _, err := c.Write(make([]byte, n)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(s, make([]byte, n)); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Write([]byte("x")); err != nil { // acknowledges all
			t.Fatal(err)
		}
		if _, err := c.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		i, j := info(t, c), info(t, s)
		if i.State != tcp.Established || i.Congestion == "" || i.SendMSS < 536 || i.PathMTU <= i.SendMSS || !i.SACK || !i.Timestamps ||
			i.SendScale < 1 || i.RecvScale < 1 || i.RTT <= 0 || i.RTTVar <= 0 || i.MinRTT <= 0 || i.MinRTT > patience ||
			i.RTO < 200*time.Millisecond || i.Cwnd < 10*536 && i.BytesRetrans == 0 || // a stall looks like a loss
			i.SendWindow < 1000 || i.RecvWindow < 1000 ||
			i.InFlight != 0 || i.Unsent != 0 || i.BytesSent-i.BytesRetrans != n || i.BytesAcked != n || i.BytesDelivered != n || i.BytesReceived != 1 ||
			i.SegsIn <= before.SegsIn || i.SegsOut < before.SegsOut+2 || i.DeliveryRate <= 0 || i.Limit != onload.LimitIdle ||
			i.BusyTime <= 0 && onload.PathOf(c).Accelerated { // the kernel counts ticks
			t.Errorf("client: %+v", i)
		}
		if j.BytesReceived != n || j.BytesSent-j.BytesRetrans != 1 || j.RecvMSS < 536 {
			t.Errorf("server: %+v", j)
		}
		c.Close()
		if _, err := c.Info(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Info after Close: %v", err)
		}
	})
	if _, err := (*onload.TCPConn)(nil).Info(); err != syscall.EINVAL {
		t.Error(err)
	}
}

// A peer that does not read is what limits the sender.
func TestTCPInfoReceiverLimited(t *testing.T) {
	bothPaths(t, func(t *testing.T, c, s *onload.TCPConn) {
		if err := s.SetReadBuffer(32 << 10); err != nil {
			t.Fatal(err)
		}
		_ = info(t, c)
		wrote := make(chan error)
		go func() {
			_, err := c.Write(make([]byte, 64<<20))
			wrote <- err
		}()
		defer func() {
			c.Close()
			if err := <-wrote; !errors.Is(err, net.ErrClosed) {
				t.Errorf("Write: %v", err)
			}
		}()
		deadline := time.Now().Add(patience)
		for {
			i := info(t, c)
			if i.Limit == onload.LimitReceiver && i.Unsent > 0 && i.ReceiverLimited > 0 && i.BusyTime >= i.ReceiverLimited {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%+v", i)
			}
			time.Sleep(time.Millisecond)
		}
	})
}

func TestSetCongestionControl(t *testing.T) {
	bothPaths(t, func(t *testing.T, c, s *onload.TCPConn) {
		names := []string{"newreno"} // which each kernel has
		if onload.PathOf(c).Accelerated {
			names = tcp.CongestionNames()
		}
		for _, name := range names {
			if err := c.SetCongestionControl(name); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if got := info(t, c).Congestion; got != name {
				t.Errorf("%q, want %q", got, name)
			}
			if _, err := c.Write(make([]byte, 10000)); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(s, make([]byte, 10000)); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
		err := c.SetCongestionControl("nonesuch")
		var op *net.OpError
		if !errors.Is(err, syscall.ENOENT) || !errors.As(err, &op) || op.Op != "set" || !strings.Contains(err.Error(), `"nonesuch"`) {
			t.Errorf("unknown name: %v", err)
		}
		c.Close()
		if err := c.SetCongestionControl("cubic"); !errors.Is(err, net.ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
	})
	if err := (*onload.TCPConn)(nil).SetCongestionControl("cubic"); err != syscall.EINVAL {
		t.Error(err)
	}
}

func TestSetMaxPacingRate(t *testing.T) {
	bothPaths(t, func(t *testing.T, c, s *onload.TCPConn) {
		if n := info(t, c).MaxPacingRate; n != 0 {
			t.Errorf("a bound of %d that nobody set", n)
		}
		if err := c.SetMaxPacingRate(5_000_000); err != nil {
			t.Fatal(err)
		}
		if i := info(t, c); i.MaxPacingRate != 5_000_000 {
			t.Errorf("%+v", i)
		}
		if _, err := c.Write(make([]byte, 100_000)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(s, make([]byte, 100_000)); err != nil {
			t.Fatal(err)
		}
		if i := info(t, c); i.PacingRate == 0 || i.PacingRate > 5_000_000 {
			t.Errorf("paced at %d bytes/s", i.PacingRate)
		}
		if err := c.SetMaxPacingRate(0); err != nil {
			t.Fatal(err)
		}
		if i := info(t, c); i.MaxPacingRate != 0 {
			t.Errorf("%+v", i)
		}
		c.Close()
		if err := c.SetMaxPacingRate(1); !errors.Is(err, net.ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
	})
	if err := (*onload.TCPConn)(nil).SetMaxPacingRate(1); err != syscall.EINVAL {
		t.Error(err)
	}
}
