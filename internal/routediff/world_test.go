package routediff

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/lab"
	onload "github.com/onload-go/onload/net"
)

// world is the host of a scenario, and the other ends of its links. Nobody there
// answers: what comes is looked at only.
type world struct {
	host, peer *lab.NS
	names      []string // of the links that are accelerated
	wire       *wire
}

// hosts is the number of neighbours on each link: .2, .3 and so on.
const hosts = 4

// newWorld makes the links, and does what the scenario sets up.
func newWorld(s *scenario) (w *world, err error) {
	w = new(world)
	defer func() {
		if err != nil {
			w.close()
			w = nil
		}
	}()
	if w.host, err = lab.NewNS("host"); err != nil {
		return w, err
	}
	if w.peer, err = lab.NewNS("peer"); err != nil {
		return w, err
	}
	// Nothing of one try may be remembered in the next.
	if err := w.host.Sysctl("net.ipv4.tcp_no_metrics_save", "1"); err != nil {
		return w, err
	}
	// Multipath routes then choose as on any other day (Linux 6.11).
	_ = w.host.Sysctl("net.ipv4.fib_multipath_hash_seed", "13")
	for i, o := range s.links {
		l, _, err := lab.Veth(w.host, w.peer, lab.Options{MTU: o.mtu, NoAddr: true})
		if err != nil {
			return w, err
		}
		if o.accelerated {
			w.names = append(w.names, l.If)
		}
		if err := addNeighbors(l, i); err != nil {
			return w, err
		}
	}
	if w.wire, err = newWire(w.peer); err != nil {
		return w, err
	}
	return w, w.setUp(s.setup)
}

func (w *world) close() {
	if w.wire != nil {
		w.wire.close()
	}
	for _, ns := range []*lab.NS{w.host, w.peer} {
		if ns != nil {
			_ = ns.Close()
		}
	}
}

// addNeighbors has all that can be a next hop on the n-th link known for good. Its
// MAC address names it and the link.
func addNeighbors(l *lab.Link, n int) error {
	var all []netip.Addr
	for net := range 4 {
		for h := 2; h < 2+hosts; h++ {
			all = append(all, neighbor4(net, h), neighbor6(net, h))
		}
	}
	for h := 2; h < 2+hosts; h++ {
		all = append(all, linkLocal(h))
	}
	for i := range remotes {
		all = append(all, remote4(i), remote6(i))
	}
	for i, a := range all {
		if err := l.AddNeighbor(a, [6]byte{0x02, 0xaa, byte(n), 0, 0, byte(i)}); err != nil {
			return err
		}
	}
	return nil
}

func neighbor4(net, host int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, 0, byte(net), byte(host)})
}

func neighbor6(net, host int) netip.Addr {
	return netip.AddrFrom16([16]byte{0: 0xfd, 7: byte(net), 15: byte(host)})
}

func linkLocal(host int) netip.Addr {
	return netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 15: byte(host)})
}

// remotes is the number of destinations beyond the links, of each family.
const remotes = 16

func remote4(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{20, 0, byte(i / 4), byte(1 + i%4)})
}

func remote6(i int) netip.Addr {
	return netip.AddrFrom16([16]byte{0: 0x26, 7: byte(i / 4), 15: byte(1 + i%4)})
}

func (w *world) sysctl(ns *lab.NS, setting string) error {
	key, value, _ := strings.Cut(setting, "=")
	return ns.Sysctl(key, value)
}

// setUp runs the statements. ip(8) runs as many as follow each other in one
// process; netlink libraries know neither nexthop objects nor all that rules may
// ask for.
func (w *world) setUp(setup []string) error {
	var batch []string
	var kind string
	flush := func() error {
		if len(batch) == 0 {
			return nil
		}
		ns, args := w.host, []string{"-force", "-batch", "-"}
		if strings.HasPrefix(kind, "peer") {
			ns = w.peer
		}
		if strings.HasSuffix(kind, "-6") {
			args = append([]string{"-6"}, args...)
		}
		c := ns.Command("ip", args...)
		c.Stdin = strings.NewReader(strings.Join(batch, "\n") + "\n")
		batch = nil
		// Its status is that some statement failed.
		if err := c.Run(); err != nil && c.ProcessState == nil {
			return fmt.Errorf("ip: %w", err)
		}
		return w.settle()
	}
	for _, line := range setup {
		if setting, ok := strings.CutPrefix(line, "sysctl "); ok {
			if err := flush(); err != nil {
				return err
			}
			_ = w.sysctl(w.host, setting) // of a link that is left out
			continue
		}
		words := strings.Fields(line)
		n := 1
		if words[0] == "peer" {
			n++
		}
		if len(words) > n && words[n] == "-6" {
			n++
		}
		if k := strings.Join(words[:n], " "); k != kind {
			if err := flush(); err != nil {
				return err
			}
			kind = k
		}
		batch = append(batch, strings.Join(words[n:], " "))
	}
	return flush()
}

// settle waits until the host has noticed which links carry. The kernel looks once a
// second only, after the first time.
func (w *world) settle() error {
	other := map[string]netlink.Link{}
	links, err := w.peer.Netlink().LinkList()
	if err != nil {
		return err
	}
	for _, l := range links {
		other[l.Attrs().Name] = l
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		links, err := w.host.Netlink().LinkList()
		if err != nil {
			return err
		}
		settled := true
		for _, l := range links {
			p, a := other[l.Attrs().Name], l.Attrs()
			if p == nil || a.Name == "lo" || a.RawFlags&unix.IFF_UP == 0 {
				continue
			}
			carries := p.Attrs().RawFlags&unix.IFF_UP != 0
			settled = settled && carries == (a.OperState == netlink.OperUp)
		}
		if settled {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("the host has not noticed which links carry")
		}
	}
}

// engine takes the links that are to be accelerated.
func (w *world) engine() (*onload.Engine, error) {
	return onload.New(onload.Config{
		Interfaces: w.names, NetNS: w.host.Path, Fallback: true, Logger: zap.NewNop(), Frames: 512, RingSize: 128,
	})
}
