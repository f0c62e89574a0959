package nic

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Carries says what would be lost with interfaces of this host: a default route, or a
// session of SSH. It is empty if neither is by them.
func Carries(interfaces []string) (string, error) {
	index := map[int]bool{} // the interfaces, and those on top of them
	for _, name := range interfaces {
		for _, upper := range uppers(name) {
			ifi, err := net.InterfaceByName(upper)
			if err != nil {
				return "", err
			}
			index[ifi.Index] = true
		}
	}
	routes, err := netlink.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return "", fmt.Errorf("routes: %w", err)
	}
	for _, r := range routes {
		if r.Dst != nil {
			if ones, _ := r.Dst.Mask.Size(); ones > 0 || r.Type != unix.RTN_UNICAST {
				continue
			}
		}
		by := index[r.LinkIndex] || slices.ContainsFunc(r.MultiPath, func(hop *netlink.NexthopInfo) bool { return index[hop.LinkIndex] })
		if by && r.Type == unix.RTN_UNICAST {
			return "the default route", nil
		}
	}
	peers, err := sessions("/proc/net", os.Getenv("SSH_CONNECTION"))
	if err != nil {
		return "", err
	}
	for _, p := range peers {
		to, err := netlink.RouteGet(p.AsSlice())
		if err != nil {
			continue // a peer without a route is not reached by these interfaces either
		}
		if slices.ContainsFunc(to, func(r netlink.Route) bool { return index[r.LinkIndex] }) {
			return fmt.Sprintf("a session of SSH with %s", p), nil
		}
	}
	return "", nil
}

// uppers is the interface and all those on top of it: VLANs, bonds, bridges.
func uppers(name string) []string {
	all := []string{name}
	for i := 0; i < len(all); i++ {
		found, _ := filepath.Glob("/sys/class/net/" + all[i] + "/upper_*") // the pattern is sound
		for _, f := range found {
			if u := strings.TrimPrefix(filepath.Base(f), "upper_"); !slices.Contains(all, u) {
				all = append(all, u)
			}
		}
	}
	return all
}

const (
	sshPort     = 22
	established = "01"
)

// sessions are the peers of established connections to port 22, or to the port that
// SSH_CONNECTION names ("peer port address port", ssh(1)). dir has the kernel's tcp
// and tcp6 (proc_net_tcp.rst).
func sessions(dir, connection string) (peers []netip.Addr, err error) {
	ports := []uint16{sshPort}
	if f := strings.Fields(connection); len(f) == 4 {
		if p, err := strconv.ParseUint(f[3], 10, 16); err == nil {
			ports = append(ports, uint16(p))
		}
	}
	for _, name := range []string{"tcp", "tcp6"} {
		f, err := os.Open(filepath.Join(dir, name))
		if os.IsNotExist(err) {
			continue // a kernel without IPv6
		}
		if err != nil {
			return nil, err
		}
		defer f.Close()
		lines := bufio.NewScanner(f)
		for lines.Scan() {
			fields := strings.Fields(lines.Text())
			if len(fields) < 4 || fields[3] != established {
				continue
			}
			local, ok := endpoint(fields[1])
			peer, ok2 := endpoint(fields[2])
			if ok && ok2 && slices.Contains(ports, local.Port()) && !peer.Addr().IsLoopback() {
				peers = append(peers, peer.Addr())
			}
		}
		if err := lines.Err(); err != nil {
			return nil, err
		}
	}
	return peers, nil
}

// endpoint reads an address and port of /proc/net/tcp: hexadecimal, the address in
// words of four bytes in the host's order.
func endpoint(s string) (netip.AddrPort, bool) {
	address, port, _ := strings.Cut(s, ":")
	b, err := hex.DecodeString(address)
	p, err2 := strconv.ParseUint(port, 16, 16)
	if err != nil || err2 != nil || len(b)%4 != 0 {
		return netip.AddrPort{}, false
	}
	for i := 0; i < len(b); i += 4 {
		slices.Reverse(b[i : i+4]) // amd64 and arm64 are little-endian
	}
	a, ok := netip.AddrFromSlice(b)
	return netip.AddrPortFrom(a.Unmap(), uint16(p)), ok
}
