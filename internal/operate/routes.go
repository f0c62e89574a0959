package operate

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/inspect/ask"
	"github.com/onload-go/onload/internal/inspect/report"
)

// RouteList is what `onload routes --json` prints.
type RouteList struct {
	Processes []ProcessRoutes `json:"processes"`
}

// ProcessRoutes are the routes that a process uses.
type ProcessRoutes struct {
	PID     int             `json:"pid"`
	Program string          `json:"program"`
	Routes  []ComparedRoute `json:"routes"`
}

// ComparedRoute is a route in use beside the kernel's answer of now.
type ComparedRoute struct {
	report.Route
	KernelSays  *KernelRoute `json:"kernel_says,omitempty"` // nil: it was not asked, or refuses
	KernelError string       `json:"kernel_error,omitempty"`
	Differs     []string     `json:"differs"` // in what the two do
}

// KernelRoute is the kernel's answer (RTM_GETROUTE, RTM_GETNEIGH).
type KernelRoute struct {
	Index   int    `json:"index"`
	NextHop string `json:"next_hop"`
	MTU     int    `json:"mtu"`
	MAC     string `json:"mac,omitempty"`
}

func routesCommand() *cobra.Command {
	return command("routes", "compare the routes in use with the kernel's", `Show the destinations of the stacks' sockets with route, neighbour and path MTU, beside the
kernel's answer of now (RTM_GETROUTE). DIFFERS names what is not the same; a route that has
just changed differs for a moment. Routes of an interface that no kernel stands behind are
not compared.`, routeList, printRoutes)
}

func routeList(ps []*ask.Process) (l RouteList, err error) {
	for _, p := range ps {
		one := ProcessRoutes{PID: p.PID, Program: programOf(p.PID), Routes: []ComparedRoute{}}
		netNS := ""
		if s, err := ask.One[report.Status](p, report.KindStatus, nil); err == nil && len(s.Engines) > 0 {
			netNS = s.Engines[0].NetNS
		}
		err := ask.Each(p, report.KindRoutes, nil, func(some *report.SomeRoutes) error {
			for _, r := range some.Routes {
				one.Routes = append(one.Routes, ComparedRoute{Route: r, Differs: []string{}})
			}
			return nil
		})
		if err != nil {
			return l, err
		}
		slices.SortFunc(one.Routes, func(a, b ComparedRoute) int {
			return strings.Compare(a.Remote+" "+a.Local+a.Proto, b.Remote+" "+b.Local+b.Proto)
		})
		compareAll := func() error {
			for i := range one.Routes {
				one.Routes[i].compare()
			}
			return nil
		}
		if netNS != "" {
			err = inNetNSAt(procFile(p.PID, "root")+netNS, compareAll)
		} else {
			err = inNetNS(p.PID, compareAll)
		}
		if err != nil {
			return l, fmt.Errorf("process %d: the kernel is not asked: %w", p.PID, err)
		}
		l.Processes = append(l.Processes, one)
	}
	return l, nil
}

// compare asks the kernel, in this thread's network namespace.
func (r *ComparedRoute) compare() {
	remote, err := netip.ParseAddr(r.Remote)
	if err != nil || r.Own {
		return
	}
	o := netlink.RouteGetOptions{}
	if local, err := netip.ParseAddr(r.Local); err == nil {
		o.SrcAddr = local.AsSlice()
	}
	got, err := netlink.RouteGetWithOptions(remote.WithZone("").AsSlice(), &o)
	if err != nil || len(got) == 0 {
		r.KernelError = "no route"
		if err != nil {
			r.KernelError = err.Error()
		}
		if r.Error == "" {
			r.Differs = append(r.Differs, "there is none")
		}
		return
	}
	k := &KernelRoute{Index: got[0].LinkIndex, NextHop: r.Remote, MTU: got[0].MTU}
	switch {
	case got[0].Gw != nil:
		k.NextHop = ipText(got[0].Gw)
	case got[0].Via != nil:
		if via, ok := got[0].Via.(*netlink.Via); ok {
			k.NextHop = ipText(via.Addr)
		}
	}
	if k.MTU == 0 {
		if l, err := netlink.LinkByIndex(k.Index); err == nil {
			k.MTU = l.Attrs().MTU
		}
	}
	k.MAC = neighbour(k)
	r.KernelSays = k
	for _, d := range []struct {
		name string
		is   bool
	}{
		{"interface", k.Index != r.Index},
		{"next hop", k.NextHop != r.NextHop},
		{"MTU", k.MTU != r.MTU && k.MTU != r.PathMTU},
		{"MAC", k.MAC != "" && r.MAC != "" && k.MAC != r.MAC},
		{"there is one", r.Error != ""},
	} {
		if d.is {
			r.Differs = append(r.Differs, d.name)
		}
	}
}

func ipText(a net.IP) string {
	ip, _ := netip.AddrFromSlice(a)
	return ip.Unmap().String()
}

// neighbour is the link-layer address that the kernel has for a next hop, or "".
func neighbour(k *KernelRoute) string {
	hop, err := netip.ParseAddr(k.NextHop)
	if err != nil {
		return ""
	}
	family := unix.AF_INET
	if hop.Is6() {
		family = unix.AF_INET6
	}
	all, err := netlink.NeighList(k.Index, family)
	if err != nil {
		return ""
	}
	for _, n := range all {
		if ip, ok := netip.AddrFromSlice(n.IP); ok && ip.Unmap() == hop.WithZone("") && n.State&(unix.NUD_INCOMPLETE|unix.NUD_FAILED) == 0 {
			return n.HardwareAddr.String()
		}
	}
	return ""
}

func printRoutes(out io.Writer, l RouteList) error {
	w := table(out)
	row(w, "PID", "PROTO", "LOCAL", "REMOTE", "INTERFACE", "NEXT HOP", "MAC", "MTU", "USERS", "DIFFERS")
	for _, p := range l.Processes {
		for i := range p.Routes {
			r := &p.Routes[i]
			name := orDash(r.Interface)
			if r.Kernel {
				name += "!"
			}
			mtu := fmt.Sprint(r.MTU)
			if r.PathMTU > 0 {
				mtu = fmt.Sprintf("%d (%d)", r.PathMTU, r.MTU)
			}
			hop := r.NextHop
			if r.Error != "" {
				hop = r.Error
			}
			differs := strings.Join(r.Differs, ", ")
			if k := r.KernelSays; k != nil && differs != "" {
				differs += fmt.Sprintf(": the kernel says interface %d, next hop %s, MTU %d, MAC %s", k.Index, k.NextHop, k.MTU, orDash(k.MAC))
			}
			row(w, p.PID, r.Proto, orDash(r.Local), r.Remote, name, orDash(hop), orDash(r.MAC), mtu, r.Users, orDash(differs))
		}
	}
	return w.Flush()
}
