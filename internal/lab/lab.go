// Package lab makes networks of its own out of Linux namespaces and veth
// pairs, for tests, examples and benchmarks.
//
// The namespaces have no name. Only descriptors of this process and processes
// started in them keep them alive, so that the kernel removes everything when
// the process ends, whatever ends it, and several test processes cannot meet.
//
// NewPair is what most tests want; NewNS and Veth are the parts for more.
package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/need"
	"github.com/onload-go/onload/internal/netns"
)

// NeedRoot skips the test when the process may not make namespaces. With
// CI=true in the environment it fails instead, since nobody would see the skip.
func NeedRoot(t testing.TB) {
	t.Helper()
	if err := netns.Privileged(); err != nil {
		need.Missing(t, "root for a network lab: %v", err)
	}
}

// NS is a network namespace. The embedded Link is the first one made by Veth;
// before that, lo.
type NS struct {
	*Link

	// Name is for messages only.
	Name string

	// Path opens the namespace, in this process and, as long as it lives, in
	// others.
	Path string

	h  netns.Handle
	nl *netlink.Handle

	mu    sync.Mutex
	links []*Link
	cmds  []*exec.Cmd
}

// NewNS makes a namespace with lo up and IPv6 addresses that work at once
// (no duplicate address detection, no router solicitations).
func NewNS(name string) (*NS, error) {
	h, err := netns.New()
	if err != nil {
		return nil, fmt.Errorf("namespace %s: %w", name, err)
	}
	ns := &NS{Name: name, Path: h.Path(), h: h}
	if err := ns.prepare(); err != nil {
		ns.Close()
		return nil, fmt.Errorf("namespace %s: %w", name, err)
	}
	return ns, nil
}

func (ns *NS) prepare() error {
	err := ns.Do(func() (err error) {
		ns.nl, err = netlink.NewHandle(unix.NETLINK_ROUTE)
		return err
	})
	if err != nil {
		return err
	}
	for _, dev := range []string{"all", "default"} {
		for _, key := range []string{"accept_dad", "accept_ra", "router_solicitations"} {
			if err := ns.Sysctl("net.ipv6.conf."+dev+"."+key, "0"); err != nil {
				return err
			}
		}
	}
	lo := &Link{NS: ns, If: "lo", Index: 1}
	ns.Link = lo
	return lo.SetUp()
}

// Handle returns the namespace, which stays the NS's own: not to be closed.
func (ns *NS) Handle() netns.Handle { return ns.h }

// Netlink returns a netlink socket inside the namespace.
func (ns *NS) Netlink() *netlink.Handle { return ns.nl }

// Do runs fn inside the namespace, on an OS thread of its own. Sockets that fn
// makes stay there; goroutines that it starts do not run there. For child
// processes use Command.
func (ns *NS) Do(fn func() error) error { return ns.h.Do(fn) }

// Sysctl sets a variable such as net.ipv4.ip_forward.
func (ns *NS) Sysctl(key, value string) error {
	return ns.Do(func() error {
		return os.WriteFile("/proc/sys/"+strings.ReplaceAll(key, ".", "/"), []byte(value), 0)
	})
}

// Close kills the processes started by Command and gives the namespace up. It
// vanishes with all its links as soon as no socket made in it is open.
func (ns *NS) Close() error {
	ns.mu.Lock()
	cmds := ns.cmds
	ns.cmds = nil
	ns.mu.Unlock()
	for _, c := range cmds {
		// Killing has no effect on a process that has been waited for.
		c.Process.Kill()
	}
	if ns.nl != nil {
		ns.nl.Close()
	}
	if err := ns.h.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		return err
	}
	return nil
}
