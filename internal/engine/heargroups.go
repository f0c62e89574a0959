package engine

import (
	"os"
	"strconv"

	"github.com/onload-go/onload/internal/stack"
)

// The Engine is the groupKernel of its hearers.

func (e *Engine) steer(s *stack.Stack, g groupAt, ours bool) error {
	return s.SteerGroup(g.link, g.to, ours)
}

// inodesAt reads /proc/net/udp and udp6.
func (e *Engine) inodesAt(ports map[uint16]bool) (map[uint16][]uint64, error) {
	at := map[uint16][]uint64{}
	for port := range ports {
		at[port] = nil
	}
	err := e.ns.Do(func() error {
		for _, file := range []string{"udp", "udp6"} {
			err := eachLine(file, func(_ string, col []string) {
				if port, inode, ok := udpLine(col); ok && ports[port] {
					at[port] = append(at[port], inode)
				}
			})
			if err != nil && !os.IsNotExist(err) { // a kernel without IPv6
				return err
			}
		}
		return nil
	})
	return at, err
}

// udpLine reads a line of /proc/net/udp or udp6: slot, local address, and the inode
// in the tenth column.
func udpLine(col []string) (port uint16, inode uint64, ok bool) {
	if len(col) < 10 {
		return 0, 0, false
	}
	at := len(col[1]) - 4
	if at < 0 {
		return 0, 0, false
	}
	p, err := strconv.ParseUint(col[1][at:], 16, 16)
	if err != nil {
		return 0, 0, false
	}
	inode, err = strconv.ParseUint(col[9], 10, 64)
	return uint16(p), inode, err == nil
}

// takesGroups leaves the groups of a link to the kernel where something else that
// hears them would lose them: what is above the link, and a router of groups.
func (e *Engine) takesGroups(link int) *stack.Stack {
	i, why := e.behind(link)
	if why != "" || i.Index != link || !i.Kernel {
		return nil
	}
	for _, l := range e.net.Links() {
		switch {
		case l.Index == link && l.Master != 0:
			return nil // a port of a bridge, or of a bond
		case l.Kind == "macvlan", l.Kind == "macvtap", l.Kind == "ipvlan", l.Kind == "ipvtap":
			return nil // it may be above the link
		case l.Index == link && e.routesGroups(l.Name):
			return nil
		}
	}
	return i.first()
}

// routesGroups reports whether the kernel forwards the groups of a link, for a
// daemon that routes them.
func (e *Engine) routesGroups(name string) (yes bool) {
	_ = e.ns.Do(func() error {
		for _, family := range []string{"ipv4", "ipv6"} {
			b, _ := os.ReadFile("/proc/sys/net/" + family + "/conf/" + name + "/mc_forwarding")
			yes = yes || len(b) > 0 && b[0] == '1'
		}
		return nil
	})
	return yes
}
