package onload_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/lab"
	onload "github.com/onload-go/onload/net"
)

// TestListenMerged: one Accept serves clients of an accelerated interface, of
// another interface, and local ones.
func TestListenMerged(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	la, _, err := lab.Veth(p.A, p.B, lab.Options{})
	if err != nil {
		t.Fatal(err)
	}
	e := vethEngine(t, p.A, onload.Config{})
	for _, address := range []string{":0", "0.0.0.0:0", "[::]:0"} {
		ln, err := e.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		for _, tt := range []struct {
			dial        func(network, address string) (net.Conn, error)
			ip          string
			accelerated bool
		}{
			{p.B.Dial, p.A.Addr4.String(), true},
			{p.B.Dial, p.A.Addr6.String(), true},
			{p.B.Dial, la.Addr4.String(), false},
			{p.A.Dial, p.A.Addr4.String(), false},
			{p.A.Dial, "127.0.0.1", false},
			{p.A.Dial, "::1", false},
		} {
			client, server := echo(t, ln, tt.dial, tt.ip)
			if path := onload.PathOf(server); path.Accelerated != tt.accelerated {
				t.Errorf("%s, to %s: %v", address, tt.ip, path)
			}
			if got, want := describeAddr(server.RemoteAddr()), describeAddr(client.LocalAddr()); !strings.HasPrefix(got, want[:strings.Index(want, " (")]) {
				t.Errorf("%s, to %s: remote address %s, want %s", address, tt.ip, got, want)
			}
		}
		if err := ln.Close(); err != nil {
			t.Error(err)
		}
		if _, err := p.A.Dial("tcp", "127.0.0.1:"+portOf(ln)); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("local client after Close: %v", err)
		}
		if _, err := p.B.Dial("tcp", p.A.Addr4.String()+":"+portOf(ln)); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("remote client after Close: %v", err)
		}
	}
}

func portOf(ln net.Listener) string {
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	return port
}

// TestTwoInterfaces: a wildcard listener has a shard on each, and a listener
// on one address only there.
func TestTwoInterfaces(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	la, _, err := lab.Veth(p.A, p.B, lab.Options{})
	if err != nil {
		t.Fatal(err)
	}
	e, err := onload.New(onload.Config{NetNS: p.A.Path, Interfaces: []string{p.A.If, la.If}, Frames: 2048, RingSize: 512, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	ln, err := e.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if path := onload.PathOf(ln); path.Interface != p.A.If+","+la.If {
		t.Error(path)
	}
	for ip, name := range map[string]string{p.A.Addr4.String(): p.A.If, la.Addr4.String(): la.If} {
		_, server := echo(t, ln, p.B.Dial, ip)
		if path := onload.PathOf(server); path.Interface != name {
			t.Errorf("%s: %v, want %s", ip, path, name)
		}
	}
	c := listenUDP(t, e, ":0")
	far := listenUDP(t, p.B, ":0")
	for _, ip := range []string{p.A.Addr4.String(), la.Addr4.String()} {
		exchange(t, far, c, withPort(ip, c), peerOf(ip))
		exchange(t, c, far, withPort(peerOf(ip), far), ip)
	}
}

// peerOf is the address at the other end of a lab link.
func peerOf(ip string) string { return strings.TrimSuffix(ip, ".1") + ".2" }

// TestAddresses: both ends' addresses have the form that net gives them.
func TestAddresses(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	e := vethEngine(t, p.A, onload.Config{})
	self, peer := p.A.Addr4.String(), p.B.Addr4.String()
	for _, tt := range []struct{ network, listen, dial string }{
		{"tcp", ":0", self}, {"tcp", "0.0.0.0:0", self}, {"tcp4", ":0", self}, {"tcp", self + ":0", self},
		{"tcp", ":0", "[" + p.A.Addr6.String() + "]"}, {"tcp6", ":0", "[" + p.A.Addr6.String() + "]"},
	} {
		describe := func(h host) string {
			ln, err := h.Listen(tt.network, tt.listen)
			if err != nil {
				t.Fatal(err)
			}
			defer ln.Close()
			c, err := p.B.Dial("tcp", tt.dial+":"+portOf(ln))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			s, err := ln.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			return fmt.Sprint(describeAddr(ln.Addr()), describeAddr(s.LocalAddr()), describeAddr(s.RemoteAddr()))
		}
		if got, want := describe(e), describe(p.A); got != want {
			t.Errorf("%v:\nonload %s\nnet    %s", tt, got, want)
		}
	}
	for _, network := range []string{"udp", "udp4"} {
		describe := func(h host) string {
			c, err := h.ListenPacket(network, ":0")
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			far := listenUDP(t, p.B, peer+":0")
			if _, err := far.WriteTo([]byte("x"), withPort(self, c)); err != nil {
				t.Fatal(err)
			}
			_, from, err := c.ReadFrom(make([]byte, 1))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := far.WriteTo([]byte("x"), withPort(self, c)); err != nil {
				t.Fatal(err)
			}
			_, ap, err := c.(udpConn).ReadFromUDPAddrPort(make([]byte, 1))
			if err != nil {
				t.Fatal(err)
			}
			return fmt.Sprint(describeAddr(c.LocalAddr()), describeAddr(from), ap.Addr())
		}
		if got, want := describe(e), describe(p.A); got != want {
			t.Errorf("%v:\nonload %s\nnet    %s", network, got, want)
		}
	}
}

// TestAcceptMany: no connection is lost and none is accepted twice. Ports may
// come again.
func TestAcceptMany(t *testing.T) {
	a, b := memoryPair(t)
	ln, err := b.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	const n = 200
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for j := range n / 4 {
				c, err := a.Dial("tcp", addrB+":"+portOf(ln))
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := fmt.Fprintf(c, "%v %d", c.LocalAddr(), i*n+j); err != nil {
					t.Error(err)
				}
				c.Close()
			}
		})
	}
	seen := map[string]bool{}
	for range n {
		c, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		name, err := io.ReadAll(c)
		from, _, _ := strings.Cut(string(name), " ")
		if err != nil || from != c.RemoteAddr().String() || seen[string(name)] {
			t.Errorf("%s: %q, %v", c.RemoteAddr(), name, err)
		}
		seen[string(name)] = true
		c.Close()
	}
	wg.Wait()
	if err := ln.Close(); err != nil {
		t.Error(err)
	}
}

// TestListenPorts: the port is held against the kernel's sockets and ours.
func TestListenPorts(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	e := vethEngine(t, p.A, onload.Config{})
	for _, address := range []string{":0", p.A.Addr4.String() + ":0"} {
		ln, err := e.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		to := p.A.Addr4.String() + ":" + portOf(ln)
		if _, err := p.A.Listen("tcp", to); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("net: %v", err)
		}
		if _, err := e.Listen("tcp", to); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("onload: %v", err)
		}
		if err := ln.Close(); err != nil {
			t.Error(err)
		}
		again, err := e.Listen("tcp", to)
		if err != nil {
			t.Fatal(err)
		}
		again.Close()
	}
}

// The port of a connection that has ended can be had by anybody who asks for it.
func TestListenOnPortOfEnded(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	e := vethEngine(t, p.A, onload.Config{})
	far, err := p.B.Listen("tcp", p.B.Addr4.String()+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	for _, from := range []int{0, 2000} { // one that we chose, one that the user chose
		for i, addr := range []string{p.A.Addr4.String(), "", "0.0.0.0", "[::]"} {
			if from > 0 {
				from += i // the port before still has the connections of its listener
			}
			d := onload.Dialer{Engine: e, LocalAddr: &net.TCPAddr{Port: from}}
			c, err := d.Dial("tcp", far.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			s, err := far.Accept()
			if err != nil {
				t.Fatal(err)
			}
			// The peer's reset: neither end has a TIME-WAIT.
			s.(*net.TCPConn).SetLinger(0)
			s.Close()
			c.Read(make([]byte, 1))
			c.Close()
			ln, err := e.Listen("tcp", fmt.Sprintf("%s:%d", addr, c.LocalAddr().(*net.TCPAddr).Port))
			if err != nil {
				t.Errorf("from port %d, on %q: %v", from, addr, err)
				continue
			}
			if _, s := echo(t, ln, p.B.Dial, p.A.Addr4.String()); !onload.PathOf(s).Accelerated {
				t.Error(onload.PathOf(s))
			}
			ln.Close()
		}
	}
}

// A port whose listener is closed stays ours while connections live on it. The
// kernel gives it only to a socket that asks for that number; a new listener may
// have it again.
func TestListenPortKept(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	e := vethEngine(t, p.A, onload.Config{})
	for _, addr := range []string{p.A.Addr4.String(), ""} {
		if err := p.A.Sysctl("net.ipv4.ip_local_port_range", "40000 40001"); err != nil {
			t.Fatal(err)
		}
		ln, err := e.Listen("tcp", addr+":40001")
		if err != nil {
			t.Fatal(err)
		}
		_, s := echo(t, ln, p.B.Dial, p.A.Addr4.String())
		if !onload.PathOf(s).Accelerated {
			t.Error(onload.PathOf(s))
		}
		ln.Close()
		for range 20 {
			other, err := p.A.Listen("tcp", p.A.Addr4.String()+":0")
			if err != nil {
				t.Fatal(err)
			}
			if portOf(other) == "40001" {
				t.Error("the kernel gave the port to another listener")
			}
			other.Close()
		}
		again, err := e.Listen("tcp", addr+":40001")
		if err != nil {
			t.Fatal(err)
		}
		echo(t, again, p.B.Dial, p.A.Addr4.String())
		again.Close()
	}
}

func TestListenControl(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	e := vethEngine(t, p.A, onload.Config{})
	var called []string
	lc := onload.ListenConfig{Engine: e, Control: func(network, address string, c syscall.RawConn) error {
		called = append(called, network+" "+address)
		return c.Control(func(fd uintptr) {
			unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
			unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 5000)
		})
	}}
	ln, err := lc.Listen(context.Background(), "tcp", p.A.Addr4.String()+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if len(called) != 1 || called[0] != "tcp4 "+p.A.Addr4.String()+":0" {
		t.Errorf("hook: %q", called)
	}
	_, s := echo(t, ln, p.B.Dial, p.A.Addr4.String())
	if !onload.PathOf(s).Accelerated {
		t.Error(onload.PathOf(s))
	}
	lc.Control = func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) { unix.BindToDevice(int(fd), "lo") })
	}
	lo, err := lc.Listen(context.Background(), "tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer lo.Close()
	if path := onload.PathOf(lo); path.Accelerated || !strings.Contains(path.Reason, "SO_BINDTODEVICE") {
		t.Error(path)
	}
	failure := errors.New("refused by the hook")
	lc.Control = func(string, string, syscall.RawConn) error { return failure }
	if _, err := lc.Listen(context.Background(), "tcp", ":0"); !errors.Is(err, failure) {
		t.Error(err)
	}
}

// TestHTTP runs net/http over both ends.
func TestHTTP(t *testing.T) {
	a, b := memoryPair(t)
	ln, err := b.Listen("tcp", ":80")
	if err != nil {
		t.Fatal(err)
	}
	body := strings.Repeat("0123456789", 100000)
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%d %s", len(got), body)
	})}
	go srv.Serve(ln)
	tr := &http.Transport{DialContext: a.DialContext}
	client := &http.Client{Transport: tr, Timeout: patience}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 5 {
				resp, err := client.Post("http://"+addrB+"/", "text/plain", strings.NewReader(body))
				if err != nil {
					t.Error(err)
					return
				}
				got, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if err != nil || string(got) != fmt.Sprint(len(body), " ", body) {
					t.Errorf("%d bytes, %v", len(got), err)
				}
			}
		})
	}
	wg.Wait()
	tr.CloseIdleConnections()
	if err := srv.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
}

// TestDeferAccept: the connection comes with its first data, from a client of
// the accelerated kind and of the kernel's.
func TestDeferAccept(t *testing.T) {
	a, b := memoryPair(t)
	k, err := onload.New(onload.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	for name, at := range map[string]struct {
		dial, listen *onload.Engine
		addr         string
	}{"accelerated": {a, b, "10.0.0.2:0"}, "kernel": {k, k, "127.0.0.1:0"}} {
		lc := onload.ListenConfig{Engine: at.listen, DeferAccept: 30 * time.Second}
		l, err := lc.Listen(t.Context(), "tcp", at.addr)
		if err != nil {
			t.Fatal(name, err)
		}
		c, err := at.dial.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(name, err)
		}
		tl := l.(*onload.TCPListener)
		tl.SetDeadline(time.Now().Add(20 * time.Millisecond))
		if _, err := l.Accept(); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: accepted before there was data: %v", name, err)
		}
		tl.SetDeadline(time.Now().Add(patience))
		if _, err := c.Write([]byte("x")); err != nil {
			t.Fatal(name, err)
		}
		s, err := l.Accept()
		if err != nil {
			t.Fatal(name, err)
		}
		if n, err := s.Read(make([]byte, 2)); n != 1 || err != nil {
			t.Errorf("%s: read %d, %v", name, n, err)
		}
		for _, x := range []io.Closer{c, s, l} {
			x.Close()
		}
	}
}
