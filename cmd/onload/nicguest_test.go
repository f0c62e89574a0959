//go:build guest

package main

import (
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/onload-go/onload/internal/nic"
)

// refused calls the tool, which is to give that reason.
func refused(t *testing.T, want string, args ...string) {
	t.Helper()
	if err := nicCommand(args); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%v: %v, want %q", args, err, want)
	}
}

// find is the NIC of the guest's environment.
func find(t *testing.T, address string) nic.NIC {
	t.Helper()
	n, err := nic.Host().Find(address)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestGuestNIC: a NIC goes to vfio-pci and comes back to its driver, and neither while
// it is in use.
func TestGuestNIC(t *testing.T) {
	address, name, group := os.Getenv("VMRUN_NIC0_PCI"), os.Getenv("VMRUN_NIC0_IF"), os.Getenv("VMRUN_NIC0_GROUP")
	if n := find(t, name); n.Address != address || n.Driver != "virtio-pci" || n.Group != group || n.AFXDP() == "" {
		t.Errorf("%+v", n)
	}
	l, err := netlink.LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkSetUp(l); err != nil {
		t.Fatal(err)
	}
	a, err := netlink.ParseAddr("10.9.0.1/24")
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.AddrAdd(l, a); err != nil {
		t.Fatal(err)
	}
	for _, dst := range []string{"0.0.0.0/0", "::/0"} {
		p := netip.MustParsePrefix(dst)
		route := &netlink.Route{LinkIndex: l.Attrs().Index, Dst: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(0, p.Addr().BitLen())}}
		if err := netlink.RouteAdd(route); err != nil {
			t.Fatal(err)
		}
		refused(t, "carries the default route", "bind", address)
		if err := netlink.RouteDel(route); err != nil {
			t.Fatal(err)
		}
	}
	refused(t, "not bound to vfio-pci", "unbind", name)
	for range 2 { // what was is remembered anew
		if err := nicCommand([]string{"bind", name}); err != nil {
			t.Fatal(err)
		}
		n := find(t, address)
		if ours, ok := n.VFIO(); n.Driver != nic.Driver || len(n.Interfaces) > 0 || ours != "virtio, bound" || !ok {
			t.Errorf("%+v, %s", n, ours)
		}
		refused(t, "bound to vfio-pci already", "bind", address)
		f, err := os.OpenFile("/dev/vfio/"+group, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		refused(t, "is in use", "unbind", address)
		f.Close()
		if err := nicCommand([]string{"list"}); err != nil {
			t.Error(err)
		}
		if err := nicCommand([]string{"unbind", address}); err != nil {
			t.Fatal(err)
		}
		n = find(t, address)
		if n.Driver != "virtio-pci" || len(n.Interfaces) != 1 {
			t.Fatalf("%+v", n)
		}
		name = n.Interfaces[0]
	}
}

// TestGuestNICSession: the NIC that a session of SSH comes by is kept, unless forced.
func TestGuestNICSession(t *testing.T) {
	address, name := os.Getenv("VMRUN_NIC1_PCI"), os.Getenv("VMRUN_NIC1_IF")
	l, err := netlink.LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkSetUp(l); err != nil {
		t.Fatal(err)
	}
	a, err := netlink.ParseAddr("10.8.0.1/24")
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.AddrAdd(l, a); err != nil {
		t.Fatal(err)
	}
	if carries, err := nic.Carries([]string{name}); err != nil || carries != "" {
		t.Errorf("%q, %v", carries, err)
	}
	// A session is a connection from an address behind the NIC. Here both are the guest's
	// own, and the peer's is given back before the question.
	peer, err := netlink.ParseAddr("10.8.0.2/32")
	if err != nil {
		t.Fatal(err)
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.AddrAdd(lo, peer); err != nil {
		t.Fatal(err)
	}
	server, err := net.Listen("tcp", "10.8.0.1:22")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	c, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: peer.IP}}).Dial("tcp", server.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := netlink.AddrDel(lo, peer); err != nil {
		t.Fatal(err)
	}
	refused(t, "carries a session of SSH with 10.8.0.2", "bind", address)
	if err := nicCommand([]string{"bind", "-force", address}); err != nil {
		t.Fatal(err)
	}
	if n := find(t, address); n.Driver != nic.Driver {
		t.Errorf("%+v", n)
	}
	if err := nicCommand([]string{"unbind", address}); err != nil {
		t.Error(err)
	}
}
