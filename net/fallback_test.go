package onload_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"golang.org/x/net/nettest"
	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/lab"
	onload "github.com/onload-go/onload/net"
)

// observed returns a logger and what it has logged from level warn.
func observed() (*zap.Logger, *observer.ObservedLogs) {
	core, logs := observer.New(zap.WarnLevel)
	return zap.New(core), logs
}

// TestKernelOnly is the engine of a program that names no interface.
func TestKernelOnly(t *testing.T) {
	log, logs := observed()
	e, err := onload.New(onload.Config{Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
		ln, err := e.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, nil, nil, err
		}
		defer ln.Close()
		if c1, err = e.Dial("tcp", ln.Addr().String()); err != nil {
			return nil, nil, nil, err
		}
		if c2, err = ln.Accept(); err != nil {
			return nil, nil, nil, err
		}
		for _, s := range []any{ln, c1, c2} {
			if p := onload.PathOf(s); p.Accelerated || !strings.Contains(p.Reason, "ONLOAD_INTERFACES") {
				t.Errorf("%T: %v", s, p)
			}
		}
		return c1, c2, func() { c1.Close(); c2.Close() }, nil
	})
	u, err := e.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	if _, ok := u.(*onload.UDPConn); !ok || onload.PathOf(u).Accelerated {
		t.Errorf("%T, %v", u, onload.PathOf(u))
	}
	if n := logs.FilterMessageSnippet("ONLOAD_INTERFACES").Len(); n != 1 {
		t.Errorf("said %d times that nothing is accelerated, want once", n)
	}
}

// TestDefaultEngine checks the package-level functions.
func TestDefaultEngine(t *testing.T) {
	ln, err := onload.Listen("tcp", "localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c, err := onload.DialTimeout("tcp", ln.Addr().String(), patience)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, ok := c.(*onload.TCPConn); !ok {
		t.Errorf("Dial returned a %T", c)
	}
	tc, err := onload.DialTCP("tcp", nil, ln.Addr().(*onload.TCPAddr))
	if err != nil {
		t.Fatal(err)
	}
	defer tc.Close()
	f, err := tc.File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	copied, err := onload.FileConn(f)
	if err != nil {
		t.Fatal(err)
	}
	defer copied.Close()
	if _, ok := copied.(*onload.TCPConn); !ok {
		t.Errorf("FileConn returned a %T", copied)
	}
	e, err := onload.Default()
	if err != nil || len(e.Status()) != 0 {
		t.Errorf("Default: %v, %v", e.Status(), err)
	}
}

func TestUnixIsTheKernels(t *testing.T) {
	path := t.TempDir() + "/s"
	ln, err := onload.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c, err := onload.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, ok := c.(*net.UnixConn); !ok || onload.PathOf(c).Accelerated {
		t.Errorf("%T %v", c, onload.PathOf(c))
	}
	d, err := new(onload.Dialer).DialUnix(context.Background(), "unix", nil, &onload.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	d.Close()
}

// TestInterfaceCannotBeOpened: an error, or the kernel's way with the reason.
func TestInterfaceCannotBeOpened(t *testing.T) {
	log, logs := observed()
	c := onload.Config{Interfaces: []string{"nosuch0"}, Logger: log}
	if _, err := onload.New(c); !errors.Is(err, syscall.ENODEV) || !strings.Contains(err.Error(), "nosuch0") {
		t.Errorf("New: %v", err)
	}
	c.Fallback = true
	e, err := onload.New(c)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if st := e.Status(); len(st) != 1 || !errors.Is(st[0].Err, syscall.ENODEV) || st[0].Path.Accelerated {
		t.Errorf("Status: %+v", st)
	}
	if logs.FilterMessageSnippet("left to the kernel").Len() != 1 {
		t.Errorf("log: %v", logs.All())
	}
	ln, err := e.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if p := onload.PathOf(ln); p.Accelerated || !strings.Contains(p.Reason, "nosuch0") {
		t.Errorf("path: %v", p)
	}
	echo(t, ln, e.Dial, "127.0.0.1")
}

// TestLoopbackIsTheKernels: naming it, beside others, takes nothing from local
// clients.
func TestLoopbackIsTheKernels(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	e, err := onload.New(onload.Config{NetNS: p.A.Path, Interfaces: []string{p.A.If, "lo"}, Frames: 4096, RingSize: 1024, Fallback: true, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	ln, err := e.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	dial := func(network, address string) (net.Conn, error) { return e.DialTimeout(network, address, patience) }
	for _, ip := range []string{"127.0.0.1", p.A.Addr4.String()} {
		echo(t, ln, dial, ip)
	}
	if st := e.Status(); st[0].Err != nil || st[1].Err == nil {
		t.Errorf("Status: %+v", st)
	}
}

// TestInterfaceNamedByDigits: it is not the one with that number.
func TestInterfaceNamedByDigits(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	err := p.A.Do(func() error {
		l, err := netlink.LinkByName(p.A.If)
		if err != nil {
			return err
		}
		return errors.Join(netlink.LinkSetDown(l), netlink.LinkSetName(l, "1"), netlink.LinkSetUp(l))
	})
	if err != nil {
		t.Fatal(err)
	}
	e, err := onload.New(onload.Config{NetNS: p.A.Path, Interfaces: []string{"1"}, Frames: 4096, RingSize: 1024, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if st := e.Status(); st[0].Index != p.A.Index || st[0].Path.Driver != "veth" {
		t.Errorf("Status: %+v", st)
	}
}

// echo sends a message to ln, by dial, and back.
func echo(t *testing.T, ln net.Listener, dial func(network, address string) (net.Conn, error), ip string) (client, server net.Conn) {
	t.Helper()
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	c, err := dial("tcp", net.JoinHostPort(ip, port))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	s, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	for _, ends := range [][2]net.Conn{{c, s}, {s, c}} {
		b := make([]byte, 5)
		if _, err := ends[0].Write([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(ends[1], b); err != nil || string(b) != "hello" {
			t.Fatalf("%q, %v", b, err)
		}
	}
	return c, s
}

// TestReasons checks what PathOf says of sockets that an engine with an
// interface leaves to the kernel.
func TestReasons(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	_, second, err := lab.Veth(p.A, p.B, lab.Options{})
	if err != nil {
		t.Fatal(err)
	}
	e := vethEngine(t, p.A, onload.Config{})
	udp := func(address string) any {
		c, err := e.Dial("udp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	listen := func(address string) any {
		ln, err := e.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { ln.Close() })
		return ln
	}
	for _, tt := range []struct {
		socket any
		reason string // empty: accelerated
	}{
		{udp(p.B.Addr4.String() + ":9"), ""},
		{udp("[" + p.B.Addr6.String() + "]:9"), ""},
		{udp(p.A.Addr4.String() + ":9"), "the destination is this host"},
		{udp("127.0.0.1:9"), "the destination is this host"},
		{udp(":9"), "the destination is this host"},
		{udp(second.Addr4.String() + ":9"), "interface veth1 is not accelerated"},
		{udp("[fe80::1%veth0]:9"), "zone"},
		{listen(":0"), ""},
		{listen(p.A.Addr4.String() + ":0"), ""},
		{listen("127.0.0.1:0"), "not accelerated"},
		{nil, "no socket"},
		{&onload.TCPListener{}, "no socket of this package"},
		{&onload.UDPConn{}, "no socket of this package"},
		{&net.TCPConn{}, "package net"},
		{"x", "no socket of this package"},
	} {
		path := onload.PathOf(tt.socket)
		if path.Accelerated != (tt.reason == "") || !strings.Contains(path.Reason, tt.reason) {
			t.Errorf("%T: %+v, want reason %q", tt.socket, path, tt.reason)
		}
		if path.Accelerated && (path.Interface != p.A.If || path.Driver != "veth" || path.Mode == "") {
			t.Errorf("%T: %+v", tt.socket, path)
		}
	}
}

// TestAuto takes veths, and leaves loopback.
func TestAuto(t *testing.T) {
	p := lab.NewPair(t, lab.Options{Queues: 1})
	e, err := onload.New(onload.Config{NetNS: p.A.Path, Interfaces: []string{"auto"}, Frames: 1024, RingSize: 256, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	st := e.Status()
	if len(st) != 1 || st[0].Name != p.A.If || !st[0].Path.Accelerated || st[0].Queues != 1 || st[0].Err != nil {
		t.Errorf("Status: %+v", st)
	}
	if s := e.Stats(); len(s) != 1 {
		t.Errorf("Stats: %+v", s)
	}
}

// TestMulticastNamespace: the namespace of the default engine is that of
// multicast, too.
func TestMulticastNamespace(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	c := exec.Command(os.Args[0], "-test.run=^TestHelperMulticast$")
	c.Env = append(os.Environ(), "ONLOAD_NETNS="+p.A.Path, fmt.Sprintf("MULTICAST_IF=%d", p.A.Index))
	if out, err := c.CombinedOutput(); err != nil || !strings.Contains(string(out), "PASS") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestHelperMulticast(t *testing.T) {
	index, err := strconv.Atoi(os.Getenv("MULTICAST_IF"))
	if err != nil {
		return // it is only the child of the test above
	}
	cookie := func(c *onload.UDPConn, err error) (ns uint64) {
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		raw, err := c.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		raw.Control(func(fd uintptr) { ns, err = unix.GetsockoptUint64(int(fd), unix.SOL_SOCKET, unix.SO_NETNS_COOKIE) })
		if err != nil {
			t.Fatal(err)
		}
		return ns
	}
	bound := cookie(onload.ListenUDP("udp4", nil))
	group := cookie(onload.ListenMulticastUDP("udp4", &onload.Interface{Index: index}, &onload.UDPAddr{IP: onload.IPv4(224, 0, 0, 251)}))
	if bound != group {
		t.Errorf("a socket for multicast is in namespace %d, others are in %d", group, bound)
	}
}

// TestNamespace: an engine without interfaces lives in its namespace too.
func TestNamespace(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	e, err := onload.New(onload.Config{NetNS: p.A.Path, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	ln, err := e.Listen("tcp", p.A.Addr4.String()+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	echo(t, ln, p.B.Dial, p.A.Addr4.String())
	far, err := p.B.Listen("tcp", p.B.Addr4.String()+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	echo(t, far, e.Dial, p.B.Addr4.String())
	exchange(t, listenUDP(t, e, p.A.Addr4.String()+":0"), listenUDP(t, p.B, ":7"), &net.UDPAddr{IP: p.B.Addr4.AsSlice(), Port: 7}, p.A.Addr4.String())
	if _, err := onload.New(onload.Config{NetNS: "/nonexistent"}); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

// TestUnprivileged runs an engine in a process that may not open the
// interface.
func TestUnprivileged(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	cmd := p.A.Command("/proc/self/exe", "-test.run=^TestHelperUnprivileged$", "-test.v")
	cmd.SysProcAttr.Credential = &syscall.Credential{Uid: 65534, Gid: 65534}
	cmd.Env = append(os.Environ(), "UNPRIVILEGED_IF="+p.A.If)
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "PASS: TestHelperUnprivileged") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestHelperUnprivileged(t *testing.T) {
	name := os.Getenv("UNPRIVILEGED_IF")
	if name == "" {
		return // it is only the child of the test above
	}
	c := onload.Config{Interfaces: []string{name}, Logger: zap.NewNop()}
	if _, err := onload.New(c); !errors.Is(err, os.ErrPermission) || !strings.Contains(err.Error(), "CAP_") {
		t.Errorf("New: %v", err)
	}
	c.Fallback = true
	var warnings *observer.ObservedLogs
	c.Logger, warnings = observed()
	e, err := onload.New(c)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	// It says that, and not what flows would lack, of which there are none.
	for _, w := range warnings.All() {
		if w.Message != "interface is left to the kernel" {
			t.Errorf("it warns: %s", w.Message)
		}
	}
	if n := warnings.Len(); n != 1 {
		t.Errorf("%d warnings", n)
	}
	if st := e.Status(); len(st) != 1 || !errors.Is(st[0].Err, os.ErrPermission) {
		t.Errorf("Status: %+v", st)
	}
	ln, err := e.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if path := onload.PathOf(ln); path.Accelerated || !strings.Contains(path.Reason, name+": ") {
		t.Error(path)
	}
	echo(t, ln, e.Dial, "127.0.0.1")
}
