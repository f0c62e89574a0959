package stack

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/onload-go/onload/internal/allocs"
)

// udpPair opens a socket connected to one on b that echoes.
func udpPair(t testing.TB, a, b *Stack, to netip.Addr, o *UDPOptions) *UDPConn {
	t.Helper()
	srv, err := b.OpenUDP(netip.AddrPortFrom(to, 0), netip.AddrPort{}, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { srv.Close() })
	go func() {
		buf := make([]byte, 1<<16)
		for {
			n, _, src, dst, err := srv.ReadFrom(buf)
			if err != nil {
				return
			}
			if _, err := srv.WriteFrom(buf[:n], dst.Addr(), src); err != nil {
				t.Error(err)
				return
			}
		}
	}()
	c, err := a.OpenUDP(netip.AddrPort{}, srv.LocalAddr(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// TestUDPEcho: datagrams of all sizes, also those that IP must fragment.
func TestUDPEcho(t *testing.T) {
	for _, to := range []netip.Addr{addrB, six[addrB]} {
		t.Run(to.String(), func(t *testing.T) {
			a, b := newPair(t, pairOptions{})
			c := udpPair(t, a, b, to, nil)
			used := a.Stats().Frames - a.Stats().FreeFrames
			buf := make([]byte, 1<<16)
			for _, size := range []int{0, 1, 100, 1400, 1472, 1473, 3000, 9001, 40000, maxUDP4} {
				out := make([]byte, size)
				rand.NewChaCha8([32]byte{byte(size)}).Read(out)
				if n, err := c.WriteTo(out, netip.AddrPort{}); n != size || err != nil {
					t.Fatal(size, n, err)
				}
				c.SetReadDeadline(time.Now().Add(patience))
				n, full, src, _, err := c.ReadFrom(buf)
				if err != nil || n != size || full != size || src != c.RemoteAddr() || !bytes.Equal(buf[:n], out) {
					t.Fatal(size, n, full, src, err)
				}
			}
			// A short buffer takes the beginning.
			c.WriteTo([]byte("truncated"), netip.AddrPort{})
			if n, full, _, _, err := c.ReadFrom(buf[:5]); n != 5 || full != 9 || err != nil {
				t.Error(n, full, err)
			}
			if _, err := c.WriteTo(make([]byte, maxUDP6+1), netip.AddrPort{}); err != syscall.EMSGSIZE {
				t.Error("too large:", err)
			}
			if n := a.Stats().Frames - a.Stats().FreeFrames; n > used {
				t.Errorf("%d frames leaked", n-used)
			}
		})
	}
}

// TestUDPUnconnected: one socket on all addresses talks to several peers of
// both families; a connected one hears its peer only.
func TestUDPUnconnected(t *testing.T) {
	a, b := newPair(t, pairOptions{})
	u, err := a.OpenUDP(netip.AddrPort{}, netip.AddrPort{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	u.SetDeadline(time.Now().Add(patience))
	if _, err := u.WriteTo([]byte{1}, netip.AddrPort{}); err != syscall.EDESTADDRREQ {
		t.Error("no destination:", err)
	}
	buf := make([]byte, 100)
	for _, to := range []netip.Addr{addrB, six[addrB], addrB} {
		peer := udpPair(t, a, b, to, nil).RemoteAddr() // echoes to all
		if _, err := u.WriteTo([]byte(to.String()), peer); err != nil {
			t.Fatal(err)
		}
		n, _, src, dst, err := u.ReadFrom(buf)
		if err != nil || src != peer || dst.Port() != u.LocalAddr().Port() || string(buf[:n]) != to.String() {
			t.Errorf("%q from %v to %v: %v, want %v", buf[:n], src, dst, err, peer)
		}
	}
	one, two := udpPair(t, a, b, addrB, nil), udpPair(t, b, a, addrA, nil)
	if _, err := two.WriteTo([]byte("stray"), one.LocalAddr()); err != nil {
		t.Fatal(err)
	}
	if _, err := one.WriteTo([]byte("echo"), netip.AddrPort{}); err != nil {
		t.Fatal(err)
	}
	one.SetDeadline(time.Now().Add(patience))
	n, _, src, _, err := one.ReadFrom(buf)
	if err != nil || src != one.RemoteAddr() || string(buf[:n]) != "echo" {
		t.Errorf("%q from %v: %v", buf[:n], src, err)
	}
}

// TestUDPRefused: a connected socket learns that nobody listens.
func TestUDPRefused(t *testing.T) {
	for _, to := range []netip.Addr{addrB, six[addrB]} {
		a, b := newPair(t, pairOptions{})
		srv, err := b.OpenUDP(netip.AddrPortFrom(to, 0), netip.AddrPort{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		c, err := a.OpenUDP(netip.AddrPort{}, srv.LocalAddr(), nil)
		if err != nil {
			t.Fatal(err)
		}
		// The device still steers the port to b for a socket on another
		// address, as it does for a moment after a close.
		if err := b.cfg.Links[0].Steering.AddPort(17, srv.LocalAddr()); err != nil {
			t.Fatal(err)
		}
		srv.Close()
		c.SetDeadline(time.Now().Add(patience))
		if _, err := c.WriteTo([]byte{1}, netip.AddrPort{}); err != nil {
			t.Fatal(err)
		}
		if _, _, _, _, err := c.ReadFrom(make([]byte, 1)); err != syscall.ECONNREFUSED {
			t.Errorf("%v: read: %v, want connection refused", to, err)
		}
		c.Close()
	}
}

func TestUDPDeadlineAndClose(t *testing.T) {
	a, _ := newPair(t, pairOptions{})
	u, err := a.OpenUDP(netip.AddrPortFrom(addrA, 0), netip.AddrPort{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	u.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	if _, _, _, _, err := u.ReadFrom(nil); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
	u.SetReadDeadline(time.Time{})
	done := make(chan error)
	go func() {
		_, _, _, _, err := u.ReadFrom(nil)
		done <- err
	}()
	time.Sleep(10 * time.Millisecond)
	u.Close()
	if err := <-done; !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	if _, err := u.WriteTo(nil, netip.AddrPortFrom(addrB, 1)); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}

// TestUDPAllocs: sending and receiving a datagram allocates nothing.
func TestUDPAllocs(t *testing.T) {
	a, b := newPair(t, pairOptions{profile: Latency})
	s, err := b.OpenUDP(netip.AddrPortFrom(addrB, 0), netip.AddrPort{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	c, err := a.OpenUDP(netip.AddrPort{}, s.LocalAddr(), nil)
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 1000)
	trip := func() {
		if _, err := c.WriteTo(buf, netip.AddrPort{}); err != nil {
			t.Fatal(err)
		}
		n, _, src, _, err := s.ReadFrom(buf)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.WriteTo(buf[:n], src); err != nil {
			t.Fatal(err)
		}
		if _, _, _, _, err := c.ReadFrom(buf); err != nil {
			t.Fatal(err)
		}
	}
	for range 100 {
		trip()
	}
	if n := allocs.PerRun(500, trip); n != 0 {
		t.Errorf("a round trip allocates %v times", n)
	}
}
