package onload_test

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/lab"
	onload "github.com/onload-go/onload/net"
)

// control is a hook that sets options, three numbers each.
func control(opts ...[3]int) func(_, _ string, c syscall.RawConn) error {
	return func(_, _ string, c syscall.RawConn) (err error) {
		cerr := c.Control(func(fd uintptr) {
			for _, o := range opts {
				err = errors.Join(err, unix.SetsockoptInt(int(fd), o[0], o[1], o[2]))
			}
		})
		return errors.Join(err, cerr)
	}
}

// TestControlMSS: connections follow the options that hooks of both ends set, also
// where there is no kernel.
func TestControlMSS(t *testing.T) {
	a, b := memoryPair(t)
	lc := onload.ListenConfig{Engine: b, Control: control([3]int{unix.IPPROTO_TCP, unix.TCP_MAXSEG, 700})}
	l, err := lc.Listen(t.Context(), "tcp", addrB+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, s := echo(t, l, a.Dial, addrB)
	for name, c := range map[string]net.Conn{"client": c, "server": s} {
		i, err := c.(*onload.TCPConn).Info()
		if err != nil || i.SendMSS > 700 || i.SendMSS < 600 {
			t.Errorf("%s: segments of %d bytes, %v", name, i.SendMSS, err)
		}
	}
}

// TestControlMemory: an engine without a kernel says what it cannot do.
func TestControlMemory(t *testing.T) {
	a, b := memoryPair(t)
	hook := control([3]int{unix.SOL_SOCKET, unix.SO_PRIORITY, 5})
	lc := onload.ListenConfig{Engine: b, Control: hook}
	_, tcpErr := lc.Listen(t.Context(), "tcp", addrB+":0")
	_, udpErr := lc.ListenPacket(t.Context(), "udp", addrB+":0")
	_, dialErr := (&onload.Dialer{Engine: a, Control: hook}).Dial("tcp", addrB+":1")
	_, dialUDPErr := (&onload.Dialer{Engine: a, Control: hook}).Dial("udp", addrB+":1")
	for i, err := range []error{tcpErr, udpErr, dialErr, dialUDPErr} {
		if !errors.Is(err, errors.ErrUnsupported) || !strings.Contains(err.Error(), "SO_PRIORITY") {
			t.Errorf("call %d: %v", i, err)
		}
	}
}

// TestControlOnTheWire: a kernel peer sees the DSCP and TTL that hooks asked
// for in a datagram and in a connection of a listener.
func TestControlOnTheWire(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	e := vethEngine(t, p.A, onload.Config{})
	hook := control([3]int{unix.IPPROTO_IP, unix.IP_TOS, 0xb8}, [3]int{unix.IPPROTO_IP, unix.IP_TTL, 9})
	// A datagram, of a socket that is bound and of one that is connected.
	to, err := p.B.ListenPacket("udp4", p.B.Addr4.String()+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	k := to.(*net.UDPConn)
	raw, _ := k.SyscallConn()
	raw.Control(func(fd uintptr) {
		unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_RECVTOS, 1)
		unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_RECVTTL, 1)
	})
	u, err := (&onload.Dialer{Engine: e, Control: hook}).Dial("udp", to.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	lc := onload.ListenConfig{Engine: e, Control: hook}
	bound, err := lc.ListenPacket(t.Context(), "udp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer bound.Close()
	for i, send := range []func() error{
		func() error { _, err := u.Write([]byte("x")); return err },
		func() error { _, err := bound.WriteTo([]byte("x"), to.LocalAddr()); return err },
	} {
		if err := send(); err != nil {
			t.Fatal(err)
		}
		var b [10]byte
		var oob [200]byte
		k.SetReadDeadline(time.Now().Add(patience))
		_, n, _, _, err := k.ReadMsgUDP(b[:], oob[:])
		if err != nil {
			t.Fatal(err)
		}
		ms, err := unix.ParseSocketControlMessage(oob[:n])
		if err != nil {
			t.Fatal(err)
		}
		got := map[int32]byte{}
		for _, m := range ms {
			got[m.Header.Type] = m.Data[0]
		}
		if got[unix.IP_TOS] != 0xb8 || got[unix.IP_TTL] != 9 {
			t.Errorf("socket %d: TOS %#x, TTL %d", i, got[unix.IP_TOS], got[unix.IP_TTL])
		}
	}
	for _, s := range []any{u, bound} {
		if path := onload.PathOf(s); !path.Accelerated {
			t.Error(path)
		}
	}
	// A client that takes nothing with a smaller TTL.
	for ttl, works := range map[int]bool{9: true, 10: false} {
		l, err := lc.Listen(t.Context(), "tcp", p.A.Addr4.String()+":0")
		if err != nil {
			t.Fatal(err)
		}
		timeout := patience
		if !works {
			timeout = 500 * time.Millisecond
		}
		d := net.Dialer{Timeout: timeout, Control: control([3]int{unix.IPPROTO_IP, unix.IP_MINTTL, ttl})}
		err = p.B.Do(func() error {
			c, err := d.Dial("tcp4", l.Addr().String())
			if err == nil {
				c.Close()
			}
			return err
		})
		if (err == nil) != works {
			t.Errorf("a client whose IP_MINTTL is %d: %v", ttl, err)
		}
		l.Close()
	}
}

// TestControlV6Only: IPV6_V6ONLY of a hook counts on accelerated interfaces as
// in the kernel, whichever way it turns what the network's name means.
func TestControlV6Only(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	e := vethEngine(t, p.A, onload.Config{})
	for _, tt := range []struct {
		network string
		only    int
		four    bool // IPv4 clients are served
	}{{"tcp", 1, false}, {"tcp", 0, true}, {"tcp6", 0, true}, {"tcp6", 1, false}} {
		lc := onload.ListenConfig{Engine: e, Control: control([3]int{unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, tt.only})}
		l, err := lc.Listen(t.Context(), tt.network, "[::]:0")
		if err != nil {
			t.Fatal(err)
		}
		_, port, _ := net.SplitHostPort(l.Addr().String())
		for addr, want := range map[string]bool{p.A.Addr6.String(): true, p.A.Addr4.String(): tt.four} {
			c, err := p.B.Dial("tcp", net.JoinHostPort(addr, port))
			if (err == nil) != want {
				t.Errorf("%s, V6ONLY %d: client of %s: %v", tt.network, tt.only, addr, err)
			}
			if err == nil {
				s, err := l.Accept()
				if err != nil {
					t.Fatal(err)
				}
				if path := onload.PathOf(s); !path.Accelerated {
					t.Errorf("%s, V6ONLY %d: client of %s: %v", tt.network, tt.only, addr, path)
				}
				s.Close()
				c.Close()
			}
		}
		l.Close()
	}
}

// TestControlV6OnlyMemory: likewise where there is no kernel.
func TestControlV6OnlyMemory(t *testing.T) {
	a, b := memoryPair(t)
	lc := onload.ListenConfig{Engine: b, Control: control([3]int{unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1})}
	l, err := lc.Listen(t.Context(), "tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	if _, err := a.Dial("tcp", net.JoinHostPort(addrB, port)); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("a client by IPv4: %v", err)
	}
	c, err := a.Dial("tcp", net.JoinHostPort("fd00::2", port))
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}

// TestControlWindowClamp: the window that a peer sees stays below the clamp
// (TCP_WINDOW_CLAMP).
func TestControlWindowClamp(t *testing.T) {
	a, b := memoryPair(t)
	l, err := b.Listen("tcp", addrB+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	d := onload.Dialer{Engine: a, Control: control([3]int{unix.IPPROTO_TCP, unix.TCP_WINDOW_CLAMP, 10000})}
	c, s := echo(t, l, d.Dial, addrB)
	go s.Write(make([]byte, 1<<20))
	for range 10 {
		if _, err := io.CopyN(io.Discard, c, 50000); err != nil {
			t.Fatal(err)
		}
		if i, err := s.(*onload.TCPConn).Info(); err != nil || i.SendWindow > 10000+128 {
			t.Fatalf("a window of %d bytes, %v", i.SendWindow, err)
		}
	}
	if path := onload.PathOf(c); !path.Accelerated {
		t.Error(path)
	}
}

// TestReusePort: the listeners of an SO_REUSEPORT group share what comes by
// accelerated interfaces too. One whose group has sockets that get nothing of
// that is the kernel's.
func TestReusePort(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	e := vethEngine(t, p.A, onload.Config{})
	hook := control([3]int{unix.SOL_SOCKET, unix.SO_REUSEPORT, 1})
	lc := onload.ListenConfig{Engine: e, Control: hook}
	for _, addr := range []string{p.A.Addr4.String() + ":0", ":0"} {
		var ls []net.Listener
		var n [3]atomic.Int32
		for i := range 3 {
			l, err := lc.Listen(t.Context(), "tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			addr = l.Addr().String()
			ls = append(ls, l)
			if path := onload.PathOf(l); !path.Accelerated {
				t.Errorf("listener %d of %s: %v", i, addr, path)
			}
			go func() {
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					n[i].Add(1)
					c.Close()
				}
			}()
		}
		_, port, _ := net.SplitHostPort(addr)
		dial := func() {
			t.Helper()
			c, err := p.B.Dial("tcp4", p.A.Addr4.String()+":"+port)
			if err != nil {
				t.Fatal(err)
			}
			io.ReadAll(c)
			c.Close()
		}
		for range 60 {
			dial()
		}
		for i := range n {
			if n[i].Load() < 5 {
				t.Errorf("listener %d of %s accepted %d of 60", i, addr, n[i].Load())
			}
		}
		ls[0].Close()
		for range 20 {
			dial() // the port is still steered, and the others take it all
		}
		if sum := n[1].Load() + n[2].Load(); n[0].Load()+sum != 80 {
			t.Errorf("%d of 80 accepted", n[0].Load()+sum)
		}
		// A socket outside of the engine joins: from then on nobody new is
		// accelerated; when it is gone, they are again.
		std := net.ListenConfig{Control: hook}
		var outside net.Listener
		err := p.A.Do(func() (err error) {
			outside, err = std.Listen(t.Context(), "tcp", addr)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []bool{false, true} {
			l, err := lc.Listen(t.Context(), "tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			if path := onload.PathOf(l); path.Accelerated != want || !want && !strings.Contains(path.Reason, "SO_REUSEPORT") {
				t.Errorf("%s, beside a socket outside %v: %v", addr, !want, path)
			}
			l.Close()
			outside.Close()
		}
	}
}

// TestReusePortUDP: the same of UDP sockets; with SO_REUSEADDR alone, which has
// the kernel give all to one, the second is the kernel's.
func TestReusePortUDP(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	e := vethEngine(t, p.A, onload.Config{})
	for opt, want := range map[int]string{unix.SO_REUSEPORT: "", unix.SO_REUSEADDR: "another socket"} {
		lc := onload.ListenConfig{Engine: e, Control: control([3]int{unix.SOL_SOCKET, opt, 1})}
		one, err := lc.ListenPacket(t.Context(), "udp", p.A.Addr4.String()+":0")
		if err != nil {
			t.Fatal(err)
		}
		two, err := lc.ListenPacket(t.Context(), "udp", one.LocalAddr().String())
		if err != nil {
			t.Fatal(err)
		}
		if path := onload.PathOf(two); path.Accelerated != (want == "") || !strings.Contains(path.Reason, want) {
			t.Errorf("option %d: %v", opt, path)
		}
		var n [2]atomic.Int32
		for i, c := range []net.PacketConn{one, two} {
			go func() {
				for {
					if _, _, err := c.ReadFrom(make([]byte, 9)); err != nil {
						return
					}
					n[i].Add(1)
				}
			}()
		}
		for range 40 {
			c, err := p.B.Dial("udp", one.LocalAddr().String())
			if err != nil {
				t.Fatal(err)
			}
			c.Write([]byte("x"))
			c.Close()
		}
		for limit := time.Now().Add(patience); n[0].Load()+n[1].Load() < 40; time.Sleep(time.Millisecond) {
			if time.Now().After(limit) {
				t.Fatalf("option %d: %d and %d of 40 datagrams", opt, n[0].Load(), n[1].Load())
			}
		}
		if want == "" && (n[0].Load() < 5 || n[1].Load() < 5) {
			t.Errorf("option %d: %d and %d of 40 datagrams", opt, n[0].Load(), n[1].Load())
		}
		one.Close()
		two.Close()
	}
}

// TestReusePortDial: a connection may leave from the port of a listener, or of
// another connection, where both share it; or else by the kernel.
func TestReusePortDial(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	e := vethEngine(t, p.A, onload.Config{})
	far := []string{serve(t, p.B, p.B.Addr4.String()+":0"), serve(t, p.B, p.B.Addr4.String()+":0"), serve(t, p.B, p.B.Addr4.String()+":0")}
	hook := control([3]int{unix.SOL_SOCKET, unix.SO_REUSEPORT, 1})
	for name, listen := range map[string]func(ctx context.Context, network, address string) (net.Listener, error){
		"ours": (&onload.ListenConfig{Engine: e, Control: hook}).Listen,
		"kernel": func(ctx context.Context, network, address string) (l net.Listener, err error) {
			err = p.A.Do(func() error {
				l, err = (&net.ListenConfig{Control: hook}).Listen(ctx, network, address)
				return err
			})
			return l, err
		},
	} {
		l, err := listen(t.Context(), "tcp", p.A.Addr4.String()+":0")
		if err != nil {
			t.Fatal(err)
		}
		d := onload.Dialer{Engine: e, Control: hook, LocalAddr: l.Addr()}
		for _, port := range far {
			c, err := d.Dial("tcp", p.B.Addr4.String()+":"+port)
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			path := onload.PathOf(c)
			if path.Accelerated != (name == "ours") || name == "kernel" && !strings.Contains(path.Reason, "SO_REUSEPORT") {
				t.Errorf("%s: %v", name, path)
			}
			if c.LocalAddr().String() != l.Addr().String() {
				t.Errorf("%s: from %v", name, c.LocalAddr())
			}
			c.Close()
		}
		l.Close()
	}
}

// TestControlListenKernel: a listener, or bound socket, whose hook sets what
// only the kernel has is the kernel's, and works as asked.
func TestControlListenKernel(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	e := vethEngine(t, p.A, onload.Config{})
	at := p.A.Addr4.String() + ":0"
	lc := onload.ListenConfig{Engine: e, Control: control([3]int{unix.IPPROTO_TCP, unix.TCP_SAVE_SYN, 1})}
	l, err := lc.Listen(t.Context(), "tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if path := onload.PathOf(l); path.Reason != "a Control hook set TCP_SAVE_SYN" {
		t.Error(path)
	}
	echo(t, l, p.B.Dial, p.A.Addr4.String())
	lc.Control = control([3]int{unix.IPPROTO_IP, unix.IP_PKTINFO, 1}, [3]int{unix.IPPROTO_IP, unix.IP_RECVOPTS, 1})
	u, err := lc.ListenPacket(t.Context(), "udp", at)
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	if path := onload.PathOf(u); path.Reason != "a Control hook set IP_RECVOPTS" {
		t.Error(path)
	}
	c, err := p.B.Dial("udp", u.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	u.SetReadDeadline(time.Now().Add(patience))
	var b [9]byte
	var oob [100]byte
	if n, oobn, _, _, err := u.(*onload.UDPConn).ReadMsgUDP(b[:], oob[:]); n != 1 || oobn == 0 || err != nil {
		t.Errorf("%d bytes, %d of control messages, %v", n, oobn, err)
	}
}
