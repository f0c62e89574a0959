package onload_test

import (
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/lab"
	onload "github.com/onload-go/onload/net"
)

const groupPort = 5353

var groups = []struct {
	network string
	group   netip.Addr
}{{"udp4", netip.MustParseAddr("239.1.2.3")}, {"udp6", netip.MustParseAddr("ff05::1:3")}}

// ifOf is the interface as the programs of its namespace see it.
func ifOf(ns *lab.NS) *net.Interface { return &net.Interface{Index: ns.Index, Name: ns.If} }

func udpAddrOf(a netip.Addr, port int) *net.UDPAddr {
	return net.UDPAddrFromAddrPort(netip.AddrPortFrom(a, uint16(port)))
}

// pin keeps the test's sends on one processor: datagrams that are sent by different
// ones may overtake each other on a veth.
func pin(t testing.TB) {
	t.Helper()
	runtime.LockOSThread()
	var old, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &old); err != nil {
		t.Fatal(err)
	}
	cpu := 0
	for !old.IsSet(cpu) {
		cpu++
	}
	one.Set(cpu)
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = unix.SchedSetaffinity(0, &old)
		runtime.UnlockOSThread()
	})
}

// groupSender is a kernel socket of ns that sends to a group from an address, by
// ns's interface.
func groupSender(t testing.TB, ns *lab.NS, group, from netip.Addr) func(p []byte) {
	t.Helper()
	if !group.Is4() {
		group = group.WithZone(ns.If)
	}
	pc, err := ns.ListenPacket("udp", netip.AddrPortFrom(from, 0).String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pc.Close() })
	c := pc.(*net.UDPConn)
	return func(p []byte) {
		if _, err := c.WriteToUDPAddrPort(p, netip.AddrPortFrom(group, groupPort)); err != nil {
			t.Fatal(err)
		}
	}
}

// addrOf is the address of ns of group's family.
func addrOf(ns *lab.NS, group netip.Addr) netip.Addr {
	if group.Is4() {
		return ns.Addr4
	}
	return ns.Addr6
}

// joinGroup is ListenMulticastUDP until the test ends.
func joinGroup(t testing.TB, e *onload.Engine, ns *lab.NS, network string, group netip.Addr) *onload.UDPConn {
	t.Helper()
	c, err := e.ListenMulticastUDP(network, ifOf(ns), udpAddrOf(group, groupPort))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// kernelMember is a kernel socket of ns that has joined.
func kernelMember(t testing.TB, ns *lab.NS, network string, group netip.Addr) *net.UDPConn {
	t.Helper()
	var c *net.UDPConn
	if err := ns.Do(func() (err error) {
		c, err = net.ListenMulticastUDP(network, ifOf(ns), udpAddrOf(group, groupPort))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// expectDatagrams reads datagrams with those texts, and no others between.
func expectDatagrams(t *testing.T, what string, c net.PacketConn, want ...string) {
	t.Helper()
	buf := make([]byte, 2000)
	c.SetReadDeadline(time.Now().Add(udpPatience))
	for _, w := range want {
		if n, _, err := c.ReadFrom(buf); err != nil || string(buf[:n]) != w {
			t.Fatalf("%s: %q, %v; want %q", what, buf[:n], err, w)
		}
	}
}

// received is how many datagrams e's stack has had.
func received(e *onload.Engine, ns *lab.NS) uint64 { return e.Stats()[ns.If].UDPIn }

// TestMulticastReceived: all sockets that joined get what a kernel sends to the
// group, by all queues, in both modes.
func TestMulticastReceived(t *testing.T) {
	for _, mode := range []onload.Mode{onload.ModeNative, onload.ModeGeneric} {
		for _, queues := range []int{1, 2, 4} {
			t.Run(fmt.Sprint(mode, "/", queues), func(t *testing.T) {
				p := lab.NewPair(t, lab.Options{Queues: queues})
				e := vethEngine(t, p.A, onload.Config{Mode: mode})
				for _, g := range groups {
					t.Run(g.network, func(t *testing.T) {
						var cs []*onload.UDPConn
						for range 3 {
							cs = append(cs, joinGroup(t, e, p.A, g.network, g.group))
						}
						for _, c := range cs {
							if path := onload.PathOf(c); !path.Accelerated {
								t.Fatal(path)
							}
						}
						var senders []func([]byte)
						for range 4 { // by different queues
							senders = append(senders, groupSender(t, p.B, g.group, addrOf(p.B, g.group)))
						}
						before := received(e, p.A)
						for i := range 20 {
							m := fmt.Sprint("message ", i)
							senders[i%len(senders)]([]byte(m))
							for k, c := range cs {
								expectDatagrams(t, fmt.Sprint("socket ", k), c, m)
							}
						}
						if n := received(e, p.A) - before; n != 60 {
							t.Errorf("the stack gave %d datagrams to sockets, not 60", n)
						}
						for _, c := range cs {
							c.Close()
						}
					})
				}
			})
		}
	}
}

// TestMulticastKernelMember: a socket of another program gets every datagram, also
// one that comes later, and so do ours.
func TestMulticastKernelMember(t *testing.T) {
	for _, g := range groups {
		t.Run(g.network, func(t *testing.T) {
			p := lab.NewPair(t, lab.Options{})
			e := vethEngine(t, p.A, onload.Config{})
			c, d := joinGroup(t, e, p.A, g.network, g.group), joinGroup(t, e, p.A, g.network, g.group)
			send := groupSender(t, p.B, g.group, addrOf(p.B, g.group))
			n := 0
			say := func() string {
				n++
				m := fmt.Sprint("message ", n)
				send([]byte(m))
				return m
			}
			for range 3 {
				m := say()
				expectDatagrams(t, "alone", c, m)
				expectDatagrams(t, "alone", d, m)
			}
			k := kernelMember(t, p.A, g.network, g.group)
			for range 50 { // from the first on, before anybody has looked
				m := say()
				expectDatagrams(t, "the kernel's", k, m)
				expectDatagrams(t, "beside the kernel's", c, m)
				expectDatagrams(t, "beside the kernel's", d, m)
			}
			if err := eventually(func() bool { return !onload.PathOf(c).Accelerated }); err != nil {
				t.Fatal("the path is not the kernel's:", err)
			}
			late := joinGroup(t, e, p.A, g.network, g.group)
			if path := onload.PathOf(late); path.Accelerated {
				t.Error(path)
			}
			m := say()
			for _, x := range []net.PacketConn{k, c, d, late} {
				expectDatagrams(t, "all", x, m)
			}
			k.Close()
			if err := eventually(func() bool { return onload.PathOf(c).Accelerated }); err != nil {
				t.Fatal("the path is not accelerated again:", err)
			}
			before := received(e, p.A)
			m = say()
			for _, x := range []net.PacketConn{c, d, late} {
				expectDatagrams(t, "alone again", x, m)
			}
			if received(e, p.A) != before+3 {
				t.Error("the stack did not get it")
			}
		})
	}
}

// TestMulticastUnprivileged: a socket of a process that has dropped its privileges
// joins, and gets the datagrams by the kernel, as does one from before.
func TestMulticastUnprivileged(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	e := vethEngine(t, p.A, onload.Config{})
	pin(t)
	g := groups[0]
	before := joinGroup(t, e, p.A, g.network, g.group)
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var all, some [2]unix.CapUserData
	if err := unix.Capget(&hdr, &all[0]); err != nil {
		t.Fatal(err)
	}
	some = all
	some[0].Effective &^= 1<<unix.CAP_NET_RAW | 1<<unix.CAP_NET_ADMIN
	if err := unix.Capset(&hdr, &some[0]); err != nil { // of this thread
		t.Fatal(err)
	}
	c, err := e.ListenMulticastUDP(g.network, ifOf(p.A), udpAddrOf(g.group, groupPort))
	if cerr := unix.Capset(&hdr, &all[0]); cerr != nil {
		t.Fatal(cerr)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if path := onload.PathOf(c); path.Accelerated || !strings.Contains(path.Reason, "CAP_NET_RAW") {
		t.Error(path)
	}
	send := groupSender(t, p.B, g.group, addrOf(p.B, g.group))
	for i := range 10 {
		m := fmt.Sprint("message ", i)
		send([]byte(m))
		expectDatagrams(t, "with privileges", before, m)
		expectDatagrams(t, "without", c, m)
	}
}

// groupConn is what ipv4.PacketConn and ipv6.PacketConn have in common.
type groupConn interface {
	JoinGroup(ifi *net.Interface, group net.Addr) error
	LeaveGroup(ifi *net.Interface, group net.Addr) error
	JoinSourceSpecificGroup(ifi *net.Interface, group, source net.Addr) error
	LeaveSourceSpecificGroup(ifi *net.Interface, group, source net.Addr) error
	ExcludeSourceSpecificGroup(ifi *net.Interface, group, source net.Addr) error
	IncludeSourceSpecificGroup(ifi *net.Interface, group, source net.Addr) error
}

// TestMulticastMemberships: a socket of ListenPacket joins and leaves groups by
// x/net, with and without sources, while it is open.
func TestMulticastMemberships(t *testing.T) {
	for _, g := range groups {
		t.Run(g.network, func(t *testing.T) {
			p := lab.NewPair(t, lab.Options{})
			e := vethEngine(t, p.A, onload.Config{})
			pin(t)
			here := addrOf(p.B, g.group)
			bits := 64
			if g.group.Is4() {
				bits = 24
			}
			there := here.Next().Next().Next()
			if err := p.B.AddAddr(netip.PrefixFrom(there, bits)); err != nil {
				t.Fatal(err)
			}
			pc, err := e.ListenPacket(g.network, fmt.Sprint(":", groupPort))
			if err != nil {
				t.Fatal(err)
			}
			defer pc.Close()
			c := pc.(*onload.UDPConn)
			var x groupConn = ipv4.NewPacketConn(c)
			if !g.group.Is4() {
				x = ipv6.NewPacketConn(c)
			}
			ifi, other := ifOf(p.A), g.group.Next()
			group, end := udpAddrOf(g.group, 0), udpAddrOf(other, 0)
			must := func(err error) {
				t.Helper()
				if err != nil {
					t.Fatal(err)
				}
			}
			must(x.JoinGroup(ifi, end))
			fromHere, fromThere := groupSender(t, p.B, g.group, here), groupSender(t, p.B, g.group, there)
			finish := groupSender(t, p.B, other, here)
			n := 0
			check := func(what string, want ...string) {
				t.Helper()
				n++
				before := received(e, p.A)
				fromHere([]byte("here"))
				fromThere([]byte("there"))
				end := fmt.Sprint("end ", n)
				finish([]byte(end))
				expectDatagrams(t, what, c, append(want, end)...)
				if got := received(e, p.A) - before; got != uint64(len(want)+1) {
					t.Errorf("%s: the stack gave %d of %d datagrams to the socket", what, got, len(want)+1)
				}
			}
			src := func(a netip.Addr) net.Addr { return udpAddrOf(a, 0) }
			must(x.JoinGroup(ifi, group))
			check("joined", "here", "there")
			must(x.ExcludeSourceSpecificGroup(ifi, group, src(here)))
			check("without here", "there")
			must(x.IncludeSourceSpecificGroup(ifi, group, src(here)))
			check("with here again", "here", "there")
			must(x.LeaveGroup(ifi, group))
			must(x.JoinSourceSpecificGroup(ifi, group, src(there)))
			check("only there", "there")
			must(x.JoinSourceSpecificGroup(ifi, group, src(here)))
			check("both sources", "here", "there")
			must(x.LeaveSourceSpecificGroup(ifi, group, src(there)))
			check("only here", "here")
			must(x.LeaveSourceSpecificGroup(ifi, group, src(here)))
			check("left")
		})
	}
}
