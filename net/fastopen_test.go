package onload_test

import (
	"context"
	"io"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	onload "github.com/onload-go/onload/net"
)

// TestFastOpen: requests that go with the SYN, asked for by the fields and by
// Control hooks; and a kernel that does as it is set up.
func TestFastOpen(t *testing.T) {
	a, b := memoryPair(t)
	k, err := onload.New(onload.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	set := func(opt, v int) func(_, _ string, c syscall.RawConn) error {
		return func(_, _ string, c syscall.RawConn) error {
			return c.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, opt, v) })
		}
	}
	for _, x := range []struct {
		name   string
		dialer onload.Dialer
		listen onload.ListenConfig
		addr   string
		ours   bool
	}{
		{"fields", onload.Dialer{Engine: a, FastOpen: true}, onload.ListenConfig{Engine: b, FastOpen: 8}, "10.0.0.2:0", true},
		{"hooks", onload.Dialer{Engine: b, Control: set(unix.TCP_FASTOPEN_CONNECT, 1)}, onload.ListenConfig{Engine: a, FastOpen: 8}, "10.0.0.1:0", true},
		{"kernel", onload.Dialer{Engine: k, FastOpen: true}, onload.ListenConfig{Engine: k, FastOpen: 8}, "127.0.0.1:0", false},
	} {
		t.Run(x.name, func(t *testing.T) {
			l, err := x.listen.Listen(context.Background(), "tcp", x.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			for i := range 3 {
				c, err := x.dialer.Dial("tcp", l.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				if _, err := c.Write([]byte("request")); err != nil {
					t.Fatal(err)
				}
				s, err := l.Accept()
				if err != nil {
					t.Fatal(err)
				}
				buf := make([]byte, 7)
				if _, err := io.ReadFull(s, buf); err != nil || string(buf) != "request" {
					t.Fatalf("%q, %v", buf, err)
				}
				info, err := s.(*onload.TCPConn).Info()
				if err != nil || x.ours && info.FastOpened != (i > 0) {
					t.Errorf("connection %d: with the SYN %v, %v", i, info.FastOpened, err)
				}
				if c.RemoteAddr().String() != l.Addr().String() || s.RemoteAddr().String() != c.LocalAddr().String() {
					t.Errorf("from %v to %v; accepted from %v", c.LocalAddr(), c.RemoteAddr(), s.RemoteAddr())
				}
				c.Close()
				s.Close()
			}
		})
	}
}

// TestFastOpenKey: listeners with the same key take each other's cookies.
func TestFastOpenKey(t *testing.T) {
	a, b := memoryPair(t)
	d := onload.Dialer{Engine: a, FastOpen: true}
	for _, x := range []struct {
		key  string
		fast bool
	}{
		{"1-2-3-4", false}, {"1-2-3-4", true}, {"5-6-7-8,1-2-3-4", true}, {"5-6-7-8", true}, {"1-2-3-4", false}, {"", false},
	} {
		l, err := (&onload.ListenConfig{Engine: b, FastOpen: 8, FastOpenKey: x.key}).Listen(context.Background(), "tcp", addrB+":0")
		if err != nil {
			t.Fatal(err)
		}
		c, err := d.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write([]byte("request")); err != nil {
			t.Fatal(err)
		}
		s, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(s, make([]byte, 7)); err != nil {
			t.Fatal(err)
		}
		// Then the SYN-ACK came too, and what it says of the cookie.
		if _, err := s.Write([]byte("answer")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, make([]byte, 6)); err != nil {
			t.Fatal(err)
		}
		if info, err := s.(*onload.TCPConn).Info(); err != nil || info.FastOpened != x.fast {
			t.Errorf("key %q: with the SYN %v, %v", x.key, info.FastOpened, err)
		}
		c.Close()
		s.Close()
		l.Close()
	}
	const secret = "1-2-3"
	l, err := (&onload.ListenConfig{Engine: b, FastOpenKey: secret}).Listen(context.Background(), "tcp", addrB+":0")
	if err == nil {
		l.Close()
		t.Fatal("a bad key is taken")
	}
	if s := err.Error(); !strings.HasPrefix(s, "listen tcp "+addrB+":0: a key for Fast Open is four") || strings.Contains(s, secret) {
		t.Error(err)
	}
}
