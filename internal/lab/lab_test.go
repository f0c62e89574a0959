package lab

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/netns"
)

const victimEnv = "ONLOAD_LAB_VICTIM"

func TestMain(m *testing.M) {
	if os.Getenv(victimEnv) != "" {
		victim()
	}
	os.Exit(m.Run())
}

// roundTrip sends a line through a kernel TCP connection from one namespace to
// an address in another.
func roundTrip(from, to *NS, addr netip.Addr) error {
	l, err := to.Listen("tcp", netip.AddrPortFrom(addr, 0).String())
	if err != nil {
		return err
	}
	defer l.Close()
	go func() {
		if c, err := l.Accept(); err == nil {
			io.Copy(c, c)
			c.Close()
		}
	}()
	port := netip.MustParseAddrPort(l.Addr().String()).Port()
	target := addr
	if addr.Zone() != "" {
		target = addr.WithZone(from.If)
	}
	c, err := from.Dial("tcp", netip.AddrPortFrom(target, port).String())
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(time.Minute))
	if _, err := c.Write([]byte("hello")); err != nil {
		return err
	}
	var b [5]byte
	if _, err := io.ReadFull(c, b[:]); err != nil {
		return err
	}
	if string(b[:]) != "hello" {
		return fmt.Errorf("got %q", b)
	}
	return nil
}

func TestPair(t *testing.T) {
	p := NewPair(t, Options{Queues: 4, MTU: 9000})
	for _, addr := range []netip.Addr{p.B.Addr4, p.B.Addr6, p.B.Zoned()} {
		if err := roundTrip(p.A, p.B, addr); err != nil {
			t.Errorf("%v: %v", addr, err)
		}
	}
	for _, ns := range []*NS{p.A, p.B} {
		err := ns.Do(func() error {
			ifc, err := net.InterfaceByName(ns.If)
			if err != nil {
				return err
			}
			if ifc.MTU != 9000 || ifc.Index != ns.Index || !bytes.Equal(ifc.HardwareAddr, ns.MAC[:]) {
				return fmt.Errorf("interface is %+v, want %+v", ifc, ns.Link)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
		k, err := ns.Netlink().LinkByIndex(ns.Index)
		if err != nil || k.Attrs().NumRxQueues != 4 || k.Attrs().NumTxQueues != 4 {
			t.Errorf("queues %+v, %v", k.Attrs(), err)
		}
	}
	if root, err := net.InterfaceByName(p.A.If); err == nil {
		t.Errorf("%v is visible outside", root)
	}
}

func TestHTTP(t *testing.T) {
	p := NewPair(t, Options{Neighbors: true, NoTxCsum: true, NoTSO: true, NoGSO: true, NoGRO: true})
	l, err := p.B.Listen("tcp", netip.AddrPortFrom(p.B.Addr4, 80).String())
	if err != nil {
		t.Fatal(err)
	}
	go http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "ok") }))
	defer l.Close()
	client := http.Client{Transport: &http.Transport{DialContext: p.A.DialContext, DisableKeepAlives: true}}
	resp, err := client.Get("http://" + p.B.Addr4.String())
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if string(body) != "ok" {
		t.Fatalf("body %q", body)
	}
	var arp []netlink.Neigh
	if arp, err = p.A.Netlink().NeighList(p.A.Index, unix.AF_INET); err != nil || len(arp) != 1 || arp[0].State != netlink.NUD_PERMANENT {
		t.Fatalf("neighbours %v, %v", arp, err)
	}
}

func TestLine(t *testing.T) {
	l := NewLine(t, Options{})
	for _, addr := range []netip.Addr{l.C.Addr4, l.C.Addr6} {
		if err := roundTrip(l.A, l.C, addr); err != nil {
			t.Errorf("%v: %v", addr, err)
		}
	}
}

func TestBridgeAndSecondVeth(t *testing.T) {
	NeedRoot(t)
	var ns [3]*NS
	for i := range ns {
		var err error
		if ns[i], err = NewNS(fmt.Sprint("n", i)); err != nil {
			t.Fatal(err)
		}
		defer ns[i].Close()
	}
	a, sw, c := ns[0], ns[1], ns[2]
	_, p0, err := Veth(a, sw, Options{NoAddr: true})
	if err != nil {
		t.Fatal(err)
	}
	_, p1, err := Veth(c, sw, Options{NoAddr: true})
	if err != nil {
		t.Fatal(err)
	}
	if p0.If == p1.If || a.MAC == c.MAC {
		t.Fatalf("names %s %s, MACs %x %x", p0.If, p1.If, a.MAC, c.MAC)
	}
	if _, err := sw.Bridge("br0", p0, p1); err != nil {
		t.Fatal(err)
	}
	if err := a.AddAddr(netip.MustParsePrefix("192.0.2.1/24")); err != nil {
		t.Fatal(err)
	}
	if err := c.AddAddr(netip.MustParsePrefix("192.0.2.2/24")); err != nil {
		t.Fatal(err)
	}
	if err := roundTrip(a, c, netip.MustParseAddr("192.0.2.2")); err != nil {
		t.Fatal(err)
	}
}

func TestChanges(t *testing.T) {
	p := NewPair(t, Options{})
	a := p.A
	second := netip.MustParsePrefix("10.1.2.3/24")
	far := netip.MustParsePrefix("10.200.0.0/16")
	for _, step := range []struct {
		name string
		do   func() error
	}{
		{"add address", func() error { return a.AddAddr(second) }},
		{"use it", func() error { return roundTrip(a, a, second.Addr()) }},
		{"delete address", func() error { return a.DelAddr(second) }},
		{"add route", func() error { return a.AddRoute(far, p.B.Addr4) }},
		{"delete route", func() error { return a.DelRoute(far, p.B.Addr4) }},
		{"add neighbour", func() error { return a.AddNeighbor(p.B.Addr6, p.B.MAC) }},
		{"delete neighbour", func() error { return a.DelNeighbor(p.B.Addr6) }},
		{"mtu", func() error { return a.SetMTU(1400) }},
		{"down", a.SetDown},
		{"up", a.SetUp},
		{"traffic", func() error { return roundTrip(a, p.B, p.B.Addr4) }},
		{"delete", a.Delete},
	} {
		if err := step.do(); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
	}
	if err := a.DelAddr(second); err == nil {
		t.Fatal("deleting an address of a deleted link succeeded")
	}
}

func TestVLAN(t *testing.T) {
	p := NewPair(t, Options{})
	v, err := p.A.VLAN(7)
	if errors.Is(err, syscall.EOPNOTSUPP) {
		return // a kernel without 802.1Q: this is what is promised then
	}
	if err != nil || v.If != "veth0.7" || v.Index == 0 {
		t.Fatalf("%+v, %v", v, err)
	}
}

// Several at once must neither meet nor leave threads in the wrong place.
func TestParallel(t *testing.T) {
	NeedRoot(t)
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			p, err := MakePair(Options{})
			if err != nil {
				t.Error(err)
				return
			}
			defer p.Close()
			if err := roundTrip(p.A, p.B, p.B.Addr6); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

func TestCommand(t *testing.T) {
	p := NewPair(t, Options{})
	out, err := p.A.Command("readlink", "/proc/self/ns/net", p.A.Path).Output()
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Fields(string(out))
	if len(lines) != 2 || lines[0] != lines[1] {
		t.Fatalf("child's namespace and Path differ: %q", lines)
	}
	if _, err := p.A.Command("sh", "-c", "echo no >&2; exit 3").Output(); err == nil || !strings.Contains(fmt.Sprintf("%v", err), "3") {
		t.Fatalf("exit status lost: %v", err)
	}
	both, err := p.A.Command("sh", "-c", "echo out; echo err >&2").CombinedOutput()
	if err != nil || string(both) != "out\nerr\n" {
		t.Fatalf("%q, %v", both, err)
	}
	if err := p.A.Command("/no/such/program").Start(); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("missing program: %v", err)
	}

	// A child survives the threads of Do, and Close ends it.
	c := p.A.Command("sleep", "60")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		p.B.Do(func() error { return nil })
	}
	if err := c.Process.Signal(syscall.Signal(0)); err != nil {
		t.Fatalf("child died early: %v", err)
	}
	p.A.Close()
	if err := c.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Fatalf("after Close: %v", err)
	}
}

// victim is a process that builds a network and waits to be killed.
func victim() {
	p, err := MakePair(Options{Queues: 2})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	l, err := p.B.Listen("tcp", ":80")
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	c := p.A.Command("sleep", "300")
	if err := c.Start(); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("ready", p.A.Path, p.B.Path, c.Process.Pid)
	time.Sleep(5 * time.Minute)
	l.Close()
}

// After kill -9 the kernel has removed everything.
func TestKilled(t *testing.T) {
	NeedRoot(t)
	before := footprint(t)
	c := netnsFree(t)
	pr, pw := io.Pipe()
	c.Stdout = pw
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	var word, pathA, pathB string
	var child int
	if _, err := fmt.Fscan(pr, &word, &pathA, &pathB, &child); err != nil || word != "ready" {
		t.Fatal(word, err)
	}
	a, err := os.Readlink(pathA)
	if err != nil {
		t.Fatal(err)
	}
	// Start returns within execve(2), before the kernel has set the command line.
	var cmdline []byte
	for end := time.Now().Add(time.Minute); len(cmdline) == 0 && time.Now().Before(end); time.Sleep(time.Millisecond) {
		cmdline, _ = os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", child))
	}
	if !strings.HasPrefix(string(cmdline), "sleep") {
		t.Fatalf("child %d is %q", child, cmdline)
	}
	if in, _ := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", child)); in != a {
		t.Fatalf("child is in %s, not %s", in, a)
	}
	c.Process.Kill()
	c.Wait()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		cmdline, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", child))
		if err != nil || len(cmdline) == 0 { // gone, or a zombie of a foreign init
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the child outlives the process")
		}
	}
	for _, path := range []string{pathA, pathB} {
		if _, err := os.Stat(path); err == nil {
			t.Errorf("%s still opens", path)
		}
	}
	if after := footprint(t); after != before {
		t.Errorf("left behind:\n%s\nbefore:\n%s", after, before)
	}
}

// netnsFree is the test binary as victim, started outside any lab.
func netnsFree(t *testing.T) *Cmd {
	h, err := netns.Current()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	ns := &NS{h: h}
	c := ns.Command("/proc/self/exe", "-test.run=^$")
	c.Env = append(os.Environ(), victimEnv+"=1")
	return c
}

// footprint lists what a lab could leave where everybody sees it: links of
// this namespace and namespace mounts.
func footprint(t *testing.T) string {
	var b strings.Builder
	ifs, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range ifs {
		fmt.Fprintln(&b, i.Index, i.Name)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, "nsfs") {
			b.WriteString(line)
		}
	}
	return b.String()
}
