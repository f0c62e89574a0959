//go:build guest

package engine_test

import (
	"encoding/hex"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"

	"github.com/onload-go/onload/internal/lab"
	onload "github.com/onload-go/onload/net"
)

// reportsSeen is a socket of the kernel's that receives the reports of a family.
func reportsSeen(t *testing.T, ns *lab.NS, ifi *net.Interface, network, routers string) net.PacketConn {
	t.Helper()
	c, err := ns.ListenPacket(network, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	to := &net.IPAddr{IP: net.ParseIP(routers)}
	if err = ipv4.NewPacketConn(c).JoinGroup(ifi, to); to.IP.To4() == nil {
		err = ipv6.NewPacketConn(c).JoinGroup(ifi, to)
	}
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestGuestGroups: over VFIO sockets join groups by ListenMulticastUDP, and by x/net on
// lo, with sources; the kernel at the other end sees the reports. Both ends send.
func TestGuestGroups(t *testing.T) {
	ns := guestPeer(t)
	e, err := guestEngine()
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	var ifi *net.Interface
	if err := ns.Do(func() (err error) {
		ifi, err = net.InterfaceByName(os.Getenv("VMRUN_NIC1_IF"))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	nic := &net.Interface{Name: os.Getenv("VMRUN_NIC0_PCI")}
	for _, f := range []struct {
		udp, raw, routers, group, peer, us string
	}{
		{"udp4", "ip4:igmp", "224.0.0.22", "239.1.2.3", "10.9.0.2", "10.9.0.1"},
		{"udp6", "ip6:ipv6-icmp", "ff02::16", "ff05::1:3", "fd09::2", "fd09::1"},
	} {
		t.Run(f.udp, func(t *testing.T) {
			seen := reportsSeen(t, ns, ifi, f.raw, f.routers)
			group := &net.UDPAddr{IP: net.ParseIP(f.group), Port: 5353}
			var there *net.UDPConn
			if err := ns.Do(func() (err error) {
				there, err = net.ListenMulticastUDP(f.udp, ifi, group)
				return err
			}); err != nil {
				t.Fatal(err)
			}
			defer there.Close()
			plain, err := e.ListenPacket(f.udp, net.JoinHostPort(f.us, "0"))
			if err != nil {
				t.Fatal(err)
			}
			defer plain.Close()
			// From here on the peer's NIC brings reports too.
			kernelHears(t, there, plain, group, f.us, "by another")
			c, err := e.ListenMulticastUDP(f.udp, nic, group)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if p := onload.PathOf(c); !p.Accelerated {
				t.Errorf("the path is %v", p)
			}
			waitReport(t, seen, f.group)

			pc, err := e.ListenPacket(f.udp, ":5354")
			if err != nil {
				t.Fatal(err)
			}
			defer pc.Close()
			lo, err := net.InterfaceByName("lo")
			if err != nil {
				t.Fatal(err)
			}
			special := &net.UDPAddr{IP: net.ParseIP(f.group), Port: 5354}
			special.IP[15]++
			from := &net.UDPAddr{IP: net.ParseIP(f.peer)}
			if err = ipv4.NewPacketConn(pc).JoinSourceSpecificGroup(lo, special, from); f.udp == "udp6" {
				err = ipv6.NewPacketConn(pc).JoinSourceSpecificGroup(lo, special, from)
			}
			if err != nil {
				t.Fatal(err)
			}
			waitReport(t, seen, special.IP.String())

			var k net.PacketConn
			if k, err = ns.ListenPacket("udp", net.JoinHostPort(f.peer, "0")); err != nil {
				t.Fatal(err)
			}
			defer k.Close()
			for to, c := range map[*net.UDPAddr]net.PacketConn{group: c, special: pc} {
				out := *to
				if f.udp == "udp6" {
					out.Zone = ifi.Name
				}
				if _, err := k.WriteTo([]byte("to "+to.String()), &out); err != nil {
					t.Fatal(err)
				}
				b := make([]byte, 100)
				if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
					t.Fatal(err)
				}
				n, sender, err := c.ReadFrom(b)
				if err != nil || string(b[:n]) != "to "+to.String() || sender.String() != k.LocalAddr().String() {
					t.Errorf("%v hears %q from %v, %v", to, b[:n], sender, err)
				}
			}

			kernelHears(t, there, c, group, f.us, "by a member")
		})
	}
}

// kernelHears sends to a group by c until the kernel's socket hears it: the driver tells
// its NIC of a group some time after the join.
func kernelHears(t *testing.T, there *net.UDPConn, c net.PacketConn, group net.Addr, from, text string) {
	t.Helper()
	b := make([]byte, 100)
	waitFor(t, "the kernel hears what we send to the group", func() bool {
		if _, err := c.WriteTo([]byte(text), group); err != nil {
			t.Fatal(err)
		}
		if err := there.SetReadDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		n, sender, err := there.ReadFromUDPAddrPort(b)
		heard := err == nil && string(b[:n]) == text
		if heard && sender.Addr().Unmap() != netip.MustParseAddr(from) {
			t.Errorf("the kernel hears %q from %v", text, sender)
		}
		return heard // what the kernel itself sends it hears too
	})
}

// waitReport waits for a report that has the group.
func waitReport(t *testing.T, c net.PacketConn, group string) {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	want := hex.EncodeToString(netip.MustParseAddr(group).AsSlice())
	for b := make([]byte, 2048); ; {
		n, _, err := c.ReadFrom(b)
		if err != nil {
			t.Fatalf("no report of %s: %v", group, err)
		}
		if strings.Contains(hex.EncodeToString(b[:n]), want) {
			return
		}
	}
}
