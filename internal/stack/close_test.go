package stack

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"
)

// TestCloseUnderLoad: Close returns, and so does every call on the stack's
// sockets, whatever is under way.
func TestCloseUnderLoad(t *testing.T) {
	for i := range 12 {
		p := []Profile{Balanced, Latency, Throughput}[i%3]
		a, b, err := makePair(pairOptions{profile: p})
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		l, err := b.ListenTCP(netip.AddrPortFrom(addrB, 80), nil)
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			for {
				c, _, err := l.Accept()
				if err != nil {
					return
				}
				wg.Go(func() {
					io.Copy(c, c)
					c.Close()
				})
			}
		})
		u, err := b.OpenUDP(netip.AddrPortFrom(addrB, 53), netip.AddrPort{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			buf := make([]byte, 2000)
			for {
				n, _, src, _, err := u.ReadFrom(buf)
				if err != nil {
					return
				}
				u.WriteTo(buf[:n], src)
			}
		})
		for range 4 {
			wg.Go(func() { useUntilClosed(t, a, l.Addr(), u.LocalAddr()) })
		}
		wg.Go(func() {
			for !a.life.closing.Load() {
				a.Stats()
				time.Sleep(time.Millisecond)
			}
		})
		time.Sleep(20 * time.Millisecond)
		closed := make(chan struct{})
		go func() {
			first, second := a, b
			if i%2 == 0 {
				first, second = b, a
			}
			if err := errors.Join(first.Close(), second.Close()); err != nil {
				t.Error(err)
			}
			wg.Wait()
			close(closed)
		}()
		select {
		case <-closed:
		case <-time.After(patience):
			panic("a call does not return after Close") // with all stacks
		}
	}
}

// useUntilClosed uses s until it is closed. Where the peer goes first, dials
// end by their context.
func useUntilClosed(t *testing.T, s *Stack, tcp, udp netip.AddrPort) {
	for {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		c, err := s.DialTCP(ctx, netip.AddrPort{}, tcp, nil)
		cancel()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		u, err := s.OpenUDP(netip.AddrPort{}, udp, nil)
		if err != nil {
			c.Close()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			t.Error(err)
			return
		}
		deadline := time.Now().Add(100 * time.Millisecond)
		c.SetDeadline(deadline)
		u.SetDeadline(deadline)
		buf := make([]byte, 5000)
		for range 20 {
			c.Write(buf)
			io.ReadFull(c, buf)
			u.WriteTo(buf[:1000], netip.AddrPort{})
			u.ReadFrom(buf)
			c.SetNoDelay(true)
		}
		c.CloseWrite()
		c.Close()
		u.Close()
	}
}

// TestTimeWaitLimit: above the limit connections skip TIME-WAIT, as with
// Linux's tcp_max_tw_buckets.
func TestTimeWaitLimit(t *testing.T) {
	a, b := newPair(t, pairOptions{config: func(c *Config) { c.MaxTimeWaits = 3 }})
	for range 8 {
		c, s := connect(t, a, b, addrB)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Read(make([]byte, 1)); err != io.EOF {
			t.Fatal(err)
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		st := b.Stats()
		if st.Conns == 0 && st.TimeWaits == 3 && st.TCP.TCPTimeWaitOverflow == 5 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("%d connections, %d in TIME-WAIT, %d skipped it", st.Conns, st.TimeWaits, st.TCP.TCPTimeWaitOverflow)
		}
	}
}

// TestCloseArms: a goroutine that closes a connection may not use the stack again.
// The queues are armed, so that the next client's SYN does not wait for the
// reactor's tick.
func TestCloseArms(t *testing.T) {
	a, b := newPair(t, pairOptions{profile: Balanced})
	unarmed, left := 0, 0
	for end := time.Now().Add(patience); unarmed < 10; {
		if time.Now().After(end) {
			t.Fatal("the queues were armed before each Close: the test shows nothing")
		}
		c, d := connect(t, a, b, addrB)
		if _, err := c.Write([]byte{1}); err != nil {
			t.Fatal(err)
		}
		if _, err := d.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		locked(b, b.disarm) // as a leader that left with data
		if !b.guarded() {   // else the reactor was faster
			unarmed++
		}
		d.Close()
		if !b.guarded() && b.tryBegin() { // else another arms them
			ok := b.guarded() || b.rxPending()
			b.end()
			if !ok {
				left++
			}
		}
		c.Close()
	}
	// A Close that finds the lock taken leaves it to the holder.
	if left > unarmed/2 {
		t.Errorf("%d of %d times nobody looked after the queues", left, unarmed)
	}
}

// TestCloseRead: as after shutdown(SHUT_RD) a Read returns what has arrived,
// also later, and the end of the stream instead of waiting; one that waits
// already ends.
func TestCloseRead(t *testing.T) {
	for _, p := range []Profile{Balanced, Latency, Throughput} {
		a, b := newPair(t, pairOptions{profile: p})
		c, s := connect(t, a, b, addrB)
		buf := make([]byte, 10)
		read := func(want int, wantErr error) {
			t.Helper()
			if n, err := c.Read(buf); n != want || err != wantErr {
				t.Fatalf("%v: %d, %v; want %d, %v", p, n, err, want, wantErr)
			}
		}
		send := func() {
			t.Helper()
			if _, err := s.Write([]byte("hello")); err != nil {
				t.Fatal(err)
			}
			for !c.tc.Readable() {
				c.s.pollOnce()
				time.Sleep(100 * time.Microsecond)
			}
		}
		ended := make(chan error)
		go func() {
			_, err := c.Read(make([]byte, 1))
			ended <- err
		}()
		time.Sleep(5 * time.Millisecond) // most likely it waits
		if err := c.CloseRead(); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-ended:
			if err != io.EOF {
				t.Fatal(err)
			}
		case <-time.After(patience):
			t.Fatal("a Read still waits")
		}
		read(0, io.EOF)
		send()
		read(5, nil)
		read(0, io.EOF)
	}
}
