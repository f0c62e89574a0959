package engine

import (
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/onload-go/onload/driver/sim"
	"github.com/onload-go/onload/internal/control"
	"github.com/onload-go/onload/internal/lab"
	"github.com/onload-go/onload/ring"
	"github.com/onload-go/onload/tcp"
)

// TestNICBeside: an interface of the kernel's and a NIC without one are one stack over
// one packet memory. Each carries what its routes say, a listener on all addresses hears
// both, and an address of one is not reached by the other.
func TestNICBeside(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	c := Config{
		NetNS: p.A.Path, Interfaces: []string{p.A.If, nicName}, Static: []string{nicName + " 10.0.0.1/24 default via 10.0.0.2"},
		Frames: 2048, RingSize: 512, Logger: zap.NewNop(),
	}
	if err := c.check(); err != nil {
		t.Fatal(err)
	}
	e := newEngine(c)
	e.rest = true
	var err error
	if e.ns, err = p.A.Handle().Dup(); err != nil {
		t.Fatal(err)
	}
	var peer *Engine
	e.openNIC = func(_ string, arena *ring.Arena) (nic, error) {
		if arena == nil {
			t.Error("the NIC does not share the packet memory")
		}
		da, db, err := sim.New(sim.Config{Name: nicName, TakeAll: true, Arena: arena}, sim.Config{Name: nicName, TakeAll: true}, sim.LinkConfig{})
		if err != nil {
			return nil, err
		}
		peer = nicEngine(t, simNIC{db, [6]byte{2, 0, 0, 0, 0, 2}}, "10.0.0.2/24 198.51.100.1/32 default via 10.0.0.1")
		return simNIC{da, [6]byte{2, 0, 0, 0, 0, 1}}, nil
	}
	if err := e.openInterfaces(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	if len(e.stacks()) != 1 {
		t.Fatalf("%d stacks", len(e.stacks()))
	}
	echoPort(t, peer, 7)
	kernel, err := p.B.Listen("tcp", ":7")
	if err != nil {
		t.Fatal(err)
	}
	defer kernel.Close()
	go echoAll(kernel)
	// Out by either, the default route among them.
	for to, by := range map[string]int{p.B.Addr4.String(): p.A.Index, "10.0.0.2": control.FirstStatic + 2, "198.51.100.1": control.FirstStatic + 2} {
		at := netip.AddrPortFrom(netip.MustParseAddr(to), 7)
		conn, err := dialNIC(e, at)
		if err != nil {
			t.Fatalf("%s: %v", to, err)
		}
		roundTrip(t, conn)
		if r, err := e.net.Route(control.Flow{Dst: at.Addr()}); err != nil || r.Link != by {
			t.Errorf("%s goes by link %d, %v, want %d", to, r.Link, err, by)
		}
	}
	// In by either.
	echoPort(t, e, 9)
	conn, err := dialNIC(peer, netip.MustParseAddrPort("10.0.0.1:9"))
	if err != nil {
		t.Fatal(err)
	}
	roundTrip(t, conn)
	client, err := p.B.Dial("tcp", netip.AddrPortFrom(p.A.Addr4, 9).String())
	if err != nil {
		t.Fatal(err)
	}
	roundTrip(t, client)
	// The kernel's address is not reached by the NIC.
	if v := e.net.Accepts(control.FirstStatic+2, control.Flow{Src: netip.MustParseAddr("10.0.0.2"), Dst: p.A.Addr4}); v != control.Refused {
		t.Error("a packet by the NIC to an address of the kernel's is accepted")
	}
	if v := e.net.Accepts(p.A.Index, control.Flow{Src: p.B.Addr4, Dst: netip.MustParseAddr("10.0.0.1")}); v != control.Refused {
		t.Error("a packet by the kernel's interface to an address of the NIC is accepted")
	}
	// Ports of the NIC's address are the kernel's too: a socket on all addresses has
	// them.
	sh := e.Shards(AnyFamily, netip.MustParseAddr("10.0.0.1"))
	own, err := e.Listen(&sh, 0, false, &tcp.Config{}, &Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	if l, err := p.A.Listen("tcp4", netip.AddrPortFrom(netip.IPv4Unspecified(), own.Addr().Port()).String()); err == nil {
		l.Close()
		t.Error("the kernel gave a port of ours to another socket")
	}
}

// roundTrip sends a line and waits for its echo.
func roundTrip(t *testing.T, c io.ReadWriteCloser) {
	t.Helper()
	defer c.Close()
	want := strings.Repeat("beside", 2000)
	go io.WriteString(c, want)
	got := make([]byte, len(want))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != want {
		t.Errorf("the echo is another: %v", err)
	}
}

func echoAll(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			_, _ = io.Copy(c, c)
		}()
	}
}

// TestJoinedPrefixes: the longest prefix decides between the kernel's routes and those
// of the configuration, whose default route comes before the kernel's.
func TestJoinedPrefixes(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	for dst, via := range map[string]netip.Addr{"0.0.0.0/0": p.B.Addr4, "198.51.100.0/24": p.B.Addr4} {
		if err := p.A.AddRoute(netip.MustParsePrefix(dst), via); err != nil {
			t.Fatal(err)
		}
	}
	kernel, err := control.NewKernel(p.A.Handle(), zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	const link = control.FirstStatic
	static := control.NewStatic(control.Link{Index: link, Name: nicName, MTU: 1500, Up: true, Static: true, Addrs: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/24")}})
	for _, dst := range []string{"0.0.0.0/0", "198.51.0.0/16", "198.51.100.128/25"} {
		static.AddRoute(control.StaticRoute{Dst: netip.MustParsePrefix(dst), Link: link, Gateway: netip.MustParseAddr("10.0.0.2")})
	}
	j := control.Join(kernel, static)
	defer j.Close()
	// The mirror may be behind by a moment.
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		if r, err := kernel.Route(control.Flow{Dst: netip.MustParseAddr("198.51.100.1")}); err == nil && r.Link == p.A.Index {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("the mirror has %+v, %v", r, err)
		}
	}
	for dst, want := range map[string]int{
		"203.0.113.1": link, "198.51.1.1": link, "198.51.100.1": p.A.Index, "198.51.100.200": link,
		"10.0.0.9": link, p.B.Addr4.String(): p.A.Index,
	} {
		if r, err := j.Route(control.Flow{Dst: netip.MustParseAddr(dst)}); err != nil || r.Link != want {
			t.Errorf("%s goes by %d, %v, want %d", dst, r.Link, err, want)
		}
	}
	from := control.Flow{Dst: netip.MustParseAddr("203.0.113.1"), Src: p.A.Addr4}
	if r, err := j.Route(from); err != nil || r.Link != p.A.Index {
		t.Errorf("from the kernel's address by %d, %v", r.Link, err)
	}
	if !slices.ContainsFunc(j.Links(), func(l control.Link) bool { return l.Index == link }) {
		t.Errorf("the links are %v", j.Links())
	}
	if _, ok := j.Local(netip.MustParseAddr("10.0.0.1")); !ok {
		t.Error("the address is not ours")
	}
}
