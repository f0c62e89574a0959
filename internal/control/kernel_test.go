package control

import (
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/lab"
	"github.com/onload-go/onload/internal/netns"
)

func addr(s string) netip.Addr     { return netip.MustParseAddr(s) }
func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

func newKernel(t *testing.T, ns *lab.NS) *Kernel {
	t.Helper()
	k, err := NewKernel(ns.Handle(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { k.Close() })
	return k
}

// eventually waits until ok holds.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within a minute: %s", what)
		}
	}
}

// recorder collects changes: all, or after when those of one kind.
type recorder struct {
	mu    sync.Mutex
	all   []Change
	takes func(Change) bool // nil: all
}

func record(t *testing.T, n Network) *recorder {
	r := new(recorder)
	cancel := n.Subscribe(func(c Change) {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.takes == nil || r.takes(c) {
			r.all = append(r.all, c)
		}
	})
	t.Cleanup(cancel)
	return r
}

func (r *recorder) has(c Change) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Contains(r.all, c)
}

func (r *recorder) reset() {
	r.mu.Lock()
	r.all = nil
	r.mu.Unlock()
}

// when forgets what was collected, and collects c from now on where holds is true as
// it is told.
func (r *recorder) when(c Change, holds func() bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all, r.takes = nil, func(got Change) bool { return got == c && holds() }
}

// want waits for a change and for the generation to have moved.
func (r *recorder) want(t *testing.T, c Change) {
	t.Helper()
	eventually(t, fmt.Sprint(c), func() bool { return r.has(c) })
}

func TestSnapshot(t *testing.T) {
	p := lab.NewPair(t, lab.Options{MTU: 3000})
	k := newKernel(t, p.A)
	l, ok := k.Link(p.A.Index)
	if !ok || l.Name != p.A.If || l.MAC != p.A.MAC || l.MTU != 3000 || !l.Up || !l.Carrier || l.Kind != "veth" || l.Driver != "veth" || l.Loopback || l.Parent != 0 {
		t.Errorf("link %+v", l)
	}
	for _, a := range []netip.Prefix{netip.PrefixFrom(p.A.Addr4, 24), netip.PrefixFrom(p.A.Addr6, 64), netip.PrefixFrom(p.A.LinkLocal, 64)} {
		if !slices.Contains(l.Addrs, a) {
			t.Errorf("%v is missing in %v", a, l.Addrs)
		}
	}
	if all := k.Links(); len(all) != 2 || !all[0].Loopback {
		t.Errorf("links %+v", all)
	}
	for _, c := range []struct {
		addr netip.Addr
		link int
		ok   bool
	}{
		{p.A.Addr4, p.A.Index, true}, {p.A.Addr6, p.A.Index, true}, {p.A.Zoned(), p.A.Index, true},
		{addr("127.9.9.9"), 1, true}, {addr("::1"), 1, true},
		{p.B.Addr4, 0, false}, {p.B.Addr6, 0, false}, {p.A.LinkLocal.WithZone("nosuch"), 0, false}, {p.A.LinkLocal.WithZone("lo"), 0, false},
	} {
		if link, ok := k.Local(c.addr); link != c.link || ok != c.ok {
			t.Errorf("Local(%v) = %d, %v", c.addr, link, ok)
		}
	}
	r, err := k.Route(Flow{Dst: p.B.Addr4})
	if want := (Route{Link: p.A.Index, Src: p.A.Addr4, NextHop: p.B.Addr4, MTU: 3000}); err != nil || r != want {
		t.Errorf("route %+v, %v", r, err)
	}
	r, err = k.Route(Flow{Dst: p.B.LinkLocal.WithZone(p.A.If)})
	if want := (Route{Link: p.A.Index, Src: p.A.LinkLocal, NextHop: p.B.LinkLocal, MTU: 3000}); err != nil || r != want {
		t.Errorf("link-local route %+v, %v", r, err)
	}
	if _, err := k.Route(Flow{Dst: p.B.LinkLocal}); err != syscall.EINVAL {
		t.Errorf("link-local without zone: %v", err)
	}
	if r, err := k.Route(Flow{Dst: p.A.Addr6}); err != nil || !r.Local || r.Src != p.A.Addr6 {
		t.Errorf("route to ourselves %+v, %v", r, err)
	}
	if _, err := k.Route(Flow{Dst: p.B.Addr4, Src: addr("192.0.2.77")}); err != syscall.EADDRNOTAVAIL {
		t.Errorf("foreign source: %v", err)
	}
	if _, err := k.Route(Flow{Dst: addr("203.0.113.1")}); err != syscall.ENETUNREACH {
		t.Errorf("no route: %v", err)
	}
}

func TestChanges(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	k := newKernel(t, p.A)
	r := record(t, k)
	link := p.A.Index
	gone := func(dst netip.Addr) func() bool {
		return func() bool { _, err := k.Route(Flow{Dst: dst}); return err == syscall.ENETUNREACH }
	}
	// step wants the change to be told, and that whoever hears of it finds a snapshot
	// in which it holds. A link changes several times when it comes up.
	step := func(name string, do func() error, change Change, holds func() bool) {
		t.Helper()
		gen := k.Gen()
		r.when(change, holds)
		if err := do(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		r.want(t, change)
		if k.Gen() == gen {
			t.Errorf("%s: Gen stands still", name)
		}
	}
	local := func(a netip.Addr, want bool) func() bool {
		return func() bool { on, ok := k.Local(a); return ok == want && (!ok || on == link) }
	}
	is := func(ok func(Link) bool) func() bool {
		return func() bool { l, there := k.Link(link); return there && ok(l) }
	}
	always := func() bool { return true }
	for _, a := range []netip.Prefix{prefix("10.1.2.3/24"), prefix("fd01::3/64")} {
		next := a.Addr().Next()
		step("add", func() error { return p.A.AddAddr(a) }, Change{AddrAdded, link, a.Addr()}, local(a.Addr(), true))
		eventually(t, "route over the new address", func() bool { // the kernel makes it after the address
			got, err := k.Route(Flow{Dst: next})
			return err == nil && got.Src == a.Addr()
		})
		step("remove", func() error { return p.A.DelAddr(a) }, Change{AddrRemoved, link, a.Addr()}, local(a.Addr(), false))
		eventually(t, "route gone with the address", gone(next))
	}
	step("mtu", func() error { return p.A.SetMTU(1400) }, Change{Kind: LinkChanged, Link: link}, is(func(l Link) bool { return l.MTU == 1400 }))
	if got, _ := k.Route(Flow{Dst: p.B.Addr4}); got.MTU != 1400 {
		t.Errorf("MTU %d", got.MTU)
	}
	far := prefix("10.200.0.0/16")
	step("route", func() error { return p.A.AddRoute(far, p.B.Addr4) }, Change{Kind: RouteChanged}, always)
	eventually(t, "gateway route", func() bool {
		got, err := k.Route(Flow{Dst: addr("10.200.1.1")})
		return err == nil && got.NextHop == p.B.Addr4 && got.Src == p.A.Addr4
	})
	step("no route", func() error { return p.A.DelRoute(far, p.B.Addr4) }, Change{Kind: RouteChanged}, always)
	eventually(t, "route gone", gone(addr("10.200.1.1")))
	step("down", p.A.SetDown, Change{Kind: LinkChanged, Link: link}, is(func(l Link) bool { return !l.Up }))
	for _, dst := range []netip.Addr{p.B.Addr4, p.B.Addr6} {
		if got, err := k.Route(Flow{Dst: dst}); err != syscall.ENETUNREACH {
			t.Errorf("route over a link that is down: %+v, %v", got, err)
		}
	}
	step("up", p.A.SetUp, Change{Kind: LinkChanged, Link: link}, is(func(l Link) bool { return l.Up && l.Carrier }))
	eventually(t, "route back", func() bool { _, err := k.Route(Flow{Dst: p.B.Addr4}); return err == nil })
	step("carrier", p.B.SetDown, Change{Kind: LinkChanged, Link: link}, is(func(l Link) bool { return l.Up && !l.Carrier }))
	step("delete", p.A.Delete, Change{Kind: LinkGone, Link: link}, func() bool { _, ok := k.Link(link); return !ok })
}

func TestNeighbors(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	k := newKernel(t, p.A)
	r := record(t, k)
	link := p.A.Index
	for _, a := range []netip.Addr{p.B.Addr4, p.B.Addr6, p.B.LinkLocal} {
		if _, ok := k.Neighbor(link, a); ok {
			t.Fatalf("%v is known before it was asked for", a)
		}
		gen := k.Gen()
		k.Resolve(link, a)
		r.want(t, Change{NeighborUp, link, a})
		if mac, ok := k.Neighbor(link, a.WithZone("")); !ok || mac != p.B.MAC {
			t.Errorf("%v is %x, %v", a, mac, ok)
		}
		if k.Gen() == gen {
			t.Error("Gen stands still")
		}
		// Known already: the answer comes all the same.
		r.reset()
		k.Resolve(link, a)
		r.want(t, Change{NeighborUp, link, a})
	}

	// A permanent entry stays what it is.
	fixed := addr("10.77.0.9")
	if err := p.A.AddNeighbor(fixed, [6]byte{2, 2, 2, 2, 2, 2}); err != nil {
		t.Fatal(err)
	}
	r.want(t, Change{NeighborUp, link, fixed})
	r.reset()
	k.Resolve(link, fixed)
	r.want(t, Change{NeighborUp, link, fixed})
	if s := state(t, p.A, fixed); s != netlink.NUD_PERMANENT {
		t.Errorf("permanent entry has become %#x", s)
	}
	if err := p.A.DelNeighbor(fixed); err != nil {
		t.Fatal(err)
	}
	r.want(t, Change{NeighborFailed, link, fixed})

	// Another MAC under the same address is news.
	mac := [6]byte{2, 9, 9, 9, 9, 9}
	if err := p.A.AddNeighbor(p.B.Addr4, mac); err != nil {
		t.Fatal(err)
	}
	eventually(t, "new MAC", func() bool { m, ok := k.Neighbor(link, p.B.Addr4); return ok && m == mac })

	// A link that does not exist, or that takes no neighbours.
	r.reset()
	k.Resolve(4711, p.B.Addr4)
	r.want(t, Change{NeighborFailed, 4711, p.B.Addr4})
}

func TestNeighborFailure(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	k := newKernel(t, p.A)
	r := record(t, k)
	link := p.A.Index
	absent := []netip.Addr{addr("10.77.0.99"), addr("fd77::99")}
	start := time.Now()
	for _, a := range absent {
		k.Resolve(link, a)
		k.Resolve(link, a)
	}
	for _, a := range absent {
		r.want(t, Change{NeighborFailed, link, a})
		if _, ok := k.Neighbor(link, a); ok {
			t.Errorf("%v is known", a)
		}
	}
	if d := time.Since(start); d < 1500*time.Millisecond || d > time.Minute {
		t.Errorf("failed after %v, the kernel takes about 3 s", d)
	}

	// The same once more, and this time somebody answers.
	r.reset()
	if err := p.B.AddAddr(netip.PrefixFrom(absent[0], 24)); err != nil {
		t.Fatal(err)
	}
	k.Resolve(link, absent[0])
	r.want(t, Change{NeighborUp, link, absent[0]})

	// The link goes down while a resolution is under way.
	r.reset()
	k.Resolve(link, addr("10.77.0.98"))
	eventually(t, "incomplete entry", func() bool { return state(t, p.A, addr("10.77.0.98")) == netlink.NUD_INCOMPLETE })
	if err := p.A.SetDown(); err != nil {
		t.Fatal(err)
	}
	r.want(t, Change{NeighborFailed, link, addr("10.77.0.98")})
	r.want(t, Change{NeighborFailed, link, absent[0]})
}

// state is the kernel's own idea of a neighbour.
func state(t *testing.T, ns *lab.NS, a netip.Addr) int {
	t.Helper()
	list, err := ns.Netlink().NeighList(ns.Index, netlink.FAMILY_ALL)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range list {
		if n.IP.Equal(a.AsSlice()) {
			return n.State
		}
	}
	return 0
}

// An entry in use is probed when it is stale, and stays.
func TestConfirm(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	k := newKernel(t, p.A)
	link := p.A.Index
	stale := &netlink.Neigh{LinkIndex: link, State: netlink.NUD_STALE, IP: p.B.Addr4.AsSlice(), HardwareAddr: p.B.MAC[:]}
	if err := p.A.Netlink().NeighSet(stale); err != nil {
		t.Fatal(err)
	}
	eventually(t, "stale entry is usable", func() bool { _, ok := k.Neighbor(link, p.B.Addr4); return ok })
	gen := k.Gen()
	for range 1000 {
		k.Confirm(link, p.B.Addr4)
	}
	eventually(t, "probing", func() bool {
		s := state(t, p.A, p.B.Addr4)
		return s == netlink.NUD_DELAY || s == netlink.NUD_PROBE || s == netlink.NUD_REACHABLE
	})
	if k.Gen() != gen {
		t.Error("a state without meaning for us moved Gen")
	}
	// Confirm does not ask for an unknown neighbour.
	k.Confirm(link, addr("10.77.0.50"))
	time.Sleep(20 * time.Millisecond)
	if s := state(t, p.A, addr("10.77.0.50")); s != 0 {
		t.Errorf("Confirm made an entry in state %#x", s)
	}
}

func TestOverrun(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	core, logs := observer.New(zap.InfoLevel)
	k, err := NewKernel(p.A.Handle(), zap.New(core))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { k.Close() })
	r := record(t, k)
	// Hold the mirror's goroutine while more happens than the socket can queue.
	hold := make(chan struct{})
	held := make(chan struct{})
	var once sync.Once
	cancel := k.Subscribe(func(Change) { once.Do(func() { close(held); <-hold }) })
	defer cancel()
	if err := p.A.AddAddr(prefix("10.3.0.1/24")); err != nil {
		t.Fatal(err)
	}
	<-held
	if err := k.monitor.shrink(); err != nil {
		t.Fatal(err)
	}
	for i := range 200 {
		a := netip.AddrFrom4([4]byte{10, 77, 0, byte(i + 3)})
		if err := p.A.AddNeighbor(a, p.B.MAC); err != nil {
			t.Fatal(err)
		}
	}
	last := netip.AddrFrom4([4]byte{10, 77, 0, 202})
	close(hold)
	r.want(t, Change{NeighborUp, p.A.Index, last})
	if mac, ok := k.Neighbor(p.A.Index, last); !ok || mac != p.B.MAC {
		t.Error("neighbour is missing after an overrun")
	}
	if logs.FilterMessageSnippet("overrun").Len() == 0 {
		t.Error("there was no overrun")
	}
}

// shrink makes the socket overrun soon.
func (m *monitor) shrink() (err error) {
	m.raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 1) })
	return err
}

func TestNothingLeft(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	p.A.Do(func() error { return nil })
	count := func() (fds, goroutines int) {
		e, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(e), runtime.NumGoroutine()
	}
	fds, gos := count()
	for range 10 {
		k, err := NewKernel(p.A.Handle(), nil)
		if err != nil {
			t.Fatal(err)
		}
		ports, err := NewKernelPorts(p.A.Handle())
		if err != nil {
			t.Fatal(err)
		}
		k.Resolve(p.A.Index, addr("10.77.0.99"))
		h, err := ports.Hold(unix.IPPROTO_TCP, netip.AddrPort{})
		if err != nil {
			t.Fatal(err)
		}
		h.Close()
		h.Close()
		ports.Close()
		k.Close()
		k.Close()
		k.Resolve(p.A.Index, p.B.Addr4)
		if _, ok := k.Link(p.A.Index); !ok {
			t.Fatal("the last snapshot is gone")
		}
	}
	eventually(t, "descriptors and goroutines gone", func() bool {
		f, g := count()
		return f <= fds && g <= gos
	})
}

// The zero Handle is the caller's namespace.
func TestOwnNamespace(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	err := p.A.Do(func() error {
		k, err := NewKernel(netns.Handle{}, nil)
		if err != nil {
			return err
		}
		defer k.Close()
		if _, ok := k.Local(p.A.Addr4); !ok {
			return fmt.Errorf("not the namespace of the caller")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
