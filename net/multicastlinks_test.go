package onload_test

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/lab"
	onload "github.com/onload-go/onload/net"
)

// groupScene has a few sockets that join a group on one of two links, on both or
// on none, and may be strict (IP_MULTICAST_ALL is off).
type groupScene struct {
	p       *lab.Pair
	at, far [2]*lab.Link // of A and B
	network string
	group   netip.Addr
}

var sceneSockets = []struct {
	links  []int
	strict bool
}{{[]int{0}, false}, {[]int{1}, false}, {[]int{0, 1}, true}, {[]int{0}, true}, {[]int{1}, true}, {nil, true}, {nil, false}}

// play has h's sockets join, and returns what each receives of a datagram by each
// link.
func (s *groupScene) play(t *testing.T, h host) (got []string) {
	t.Helper()
	end := s.group.Next()
	var cs []net.PacketConn
	for _, k := range sceneSockets {
		c, err := h.ListenPacket(s.network, netip.AddrPortFrom(s.group, groupPort).String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		cs = append(cs, c)
		if k.strict {
			strict := [3]int{unix.IPPROTO_IP, unix.IP_MULTICAST_ALL, 0}
			if !s.group.Is4() {
				strict = [3]int{unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_ALL, 0}
			}
			setUDP(t, c.(syscall.Conn), strict)
		}
		var x groupConn = ipv4.NewPacketConn(c)
		if !s.group.Is4() {
			x = ipv6.NewPacketConn(c)
		}
		for i, l := range s.at {
			ifi := &net.Interface{Index: l.Index, Name: l.If}
			if err := x.JoinGroup(ifi, udpAddrOf(end, 0)); err != nil {
				t.Fatal(err)
			}
			if slices.Contains(k.links, i) {
				if err := x.JoinGroup(ifi, udpAddrOf(s.group, 0)); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	for _, group := range []netip.Addr{s.group, end} {
		for i, l := range s.far {
			text := fmt.Sprint("by ", i)
			if group == end {
				text = fmt.Sprint("end ", i)
			}
			s.send(t, l, group, text)
		}
	}
	for _, c := range cs {
		got = append(got, s.readEnds(t, c))
	}
	return got
}

// send sends a datagram from a kernel socket by that link of B's.
func (s *groupScene) send(t *testing.T, l *lab.Link, group netip.Addr, text string) {
	t.Helper()
	from := l.Addr4
	if !group.Is4() {
		from, group = l.Addr6, group.WithZone(l.If)
	}
	c := kernelSocket(t, s.p.B, netip.AddrPortFrom(from, 0).String())
	if _, err := c.WriteToUDPAddrPort([]byte(text), netip.AddrPortFrom(group, groupPort)); err != nil {
		t.Fatal(err)
	}
}

// readEnds returns what c reads until the ends by both links have come, sorted.
func (s *groupScene) readEnds(t *testing.T, c net.PacketConn) string {
	t.Helper()
	var texts []string
	buf := make([]byte, 100)
	c.SetReadDeadline(time.Now().Add(udpPatience))
	for ends := 0; ends < 2; {
		n, _, err := c.ReadFrom(buf)
		if err != nil {
			t.Fatalf("%v, after %q", err, texts)
		}
		if text := string(buf[:n]); strings.HasPrefix(text, "end") {
			ends++
		} else {
			texts = append(texts, text)
		}
	}
	slices.Sort(texts)
	return strings.Join(texts, ", ")
}

// TestMulticastLinks: each socket gets by each of two links what the kernel's gets.
func TestMulticastLinks(t *testing.T) {
	for _, g := range groups {
		t.Run(g.network, func(t *testing.T) {
			p := lab.NewPair(t, lab.Options{})
			s := &groupScene{p: p, at: [2]*lab.Link{p.A.Link}, far: [2]*lab.Link{p.B.Link}, network: g.network, group: g.group}
			var err error
			if s.at[1], s.far[1], err = lab.Veth(p.A, p.B, lab.Options{}); err != nil {
				t.Fatal(err)
			}
			pin(t)
			want := s.play(t, p.A)
			cfg := onload.Config{NetNS: p.A.Path, Interfaces: []string{s.at[0].If, s.at[1].If}, Frames: 2048, RingSize: 512}
			e, err := onload.New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer e.Close()
			before := received(e, p.A)
			got := s.play(t, e)
			for i, k := range sceneSockets {
				if got[i] != want[i] {
					t.Errorf("joined on %v, strict %v: %q, the kernel's %q", k.links, k.strict, got[i], want[i])
				}
			}
			most := uint64(4 * len(sceneSockets))
			if n := received(e, p.A) - before; n <= 2*uint64(len(sceneSockets)) || n > most {
				t.Errorf("the stack gave %d datagrams to sockets", n)
			}
			t.Logf("%q", want)
		})
	}
}
