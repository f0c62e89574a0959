package onload_test

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/lab"
	onload "github.com/onload-go/onload/net"
)

// sent is how many datagrams e's stack has sent.
func sent(e *onload.Engine, ns *lab.NS) uint64 { return e.Stats()[ns.If].UDPOut }

// quiet turns IP_MULTICAST_LOOP or IPV6_MULTICAST_LOOP off.
func quiet(network string) [3]int {
	if network == "udp4" {
		return [3]int{unix.IPPROTO_IP, unix.IP_MULTICAST_LOOP, 0}
	}
	return [3]int{unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_LOOP, 0}
}

// hopsOption is the option that sets the TTL of datagrams to groups.
func hopsOption(network string, n int) [3]int {
	if network == "udp4" {
		return [3]int{unix.IPPROTO_IP, unix.IP_MULTICAST_TTL, n}
	}
	return [3]int{unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS, n}
}

// ttlReader reads a datagram, and the TTL that it came with.
func ttlReader(t *testing.T, network string, c *net.UDPConn) func() (text string, ttl int) {
	t.Helper()
	buf := make([]byte, 100)
	c.SetReadDeadline(time.Now().Add(udpPatience))
	if network == "udp4" {
		p := ipv4.NewPacketConn(c)
		if err := p.SetControlMessage(ipv4.FlagTTL, true); err != nil {
			t.Fatal(err)
		}
		return func() (string, int) {
			n, cm, _, err := p.ReadFrom(buf)
			if err != nil {
				t.Fatal(err)
			}
			return string(buf[:n]), cm.TTL
		}
	}
	p := ipv6.NewPacketConn(c)
	if err := p.SetControlMessage(ipv6.FlagHopLimit, true); err != nil {
		t.Fatal(err)
	}
	return func() (string, int) {
		n, cm, _, err := p.ReadFrom(buf)
		if err != nil {
			t.Fatal(err)
		}
		return string(buf[:n]), cm.HopLimit
	}
}

// TestMulticastSent: senders whose datagrams no socket of their own host is to get
// are accelerated: bound and connected ones, with TTL 1 or the one that is set.
func TestMulticastSent(t *testing.T) {
	for _, g := range groups {
		t.Run(g.network, func(t *testing.T) {
			p := lab.NewPair(t, lab.Options{})
			if g.group.Is4() { // IPv6 has one
				if err := p.A.AddRoute(netip.MustParsePrefix("224.0.0.0/4"), netip.Addr{}); err != nil {
					t.Fatal(err)
				}
			}
			e := vethEngine(t, p.A, onload.Config{})
			read := ttlReader(t, g.network, kernelMember(t, p.B, g.network, g.group))
			to := netip.AddrPortFrom(g.group, groupPort)
			wild := ":0"
			bound := listenUDP(t, networkHost{e, g.network}, wild)
			setUDP(t, bound, quiet(g.network))
			atAddr := listenUDP(t, networkHost{e, g.network}, netip.AddrPortFrom(addrOf(p.A, g.group), 0).String())
			setUDP(t, atAddr, quiet(g.network), hopsOption(g.network, 9))
			d := onload.Dialer{Engine: e, Control: control(quiet(g.network), hopsOption(g.network, 3))}
			dialed, err := d.Dial(g.network, to.String())
			if err != nil {
				t.Fatal(err)
			}
			defer dialed.Close()
			if path := onload.PathOf(dialed); !path.Accelerated {
				t.Error(path)
			}
			member := joinGroup(t, e, p.A, g.network, g.group) // net makes it quiet
			for _, s := range []struct {
				name string
				c    *onload.UDPConn
				ttl  int
			}{{"bound", bound, 1}, {"bound to an address", atAddr, 9}, {"member", member, 1}} {
				for i := range 3 {
					before := sent(e, p.A)
					m := fmt.Sprint(s.name, i)
					if _, err := s.c.WriteToUDPAddrPort([]byte(m), to); err != nil {
						t.Fatal(err)
					}
					if text, ttl := read(); text != m || ttl != s.ttl {
						t.Errorf("%s: %q with TTL %d", m, text, ttl)
					}
					if sent(e, p.A) != before+1 {
						t.Errorf("%s: the stack has not sent it", m)
					}
				}
			}
			before := sent(e, p.A)
			if _, err := dialed.Write([]byte("dialed")); err != nil {
				t.Fatal(err)
			}
			if text, ttl := read(); text != "dialed" || ttl != 3 {
				t.Errorf("dialed: %q with TTL %d", text, ttl)
			}
			if sent(e, p.A) != before+1 {
				t.Error("dialed: the stack has not sent it")
			}
		})
	}
}

// networkHost is an engine whose sockets are of one network.
type networkHost struct {
	*onload.Engine
	network string
}

func (h networkHost) ListenPacket(_, address string) (net.PacketConn, error) {
	return h.Engine.ListenPacket(h.network, address)
}

// TestMulticastLoop: what a socket of this host sends to a group comes to the
// host's members and to the link's, of the kernel and of ours, unless the sender
// does not want that.
func TestMulticastLoop(t *testing.T) {
	for _, g := range groups {
		t.Run(g.network, func(t *testing.T) {
			p := lab.NewPair(t, lab.Options{})
			e := vethEngine(t, p.A, onload.Config{})
			pin(t)
			ours := joinGroup(t, e, p.A, g.network, g.group)
			link := kernelMember(t, p.B, g.network, g.group)
			from := netip.AddrPortFrom(addrOf(p.A, g.group), 0).String()
			our, kernels := listenUDP(t, networkHost{e, g.network}, from), kernelSocket(t, p.A, from)
			to := netip.AddrPortFrom(g.group, groupPort)
			if !g.group.Is4() {
				to = netip.AddrPortFrom(g.group.WithZone(p.A.If), groupPort)
			}
			type writer interface {
				syscall.Conn
				WriteToUDPAddrPort(b []byte, a netip.AddrPort) (int, error)
			}
			say := func(w writer, text string, to netip.AddrPort) {
				t.Helper()
				if _, err := w.WriteToUDPAddrPort([]byte(text), to); err != nil {
					t.Fatal(err)
				}
			}
			members := []net.PacketConn{ours, link}
			for range 2 { // without a kernel's member, and with
				say(our, "ours", to)
				say(kernels, "the kernel's", to)
				for i, m := range members {
					expectDatagrams(t, fmt.Sprint("member ", i), m, "ours", "the kernel's")
				}
				members = append(members, kernelMember(t, p.A, g.network, g.group))
			}
			members = append(members[:2], members[3])
			setUDP(t, our, quiet(g.network))
			setUDP(t, kernels, quiet(g.network))
			say(our, "quiet", netip.AddrPortFrom(g.group, groupPort))
			say(kernels, "quiet", to)
			expectDatagrams(t, "the link", link, "quiet", "quiet")
			// Had they come, they would be in front of this.
			back := groupSender(t, p.B, g.group, addrOf(p.B, g.group))
			back([]byte("next"))
			expectDatagrams(t, "ours", ours, "next")
			expectDatagrams(t, "the kernel's", members[2], "next")
		})
	}
}

// TestBroadcastSent: datagrams to everybody on the link, of sockets that may send
// them (SO_BROADCAST, which net sets).
func TestBroadcastSent(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	e := vethEngine(t, p.A, onload.Config{})
	far := kernelSocket(t, p.B, ":0")
	subnet := p.A.Addr4.As4()
	subnet[3] = 255
	c := listenUDP(t, networkHost{e, "udp4"}, p.A.Addr4.String()+":0")
	port := far.LocalAddr().(*net.UDPAddr).Port
	for _, to := range []string{netip.AddrFrom4(subnet).String(), "255.255.255.255"} {
		a := netip.AddrPortFrom(netip.MustParseAddr(to), uint16(port))
		setUDP(t, c, [3]int{unix.SOL_SOCKET, unix.SO_BROADCAST, 1})
		if _, err := c.WriteToUDPAddrPort([]byte(to), a); err != nil {
			t.Fatal(err)
		}
		expectDatagrams(t, to, far, to)
		setUDP(t, c, [3]int{unix.SOL_SOCKET, unix.SO_BROADCAST, 0})
		if _, err := c.WriteToUDPAddrPort([]byte(to), a); !errors.Is(err, syscall.EACCES) {
			t.Errorf("without SO_BROADCAST: %v", err)
		}
	}
}
