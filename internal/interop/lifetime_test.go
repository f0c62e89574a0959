package interop

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/onload-go/onload/internal/lab"
	"github.com/onload-go/onload/internal/testlong"
	onload "github.com/onload-go/onload/net"
)

// within fails the test if fn takes longer than limit.
func within(t testing.TB, limit time.Duration, what string, fn func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		fn()
	}()
	select {
	case <-done:
	case <-time.After(limit):
		t.Fatalf("%s hangs", what)
	}
}

// setMAC gives ns's interface another hardware address.
func setMAC(t *testing.T, ns *lab.NS, mac net.HardwareAddr) {
	t.Helper()
	l, err := ns.Netlink().LinkByName(ns.If)
	if err != nil {
		t.Fatal(err)
	}
	if err := ns.Netlink().LinkSetHardwareAddr(l, mac); err != nil {
		t.Fatal(err)
	}
}

var otherMAC = net.HardwareAddr{2, 0, 0x77, 0xff, 0, 9}

// TestNeighbourMoves: the peer's hardware address changes under a
// connection, as when an address moves to a standby, and traffic goes on.
func TestNeighbourMoves(t *testing.T) {
	t.Run("announced", func(t *testing.T) {
		pair, _, c, _ := established(t, lab.Options{})
		if err := pair.B.Sysctl("net.ipv4.conf."+pair.B.If+".arp_notify", "1"); err != nil {
			t.Fatal(err)
		}
		setMAC(t, pair.B, otherMAC)
		start := time.Now()
		if err := pingPong(c, 10*time.Second); err != nil {
			t.Error(err)
		}
		t.Logf("went on after %v", time.Since(start))
	})
	// Without an announcement it takes what ARP takes to lose faith.
	t.Run("silent", func(t *testing.T) {
		pair := lab.NewPair(t, lab.Options{})
		prefix := "net.ipv4.neigh." + pair.A.If
		if err := errors.Join(pair.A.Sysctl(prefix+".base_reachable_time_ms", "500"), pair.A.Sysctl(prefix+".delay_first_probe_time", "1")); err != nil {
			t.Fatal(err)
		}
		_, c, _ := establish(t, pair)
		time.Sleep(2 * time.Second) // the kernel's entry gets stale
		setMAC(t, pair.B, otherMAC)
		start := time.Now()
		if err := pingPong(c, hung); err != nil {
			t.Error(err)
		}
		t.Logf("went on after %v", time.Since(start))
	})
	t.Run("ours", func(t *testing.T) {
		pair, e, c, addr := established(t, lab.Options{})
		if err := pair.A.Sysctl("net.ipv4.conf."+pair.A.If+".arp_notify", "1"); err != nil {
			t.Fatal(err)
		}
		setMAC(t, pair.A, otherMAC)
		if err := pingPong(c, hung); err != nil {
			t.Error(err)
		}
		if !trip(t, e, addr) {
			t.Error("no new connection with our new address")
		}
	})
}

// TestInterfaceDeleted: calls return, new ones fail or take another way, and
// closing works.
func TestInterfaceDeleted(t *testing.T) {
	pair := lab.NewPair(t, lab.Options{})
	e := engine(t, pair.A)
	kl := listenOn(t, pair.B, pair.B.Addr4)
	go echoAll(kl)
	var conns []net.Conn
	for range 3 {
		c, err := e.Dial("tcp", kl.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
		if err := pingPong(c, hung); err != nil {
			t.Fatal(err)
		}
	}
	l := listenOn(t, e, pair.A.Addr4)
	u, err := e.ListenPacket("udp", netip.AddrPortFrom(pair.A.Addr4, 0).String())
	if err != nil {
		t.Fatal(err)
	}
	var blocked sync.WaitGroup
	results := make(chan error, 8)
	read := func(c net.Conn) {
		_, err := c.Read(make([]byte, 1))
		results <- fmt.Errorf("Read: %w", err)
	}
	_ = conns[0].SetDeadline(time.Time{})
	blocked.Go(func() { read(conns[0]) })
	blocked.Go(func() {
		_, err := l.Accept()
		results <- fmt.Errorf("Accept: %w", err)
	})
	blocked.Go(func() {
		_, _, err := u.ReadFrom(make([]byte, 1))
		results <- fmt.Errorf("ReadFrom: %w", err)
	})
	time.Sleep(50 * time.Millisecond)
	if err := pair.A.Delete(); err != nil {
		t.Fatal(err)
	}
	within(t, hung, "Read", func() {
		if err := <-results; !errors.Is(err, syscall.ENETDOWN) {
			t.Errorf("a blocked call ended with %v, want Read with network is down", err)
		}
	})
	if err := pingPong(conns[1], hung); !errors.Is(err, syscall.ENETDOWN) {
		t.Errorf("in use: %v, want network is down", err)
	}
	within(t, hung, "Dial", func() {
		if c, err := e.DialTimeout("tcp", kl.Addr().String(), hung); err == nil {
			c.Close()
			t.Error("connected without an interface")
		} else if !errors.Is(err, syscall.ENETUNREACH) {
			t.Errorf("Dial: %v, want network is unreachable", err)
		}
	})
	if i := e.Status()[0]; i.Err == nil || i.Path.Accelerated {
		t.Errorf("status: %+v, want an error", i)
	}
	within(t, hung, "Close", func() {
		for _, c := range conns {
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		}
		if err := errors.Join(l.Close(), u.Close()); err != nil {
			t.Error(err)
		}
	})
	within(t, hung, "a blocked call", blocked.Wait)
	close(results)
	for err := range results {
		if !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	}
	within(t, hung, "Engine.Close", func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestEngineClosed: peers of an engine that is closed are told at once, and
// all calls on it return net.ErrClosed.
func TestEngineClosed(t *testing.T) {
	pair := lab.NewPair(t, lab.Options{})
	e, err := onload.New(onload.Config{Interfaces: []string{pair.A.If}, NetNS: pair.A.Path})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	l := listenOn(t, e, pair.A.Addr4)
	var peers, ours []net.Conn
	for range 20 {
		p, err := pair.B.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		peers, ours = append(peers, p), append(ours, c)
	}
	var blocked sync.WaitGroup
	for _, c := range ours {
		blocked.Go(func() {
			if _, err := c.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
				t.Errorf("Read: %v", err)
			}
		})
	}
	blocked.Go(func() {
		if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Accept: %v", err)
		}
	})
	time.Sleep(50 * time.Millisecond)
	within(t, hung, "Engine.Close", func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	within(t, hung, "a blocked call", blocked.Wait)
	for _, p := range peers {
		_ = p.SetReadDeadline(time.Now().Add(hung))
		if _, err := p.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("the peer's Read: %v, want a reset", err)
		}
	}
	within(t, hung, "Close", func() {
		for _, c := range ours {
			_ = c.Close()
		}
		_ = l.Close()
	})
	if _, err := pair.B.Dial("tcp", l.Addr().String()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("Dial to the closed engine: %v", err)
	}
}

// TestTwoEngines: two engines on two interfaces of one namespace, each with
// its own traffic; and one engine on both.
func TestTwoEngines(t *testing.T) {
	n := newNeighbours(t)
	second, err := onload.New(onload.Config{Interfaces: []string{n.plain.If}, NetNS: n.host.Path})
	if err != nil {
		t.Fatal(err)
	}
	near := listenOn(t, n.e, n.host.Addr4)
	far := listenOn(t, second, n.plain.Addr4)
	go echoAll(near)
	go echoAll(far)
	serve := func() {
		t.Helper()
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() { trip(t, n.near, near.Addr().String()) })
			wg.Go(func() { trip(t, n.far, far.Addr().String()) })
		}
		wg.Wait()
	}
	serve()
	if err := errors.Join(far.Close(), second.Close(), near.Close(), n.e.Close()); err != nil {
		t.Fatal(err)
	}
	both, err := onload.New(onload.Config{Interfaces: []string{n.host.If, n.plain.If}, NetNS: n.host.Path})
	if err != nil {
		t.Fatal(err)
	}
	defer both.Close()
	l, err := both.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, c := range clients {
		if c.name == "far" {
			c.accelerated = true
		}
		n.visit(t, c, l, true, true)
	}
}

// TestQueueTaken: a second engine on an interface is refused, and told who
// has it; once the first is closed it is welcome.
func TestQueueTaken(t *testing.T) {
	pair := lab.NewPair(t, lab.Options{})
	e := engine(t, pair.A)
	again, err := onload.New(onload.Config{Interfaces: []string{pair.A.If}, NetNS: pair.A.Path})
	if err == nil {
		again.Close()
		t.Fatal("two engines have the same queue")
	}
	if !errors.Is(err, syscall.EBUSY) {
		t.Errorf("%v, want EBUSY", err)
	}
	for _, want := range []string{pair.A.If, "close the Engine of this process"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not name %s: %v", want, err)
		}
	}
	t.Log(err)
	// The first is not disturbed.
	l := listenOn(t, e, pair.A.Addr4)
	go echoAll(l)
	trip(t, pair.B, l.Addr().String())
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	engine(t, pair.A)
}

// TestIdle: many connections rest while keepalives are exchanged, then all
// work at once; when the peer is gone, keepalives find out.
func TestIdle(t *testing.T) {
	conns := testlong.Pick(200, 2000)
	pair := lab.NewPair(t, lab.Options{})
	e := engine(t, pair.A)
	patient(pair.B)
	l := listenOn(t, pair.B, pair.B.Addr4)
	go echoAll(l)
	d := &onload.Dialer{Engine: e, KeepAliveConfig: net.KeepAliveConfig{
		Enable: true, Idle: time.Second, Interval: time.Second, Count: 2,
	}}
	all := make([]net.Conn, conns)
	for i := range all {
		c, err := d.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		all[i] = c
	}
	use := func() {
		t.Helper()
		var wg sync.WaitGroup
		for _, c := range all {
			wg.Go(func() {
				if err := pingPong(c, hung); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	}
	use()
	time.Sleep(testlong.Pick(4*time.Second, 30*time.Second))
	use()
	quiet(t, e, pair.B) // none waited for a timeout
	if err := pair.B.SetDown(); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for _, c := range all {
		wg.Go(func() {
			_ = c.SetDeadline(time.Now().Add(60 * time.Second))
			if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ETIMEDOUT) {
				t.Errorf("peer gone: %v, want the keepalive to time out", err)
			}
		})
	}
	wg.Wait()
}

const nobodyEnv = "ONLOAD_TEST_NOBODY"

// TestNobody is the process without privileges of TestUnprivileged.
func TestNobody(t *testing.T) {
	ifname, addr, ok := strings.Cut(os.Getenv(nobodyEnv), " ")
	if !ok {
		return // only in the child
	}
	os.Unsetenv(nobodyEnv)
	e, err := onload.New(onload.Config{Interfaces: []string{ifname}})
	if err == nil {
		e.Close()
		t.Fatal("New succeeded")
	}
	if !errors.Is(err, os.ErrPermission) || !strings.Contains(err.Error(), ifname) || !strings.Contains(err.Error(), "CAP_") {
		t.Errorf("the error is not clear: %v", err)
	}
	fmt.Println("New:", err)
	os.Setenv("ONLOAD_INTERFACES", ifname)
	os.Setenv("ONLOAD_FALLBACK", "true")
	c, err := onload.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := pingPong(c, hung); err != nil {
		t.Error(err)
	}
	if p := onload.PathOf(c); p.Accelerated || !strings.Contains(p.Reason, ifname) || !strings.Contains(p.Reason, "CAP_") {
		t.Errorf("path: %v", p)
	}
	fmt.Println("PathOf:", onload.PathOf(c))
}

// TestUnprivileged: nobody's process is told what it lacks, and goes by the
// kernel where it may.
func TestUnprivileged(t *testing.T) {
	pair := lab.NewPair(t, lab.Options{})
	l := listenOn(t, pair.B, pair.B.Addr4)
	go echoAll(l)
	c := pair.A.Command("/proc/self/exe", "-test.run=^TestNobody$", "-test.v")
	c.Env = append(os.Environ(), nobodyEnv+"="+pair.A.If+" "+l.Addr().String())
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := c.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "PathOf: kernel") {
		t.Errorf("%v\n%s", err, out)
	}
	for s := bufio.NewScanner(strings.NewReader(string(out))); s.Scan(); {
		t.Log(s.Text())
	}
}
