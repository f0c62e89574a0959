package routediff

import (
	"fmt"
	"os"
	"slices"
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
		// The last one shows that it has come so far: a statement that it cannot read
		// ends it.
		c.Stdin = strings.NewReader(strings.Join(batch, "\n") + "\nlink show dev lo\n")
		batch = nil
		var messages strings.Builder
		c.Stderr = &messages
		out, err := c.Output()
		if c.ProcessState == nil {
			return fmt.Errorf("ip: %w", err)
		}
		if len(out) == 0 { // its status is that some statement failed
			return fmt.Errorf("ip: %s", messages.String())
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
		if text, ok := strings.CutPrefix(line, "router "); ok {
			if err := flush(); err != nil {
				return err
			}
			if err := w.advertise(text); err != nil {
				return err
			}
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

// settle waits until the host has noticed which links carry, and takes packets to its
// addresses. The kernel looks once a second only, after the first time, and a busy
// machine takes its time with IPv6 addresses.
func (w *world) settle() error {
	for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		settled, err := w.settled()
		if settled || err != nil {
			return err
		}
		if time.Now().After(end) {
			return fmt.Errorf("the host has not noticed which links carry, or which addresses it has")
		}
	}
}

func (w *world) settled() (bool, error) {
	nl := w.host.Netlink()
	there, err := w.peer.Netlink().LinkList()
	if err != nil {
		return false, err
	}
	here, err := nl.LinkList()
	if err != nil {
		return false, err
	}
	routes, err := nl.RouteListFiltered(unix.AF_INET6, &netlink.Route{Table: unix.RT_TABLE_LOCAL}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return false, err
	}
	for _, l := range here {
		a := l.Attrs()
		i := slices.IndexFunc(there, func(l netlink.Link) bool { return l.Attrs().Name == a.Name })
		if i < 0 || a.Name == "lo" || a.RawFlags&unix.IFF_UP == 0 {
			continue
		}
		carries := there[i].Attrs().RawFlags&unix.IFF_UP != 0
		if carries != (a.OperState == netlink.OperUp) {
			return false, nil
		}
		if !carries {
			continue
		}
		addrs, err := nl.AddrList(l, unix.AF_INET6)
		if err != nil {
			return false, err
		}
		for _, addr := range addrs {
			// Without its route packets to it are dropped (addrconf_dad_completed).
			if !slices.ContainsFunc(routes, func(r netlink.Route) bool { return r.Dst != nil && r.Dst.IP.Equal(addr.IP) }) {
				return false, nil
			}
		}
	}
	return true, nil
}

// engine takes the links that are to be accelerated. Its congestion control is the
// host's, where it has that.
func (w *world) engine() (*onload.Engine, error) {
	var name []byte
	err := w.host.Do(func() (err error) {
		name, err = os.ReadFile("/proc/sys/net/ipv4/tcp_congestion_control")
		return err
	})
	if err != nil {
		return nil, err
	}
	return onload.New(onload.Config{
		Interfaces: w.names, NetNS: w.host.Path, Fallback: true, Logger: zap.NewNop(), Frames: 512, RingSize: 128,
		Congestion: ourName(strings.TrimSpace(string(name))),
	})
}

// ourName is the name that we have for a congestion control of the kernel's.
func ourName(kernels string) string {
	switch kernels {
	case "reno":
		return "newreno"
	case "bbr":
		return kernels
	}
	return "cubic"
}
