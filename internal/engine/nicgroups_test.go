package engine

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"

	"github.com/onload-go/onload/internal/lab"
	"github.com/onload-go/onload/internal/neigh"
	"github.com/onload-go/onload/internal/netns"
	"github.com/onload-go/onload/internal/stack"
)

// TestMergeFilters: RFC 3376, section 3.2, with its examples.
func TestMergeFilters(t *testing.T) {
	list := func(s string) (l []netip.Addr) {
		for _, c := range s {
			l = append(l, netip.AddrFrom4([4]byte{10, 0, 0, byte(c)}))
		}
		return l
	}
	in := func(s string) stack.Membership { return stack.Membership{Include: true, Sources: list(s)} }
	ex := func(s string) stack.Membership { return stack.Membership{Sources: list(s)} }
	for _, c := range []struct {
		of   []stack.Membership
		want neigh.Filter
	}{
		{nil, neigh.Filter{Include: true}},
		{[]stack.Membership{in("b"), in("ab")}, neigh.Filter{Include: true, Sources: list("ab")}},
		{[]stack.Membership{ex("abcd"), ex("bcde"), in("def")}, neigh.Filter{Sources: list("bc")}},
		{[]stack.Membership{in("def"), ex("bcde"), ex("abcd")}, neigh.Filter{Sources: list("bc")}},
		{[]stack.Membership{in("abc"), ex("bcd"), in("e")}, neigh.Filter{Sources: list("d")}},
		{[]stack.Membership{in("a"), ex("")}, neigh.Filter{}},
	} {
		if got := merge(c.of); got.Include != c.want.Include || !slices.Equal(got.Sources, c.want.Sources) {
			t.Errorf("%v: %v, want %v", c.of, got, c.want)
		}
	}
}

// snooping is a NIC without a kernel behind a bridge of the kernel's that forwards a
// group's datagrams only to who has reported that it is a member. The bridge has
// 10.0.0.2, 10.0.0.3, fd00::2 and fd00::3.
func snooping(t *testing.T) (*lab.Link, *Engine) {
	t.Helper()
	p, dev := kernelWire(t)
	br, err := p.B.Bridge("br0", p.B.Link)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range []string{"10.0.0.2/24", "fd00::2/64"} {
		if err := p.B.DelAddr(netip.MustParsePrefix(a)); err != nil {
			t.Fatal(err)
		}
	}
	for _, a := range []string{"10.0.0.2/24", "10.0.0.3/24", "fd00::2/64", "fd00::3/64"} {
		if err := br.AddAddr(netip.MustParsePrefix(a)); err != nil {
			t.Fatal(err)
		}
	}
	for _, set := range []string{"mcast_igmp_version 3", "mcast_mld_version 2", "mcast_snooping 1", "mcast_querier 1"} {
		args := append([]string{"link", "set", br.If, "type", "bridge"}, strings.Fields(set)...)
		if out, err := p.B.Command("ip", args...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v, %s", set, err, out)
		}
	}
	e := nicEngine(t, dev, "10.0.0.1/24 fd00::1/64")
	if err := e.ifs[0].Err; err != nil {
		t.Fatal(err)
	}
	if e.ns, err = netns.New(); err != nil { // where programs join groups on lo
		t.Fatal(err)
	}
	return br, e
}

// groupEnds is a family: a group, and who is on the link.
type groupEnds struct {
	family          Family
	group           netip.Addr
	us, peer, other netip.Addr
}

var groupFamilies = []groupEnds{
	{IPv4, netip.MustParseAddr("239.1.2.3"), netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("10.0.0.3")},
	{IPv6, netip.MustParseAddr("ff05::1:3"), netip.MustParseAddr("fd00::1"), netip.MustParseAddr("fd00::2"), netip.MustParseAddr("fd00::3")},
}

// bind is a socket of the engine's on all addresses.
func (g *groupEnds) bind(t *testing.T, e *Engine, port uint16, o *Options) *Socket {
	t.Helper()
	sh := e.Shards(g.family, netip.Addr{})
	c, err := e.Bind(&sh, port, false, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// send has the kernel send to a group, from one of its addresses.
func (g *groupEnds) send(t *testing.T, br *lab.Link, from, group netip.Addr, port uint16, text string) {
	t.Helper()
	c, err := br.NS.ListenPacket("udp", netip.AddrPortFrom(from, 0).String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if group.Is6() && group.IsMulticast() {
		group = group.WithZone(br.If)
	}
	if _, err := c.WriteTo([]byte(text), net.UDPAddrFromAddrPort(netip.AddrPortFrom(group, port))); err != nil {
		t.Fatal(err)
	}
}

// known waits until the bridge knows, or forgets, a group, from a source if src is valid.
func known(t *testing.T, br *lab.Link, group, src netip.Addr, want bool) {
	t.Helper()
	entry := "grp " + group.String() + " "
	if src.IsValid() {
		entry += "src " + src.String() + " "
	}
	until(t, fmt.Sprintf("the bridge has %q: %v", entry, want), func() bool {
		out, err := br.NS.Command("bridge", "mdb", "show").CombinedOutput()
		if err != nil {
			t.Fatalf("%v, %s", err, out)
		}
		return strings.Contains(string(out), entry) == want
	})
}

// heard reads what a socket has received, up to "end".
func heard(t *testing.T, c *Socket) (all []string) {
	t.Helper()
	b := make([]byte, 100)
	if err := c.Receiver().SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	for {
		n, _, _, _, err := c.Receiver().ReadFrom(b)
		if err != nil {
			t.Fatalf("after %q: %v", all, err)
		}
		if string(b[:n]) == "end" {
			return all
		}
		all = append(all, string(b[:n]))
	}
}

// TestNICGroups: a socket that has joined a group on a NIC without a kernel gets the
// group's datagrams past a bridge that snoops, and no longer when it has left; one that
// has not joined gets them as long as another has.
func TestNICGroups(t *testing.T) {
	t.Parallel()
	br, e := snooping(t)
	for _, g := range groupFamilies {
		t.Run(g.group.String(), func(t *testing.T) {
			member, guest := g.bind(t, e, 5000, &Options{}), g.bind(t, e, 5001, &Options{})
			if err := member.Join(e.ifs[0].Index, g.group); err != nil {
				t.Fatal(err)
			}
			known(t, br, g.group, netip.Addr{}, true)
			for _, port := range []uint16{5000, 5001} {
				for _, text := range []string{"joined", "end"} {
					g.send(t, br, g.peer, g.group, port, text)
				}
			}
			for _, c := range []*Socket{member, guest} {
				if got := heard(t, c); !slices.Equal(got, []string{"joined"}) {
					t.Errorf("%v heard %q", c.LocalAddr(), got)
				}
			}
			if err := member.Close(); err != nil {
				t.Fatal(err)
			}
			known(t, br, g.group, netip.Addr{}, false)
			g.send(t, br, g.peer, g.group, 5001, "left")
			g.send(t, br, g.peer, g.us, 5001, "end")
			if got := heard(t, guest); len(got) > 0 {
				t.Errorf("after the last member has left, %v heard %q", guest.LocalAddr(), got)
			}
		})
	}
}

// TestNICGroupSources: memberships that a program makes on lo, by the kernel's socket
// beside ours, count on the NIC, with their sources; the filters of several sockets are
// merged into the one that is reported.
func TestNICGroupSources(t *testing.T) {
	t.Parallel()
	br, e := snooping(t)
	lo := &net.Interface{Index: 1, Name: "lo"}
	for _, g := range groupFamilies {
		t.Run(g.group.String(), func(t *testing.T) {
			group := net.UDPAddrFromAddrPort(netip.AddrPortFrom(g.group, 0))
			only := func(c *Socket, src netip.Addr) func() {
				file, err := e.Shadow(g.family == IPv6, Buffers{})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { file.Close() })
				pc, err := net.FilePacketConn(file)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { pc.Close() })
				from := net.UDPAddrFromAddrPort(netip.AddrPortFrom(src, 0))
				join, leave := ipv4.NewPacketConn(pc).JoinSourceSpecificGroup, ipv4.NewPacketConn(pc).LeaveSourceSpecificGroup
				if g.family == IPv6 {
					join, leave = ipv6.NewPacketConn(pc).JoinSourceSpecificGroup, ipv6.NewPacketConn(pc).LeaveSourceSpecificGroup
				}
				hear := func(err error) {
					t.Helper()
					if err != nil {
						t.Fatal(err)
					}
					raw, err := file.SyscallConn()
					if err != nil {
						t.Fatal(err)
					}
					if err := c.Hear(raw); err != nil {
						t.Fatal(err)
					}
				}
				hear(join(lo, group, from))
				return func() { hear(leave(lo, group, from)) }
			}
			a, b := g.bind(t, e, 5002, &Options{}), g.bind(t, e, 5003, &Options{})
			leave := only(a, g.peer)
			only(b, g.other)
			known(t, br, g.group, g.peer, true)
			known(t, br, g.group, g.other, true)
			say := func(port uint16) {
				for _, from := range []netip.Addr{g.peer, g.other} {
					g.send(t, br, from, g.group, port, "from "+from.String())
				}
				g.send(t, br, g.peer, g.us, port, "end")
			}
			say(5002)
			say(5003)
			for c, from := range map[*Socket]netip.Addr{a: g.peer, b: g.other} {
				if got := heard(t, c); !slices.Equal(got, []string{"from " + from.String()}) {
					t.Errorf("%v heard %q, joined from %v", c.LocalAddr(), got, from)
				}
			}
			leave()
			known(t, br, g.group, g.peer, false)
			known(t, br, g.group, g.other, true)
			say(5003)
			if got := heard(t, b); !slices.Equal(got, []string{"from " + g.other.String()}) {
				t.Errorf("after the other has left, %q is heard", got)
			}
		})
	}
}

// TestNICGroupLoop: what a socket sends to a group is heard by the members on its own
// host, unless IP_MULTICAST_LOOP is off, and by them alone if IP_MULTICAST_TTL is 0.
func TestNICGroupLoop(t *testing.T) {
	t.Parallel()
	es, errs := nics(t, "10.0.0.1/24 fd00::1/64", "10.0.0.2/24 fd00::2/64")
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, g := range groupFamilies {
		t.Run(g.group.String(), func(t *testing.T) {
			here, there := g.bind(t, es[0], 5000, &Options{}), g.bind(t, es[1], 5000, &Options{})
			for _, c := range []*Socket{here, there} {
				if err := c.Join(c.e.ifs[0].Index, g.group); err != nil {
					t.Fatal(err)
				}
			}
			for _, o := range []struct {
				text string
				ip   stack.IPOptions
			}{
				{"loop", stack.IPOptions{}},
				{"quiet", stack.IPOptions{Quiet4: true, Quiet6: true}},
				{"host", stack.IPOptions{Host4: true, Host6: true}},
				{strings.Repeat("long", 1000), stack.IPOptions{}},
				{"end", stack.IPOptions{}},
			} {
				c := g.bind(t, es[0], 0, &Options{ip: o.ip})
				if err := c.Join(es[0].ifs[0].Index, g.group); err != nil { // it sends by this link
					t.Fatal(err)
				}
				shard, err := c.To(g.group, 5000)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := shard.WriteTo([]byte(o.text), netip.AddrPortFrom(g.group, 5000)); err != nil {
					t.Fatal(err)
				}
			}
			cut := strings.Repeat("long", 25) // heard has 100 bytes for it
			if got := heard(t, here); !slices.Equal(got, []string{"loop", "host", cut}) {
				t.Errorf("this host hears %q", got)
			}
			if got := heard(t, there); !slices.Equal(got, []string{"loop", "quiet", cut}) {
				t.Errorf("the other host hears %q", got)
			}
		})
	}
}

// TestNICGroupsBound: past the bound a membership is refused, and what was joined stays.
func TestNICGroupsBound(t *testing.T) {
	var g nicGroups
	e := &Engine{cfg: Config{}}
	c := &Socket{e: e}
	var all []stack.Membership
	for i := range mostGroups + 1 {
		all = append(all, stack.Membership{Group: netip.AddrFrom4([4]byte{239, 0, byte(i >> 8), byte(i)}), Link: 1})
	}
	if err := g.set(e, c, all[:mostGroups]); err != nil {
		t.Fatal(err)
	}
	if err := g.set(e, c, all); err == nil || len(g.told) != mostGroups || len(g.joined[c]) != mostGroups {
		t.Errorf("one more: %v, %d groups", err, len(g.told))
	}
	if err := g.set(e, c, nil); err != nil || len(g.told) != 0 || len(g.joined) != 0 {
		t.Errorf("at the end: %v, %d groups of %d sockets", err, len(g.told), len(g.joined))
	}
}
