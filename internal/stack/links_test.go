package stack

import (
	"bytes"
	"cmp"
	"errors"
	"io"
	"net/netip"
	"syscall"
	"testing"

	"github.com/onload-go/onload/driver/sim"
	"github.com/onload-go/onload/internal/control"
	"github.com/onload-go/onload/ring"
)

// Service addresses, which belong to no link that packets come by.
var (
	serviceA = netip.MustParseAddr("10.9.0.1")
	serviceB = netip.MustParseAddr("10.9.0.2")
)

// twoLinked is a host with two links to another, and a service address.
type twoLinked struct {
	*Stack
	net  *control.Static
	devs []*sim.Device
	peer netip.Addr
}

// lead has the host's route to the other's service address lead by a link.
func (h *twoLinked) lead(link int) {
	h.leadVia(link, netip.Addr{})
}

// leadVia is lead with a gateway. There is a route at every moment: the first of equals
// counts.
func (h *twoLinked) leadVia(link int, gateway netip.Addr) {
	h.net.SetRoutes(link, []control.StaticRoute{{Dst: netip.PrefixFrom(h.peer, 32), Src: h.addr(), Gateway: gateway}})
	for _, l := range h.net.Links() {
		if l.Index != link {
			h.net.SetRoutes(l.Index, nil)
		}
	}
}

func (h *twoLinked) addr() netip.Addr {
	if h.peer == serviceB {
		return serviceA
	}
	return serviceB
}

// newTwoLinked makes two hosts with links 1 and 2 between them, of those MTUs. Edits
// change their configurations.
func newTwoLinked(t *testing.T, mtu1, mtu2 int, edits ...func(*Config)) (a, b *twoLinked) {
	t.Helper()
	return newTwoLinkedOver(t, [2]sim.Config{{MTU: mtu1}, {MTU: mtu2}}, [2]sim.LinkConfig{}, edits...)
}

// newTwoLinkedOver is newTwoLinked with NICs of those kinds at both ends of the links.
func newTwoLinkedOver(t *testing.T, nics [2]sim.Config, links [2]sim.LinkConfig, edits ...func(*Config)) (a, b *twoLinked) {
	t.Helper()
	hosts := [2]*twoLinked{{peer: serviceB}, {peer: serviceA}}
	var cfg [2]Config
	for i, h := range hosts {
		arena, err := ring.NewArena(1<<13, cmp.Or(nics[0].FrameSize, 2048))
		if err != nil {
			t.Fatal(err)
		}
		h.net = control.NewStatic(control.Link{Index: 9, Name: "lo", MTU: 65535, Up: true, Addrs: []netip.Prefix{netip.PrefixFrom(h.addr(), 32)}})
		cfg[i] = Config{Arena: arena, Net: h.net, Close: arena.Close}
	}
	for n, c := range nics {
		link := n + 1
		nic := func(i int) sim.Config {
			c.Arena, c.FrameSize = cfg[i].Arena, cfg[i].Arena.FrameSize()
			return c
		}
		da, db, err := sim.New(nic(0), nic(1), links[n])
		if err != nil {
			t.Fatal(err)
		}
		for i, d := range []*sim.Device{da, db} {
			h := hosts[i]
			mac := func(i int) [6]byte { return [6]byte{2, 0, 0, 0, byte(i), byte(link)} }
			cfg[i].Over(link, d)
			h.devs = append(h.devs, d)
			h.net.SetLink(control.Link{Index: link, Name: d.Name(), MAC: mac(i), MTU: c.MTU, Up: true})
			h.net.SetNeighbor(link, h.peer, mac(1-i))
		}
	}
	for i, h := range hosts {
		h.lead(1)
		for _, edit := range edits {
			edit(&cfg[i])
		}
		s, err := New(cfg[i])
		if err != nil {
			t.Fatal(err)
		}
		h.Stack = s
		t.Cleanup(func() { _ = s.Close() })
	}
	return hosts[0], hosts[1]
}

// sent returns how many packets left by each link.
func (h *twoLinked) sent() (n [2]uint64) {
	for i, d := range h.devs {
		for _, q := range d.Queues() {
			n[i] += q.Stats().TxPackets
		}
	}
	return n
}

// TestTwoLinksAsymmetric: packets come by one link and are answered by the other,
// if the routes lead so: connections either way, and datagrams.
func TestTwoLinksAsymmetric(t *testing.T) {
	a, b := newTwoLinked(t, 1500, 1500)
	b.lead(2)
	for _, hosts := range [][2]*twoLinked{{a, b}, {b, a}} {
		c, d := connect(t, hosts[0].Stack, hosts[1].Stack, hosts[1].addr())
		exchange(t, c, d, 100_000)
		exchange(t, d, c, 100_000)
	}
	if n, m := a.sent(), b.sent(); n[0] == 0 || n[1] != 0 || m[0] != 0 || m[1] == 0 {
		t.Errorf("packets by each link: %v and %v; want those of the first link, and of the second", n, m)
	}
}

// exchange sends n bytes from c to d.
func exchange(t *testing.T, c io.Writer, d io.Reader, n int) {
	t.Helper()
	data := bytes.Repeat([]byte("two links"), n/9+1)[:n]
	done := make(chan error, 1)
	go func() {
		_, err := c.Write(data)
		done <- err
	}()
	got := make([]byte, n)
	if _, err := io.ReadFull(d, got); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, data) {
		t.Error("other bytes arrived")
	}
}

// TestTwoLinksMove: connections move to the link that the route leads by, and
// take its MTU.
func TestTwoLinksMove(t *testing.T) {
	a, b := newTwoLinked(t, 9000, 1500)
	c, d := connect(t, a.Stack, b.Stack, serviceB)
	exchange(t, c, d, 500_000)
	a.lead(2)
	b.lead(2)
	before := a.sent()
	exchange(t, c, d, 500_000)
	exchange(t, d, c, 500_000)
	after := a.sent()
	if after[0] != before[0] || after[1] == before[1] {
		t.Errorf("packets by each link before and after the move: %v, %v", before, after)
	}
	if i, err := c.Info(); err != nil || i.SendMSS > 1460 {
		t.Errorf("segments of %d bytes on a link of 1500 (%v)", i.SendMSS, err)
	}
	a.lead(1)
	b.lead(1)
	exchange(t, c, d, 500_000)
	if n := a.sent(); n[0] == after[0] {
		t.Error("nothing left by the first link after the route led there again")
	}
}

// TestTwoLinksOneBreaks: a device that fails takes only what the routes lead by
// its link.
func TestTwoLinksOneBreaks(t *testing.T) {
	for _, gone := range []bool{false, true} {
		a, b := newTwoLinked(t, 1500, 1500)
		c, d := connect(t, a.Stack, b.Stack, serviceB)
		exchange(t, c, d, 50_000)
		if gone {
			b.lead(2)
			a.net.AddRoute(control.StaticRoute{Dst: netip.PrefixFrom(serviceB, 32), Link: 2, Src: serviceA})
			a.net.DelLink(1)
			if err := a.LinkErr(1); !errors.Is(err, syscall.ENODEV) {
				t.Errorf("the error of the link that is gone: %v", err)
			}
			exchange(t, c, d, 50_000) // the other route takes over
		} else {
			a.devs[0].Break(errors.New("broken"))
			if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.EIO) {
				t.Errorf("a connection by the broken link: %v", err)
			}
			a.lead(2)
			b.lead(2)
		}
		if err := a.Err(); err != nil {
			t.Errorf("the stack is broken: %v", err)
		}
		c2, d2 := connect(t, a.Stack, b.Stack, serviceB)
		exchange(t, c2, d2, 50_000)
		exchange(t, d2, c2, 50_000)
	}
}
