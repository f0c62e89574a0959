package interop

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/lab"
	onload "github.com/onload-go/onload/net"
	"github.com/onload-go/onload/tcp"
)

// fastHost is a host that uses Fast Open.
type fastHost interface {
	dial(address string) (net.Conn, error)
	listen(address string) (net.Listener, error)
}

type fastKernel struct {
	ns  *lab.NS
	key string
}

func sockopt(opt, v int) func(_, _ string, c syscall.RawConn) error {
	return func(_, _ string, c syscall.RawConn) (err error) {
		if failed := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, opt, v) }); failed != nil {
			return failed
		}
		return err
	}
}

func (k fastKernel) dial(address string) (c net.Conn, err error) {
	d := net.Dialer{Control: sockopt(unix.TCP_FASTOPEN_CONNECT, 1)}
	err = k.ns.Do(func() error { c, err = d.Dial("tcp", address); return err })
	return c, err
}

func (k fastKernel) listen(address string) (l net.Listener, err error) {
	lc := net.ListenConfig{Control: func(network, address string, c syscall.RawConn) error {
		if k.key != "" {
			keys, err := tcp.ParseFastOpenKeys(k.key)
			if err != nil {
				return err
			}
			c.Control(func(fd uintptr) {
				err = unix.SetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_FASTOPEN_KEY, string(keys.Bytes()))
			})
			if err != nil {
				return err
			}
		}
		return sockopt(unix.TCP_FASTOPEN, 16)(network, address, c)
	}}
	err = k.ns.Do(func() error { l, err = lc.Listen(context.Background(), "tcp", address); return err })
	return l, err
}

type fastOnload struct {
	e   *onload.Engine
	key string
}

func (o fastOnload) dial(address string) (net.Conn, error) {
	return (&onload.Dialer{Engine: o.e, FastOpen: true}).Dial("tcp", address)
}

func (o fastOnload) listen(address string) (net.Listener, error) {
	l, err := (&onload.ListenConfig{Engine: o.e, FastOpen: 16, FastOpenKey: o.key}).Listen(context.Background(), "tcp", address)
	if err == nil && !onload.PathOf(l).Accelerated {
		err = errors.New(onload.PathOf(l).Reason)
	}
	return l, err
}

// synData reports whether the SYN of c carried data, in either direction.
func synData(t *testing.T, c net.Conn) bool {
	t.Helper()
	if o, ok := c.(*onload.TCPConn); ok {
		i, err := o.Info()
		if err != nil {
			t.Fatal(err)
		}
		return i.FastOpened
	}
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	sent := false
	raw.Control(func(fd uintptr) {
		const option = 32 // TCPI_OPT_SYN_DATA
		i, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		sent = err == nil && i.Options&option != 0
	})
	return sent
}

// TestRFC7413Kernel: Fast Open between the kernel and us, in both directions,
// and between us: the first connection gets the cookie, those after it send
// their request with the SYN, and all get the answer to it.
func TestRFC7413Kernel(t *testing.T) {
	lab.NeedRoot(t)
	for _, p := range pairings {
		t.Run(p.name, func(t *testing.T) {
			pair := lab.NewPair(t, lab.Options{})
			for _, ns := range []*lab.NS{pair.A, pair.B} {
				if err := ns.Sysctl("net.ipv4.tcp_fastopen", "3"); err != nil {
					t.Fatal(err)
				}
			}
			client, server := fastHost(fastKernel{pair.A, ""}), fastHost(fastKernel{pair.B, ""})
			if p.onloadDial {
				client = fastOnload{engine(t, pair.A), ""}
			}
			if p.onloadLs {
				server = fastOnload{engine(t, pair.B), ""}
			}
			for _, f := range families {
				t.Run(f.name, func(t *testing.T) { fastExchange(t, client, server, f.addr(pair.B), false) })
			}
		})
	}
}

// TestRFC7413KernelKey: with one key the kernel's listener and ours take each
// other's cookies, also where we have it as the older of two.
func TestRFC7413KernelKey(t *testing.T) {
	lab.NeedRoot(t)
	const key, newer = "a1b2c3d4-0-11223344-5", "1-2-3-4"
	pair := lab.NewPair(t, lab.Options{})
	for _, ns := range []*lab.NS{pair.A, pair.B} {
		if err := ns.Sysctl("net.ipv4.tcp_fastopen", "3"); err != nil {
			t.Fatal(err)
		}
	}
	client, e := fastKernel{pair.A, ""}, engine(t, pair.B)
	for i, f := range families {
		t.Run(f.name, func(t *testing.T) {
			servers := []fastHost{fastKernel{pair.B, key}, fastOnload{e, key}}
			first := i % 2 // who makes the cookie
			fastExchange(t, client, servers[first], f.addr(pair.B), false)
			fastExchange(t, client, servers[1-first], f.addr(pair.B), true)
			fastExchange(t, client, fastOnload{e, newer + "," + key}, f.addr(pair.B), true)
			fastExchange(t, client, fastOnload{e, newer}, f.addr(pair.B), true)
			fastExchange(t, client, fastOnload{e, ""}, f.addr(pair.B), false)
		})
	}
}

// fastExchange makes connections of which all but the first, and that one too
// where the client has a cookie, carry data with the SYN.
func fastExchange(t *testing.T, client, server fastHost, addr netip.Addr, known bool) {
	t.Helper()
	l, err := server.listen(netip.AddrPortFrom(addr, 0).String())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	served := make(chan bool, 16)
	go func() {
		for {
			s, err := l.Accept()
			if err != nil {
				return
			}
			buf := make([]byte, 7)
			if _, err := io.ReadFull(s, buf); err == nil {
				served <- synData(t, s)
				s.Write(buf)
				io.Copy(s, s)
			}
			s.Close()
		}
	}()
	for i, more := range []int{0, 0, 100, 1 << 20} {
		c, err := client.dial(l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		msg := append([]byte("request"), make([]byte, more)...)
		go c.Write(msg)
		buf := make([]byte, len(msg))
		if n, err := io.ReadFull(c, buf); err != nil || string(buf) != string(msg) {
			t.Fatalf("connection %d: read %d of %d, %v", i, n, len(msg), err)
		}
		if got := synData(t, c); got != (known || i > 0) {
			t.Errorf("connection %d: the client sent data with the SYN: %v", i, got)
		}
		if got := <-served; got != (known || i > 0) {
			t.Errorf("connection %d: the server got data with the SYN: %v", i, got)
		}
		c.Close()
	}
}
