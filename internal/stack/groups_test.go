package stack

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/onload-go/onload/internal/allocs"
	"github.com/onload-go/onload/udp"
)

var (
	group4 = netip.MustParseAddr("239.1.2.3")
	group6 = netip.MustParseAddr("ff05::1:3")
)

// hearer opens a socket of b's that hears what h says at port, of group's family.
func hearer(t testing.TB, b *Stack, group netip.AddrPort, h Hearing) *UDPConn {
	t.Helper()
	at := netip.AddrPortFrom(netip.IPv6Unspecified(), group.Port())
	if group.Addr().Is4() {
		at = netip.AddrPortFrom(netip.IPv4Unspecified(), group.Port())
	}
	u, err := b.OpenUDP(at, netip.AddrPort{}, &UDPOptions{GroupsOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { u.Close() })
	u.Hear(h)
	return u
}

// sender opens a socket of a's that sends to groups.
func sender(t testing.TB, a *Stack, group netip.Addr, o *UDPOptions) *UDPConn {
	t.Helper()
	from := addrA
	if !group.Is4() {
		from = six[addrA]
	}
	u, err := a.OpenUDP(netip.AddrPortFrom(from, 0), netip.AddrPort{}, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { u.Close() })
	return u
}

// steer has b's link bring the groups.
func steer(t testing.TB, b *Stack, groups ...netip.AddrPort) {
	t.Helper()
	for _, g := range groups {
		if err := b.SteerGroup(1, g, true); err != nil {
			t.Fatal(err)
		}
	}
}

// readAll reads the datagrams that u has before one that is "end".
func readAll(t *testing.T, u *UDPConn) (got []string) {
	t.Helper()
	buf := make([]byte, 4096)
	u.SetReadDeadline(time.Now().Add(patience))
	for {
		n, _, _, _, err := u.ReadFrom(buf)
		if err != nil {
			t.Fatal(err)
		}
		if string(buf[:n]) == "end" {
			return got
		}
		got = append(got, string(buf[:n]))
	}
}

// TestGroupFilters: each socket gets what its memberships let through, as the
// kernel's ip_mc_sf_allow and inet6_mc_check.
func TestGroupFilters(t *testing.T) {
	for _, group := range []netip.Addr{group4, group6} {
		t.Run(group.String(), func(t *testing.T) {
			a, b := newPair(t, pairOptions{})
			other := group.Next()
			at, elsewhere, end := netip.AddrPortFrom(group, 5000), netip.AddrPortFrom(other, 5000), netip.AddrPortFrom(other.Next(), 5000)
			steer(t, b, at, elsewhere, end)
			from, stranger := addrA, addrB
			if !group.Is4() {
				from, stranger = six[addrA], six[addrB]
			}
			joined := func(ms ...Membership) Hearing {
				return Hearing{Joined: append(ms, Membership{Group: end.Addr(), Link: 1}), Strict4: true, Strict6: true}
			}
			wrongLink := []string(nil)
			if !group.Is4() {
				wrongLink = []string{"here"}
			}
			for _, c := range []struct {
				name string
				h    Hearing
				want []string
			}{
				{"joined", joined(Membership{Group: group, Link: 1}), []string{"here"}},
				{"both", joined(Membership{Group: group, Link: 1}, Membership{Group: other, Link: 1}), []string{"here", "there"}},
				{"by another link", joined(Membership{Group: group, Link: 2}), wrongLink},
				{"from the sender", joined(Membership{Group: group, Link: 1, Include: true, Sources: []netip.Addr{stranger, from}}), []string{"here"}},
				{"from another", joined(Membership{Group: group, Link: 1, Include: true, Sources: []netip.Addr{stranger}}), nil},
				{"from nobody", joined(Membership{Group: group, Link: 1, Include: true}), nil},
				{"not from the sender", joined(Membership{Group: group, Link: 1, Sources: []netip.Addr{from}}), nil},
				{"not from another", joined(Membership{Group: group, Link: 1, Sources: []netip.Addr{stranger}}), []string{"here"}},
				{"left", joined(), nil},
				{"new", Hearing{}, []string{"here", "there"}},
				{"all others", Hearing{Joined: []Membership{{Group: group, Link: 1, Include: true}}}, []string{"there"}},
			} {
				t.Run(c.name, func(t *testing.T) {
					u := hearer(t, b, at, c.h)
					hearer(t, b, netip.AddrPortFrom(group, 5001), Hearing{}) // another port
					s := sender(t, a, group, nil)
					for _, m := range []struct {
						to   netip.AddrPort
						data string
					}{{at, "here"}, {elsewhere, "there"}, {end, "end"}} {
						if _, err := s.WriteTo([]byte(m.data), m.to); err != nil {
							t.Fatal(err)
						}
					}
					if got := readAll(t, u); !slices.Equal(got, c.want) {
						t.Errorf("got %q, want %q", got, c.want)
					}
				})
			}
		})
	}
}

// TestGroupToAll: every socket gets each datagram, whole and in order, also those
// of several frames, and no frame is lost.
func TestGroupToAll(t *testing.T) {
	for _, group := range []netip.Addr{group4, group6} {
		t.Run(group.String(), func(t *testing.T) {
			a, b := newPair(t, pairOptions{})
			free := b.Stats().FreeFrames
			at := netip.AddrPortFrom(group, 5000)
			steer(t, b, at)
			const sockets, rounds = 20, 50
			var us []*UDPConn
			for range sockets {
				us = append(us, hearer(t, b, at, Hearing{Joined: []Membership{{Group: group, Link: 1}}}))
			}
			s := sender(t, a, group, nil)
			sizes := []int{8, 100, 1400, 5000}
			for i := range rounds {
				p := make([]byte, sizes[i%len(sizes)])
				for k := range p {
					p[k] = byte(i + k)
				}
				binary.BigEndian.PutUint32(p, uint32(i))
				if _, err := s.WriteTo(p, at); err != nil {
					t.Fatal(err)
				}
				var wg sync.WaitGroup
				for _, u := range us {
					wg.Go(func() {
						buf := make([]byte, 8192)
						u.SetReadDeadline(time.Now().Add(patience))
						n, _, src, dst, err := u.ReadFrom(buf)
						if err != nil || src != s.LocalAddr() || dst != at || !slices.Equal(buf[:n], p) {
							t.Errorf("datagram %d: %d bytes from %v to %v, %v", i, n, src, dst, err)
						}
					})
				}
				if wg.Wait(); t.Failed() {
					return
				}
			}
			for _, u := range us {
				u.Close()
			}
			takeAll(b)
			locked(b, func() { b.cache.Flush() })
			if now := b.Stats().FreeFrames; now < free {
				t.Errorf("%d frames are lost", free-now)
			}
			if len(b.groups.ports) != 0 {
				t.Errorf("%d ports are left", len(b.groups.ports))
			}
		})
	}
}

// TestGroupHeaders: a group's datagrams go to the group's MAC address, with a TTL of
// 1 unless the socket or the message says otherwise.
func TestGroupHeaders(t *testing.T) {
	for _, group := range []netip.Addr{group4, group6} {
		a, b := newPair(t, pairOptions{})
		at := netip.AddrPortFrom(group, 5000)
		steer(t, b, at)
		u := hearer(t, b, at, Hearing{})
		s := sender(t, a, group, &UDPOptions{IP: IPOptions{TTL: 99, HopLimit: 99}})
		c := sender(t, a, group, &UDPOptions{IP: IPOptions{MulticastTTL: 7, MulticastHops: 7}})
		for _, m := range []struct {
			u    *UDPConn
			ttl  uint8
			want uint8
		}{{s, 0, 1}, {c, 0, 7}, {c, 9, 9}} {
			if _, err := m.u.WriteMsg([]byte("x"), &Message{Dst: at, TTL: m.ttl}); err != nil {
				t.Fatal(err)
			}
			var info udp.Info
			_, _, err := u.ReadInfo(make([]byte, 10), &info)
			if err != nil || info.TTL != m.want {
				t.Errorf("TTL %d, want %d, %v", info.TTL, m.want, err)
			}
		}
	}
}

// TestGroupAllocs: a datagram to many sockets allocates nothing.
func TestGroupAllocs(t *testing.T) {
	a, b := newPair(t, pairOptions{})
	at := netip.AddrPortFrom(group4, 5000)
	steer(t, b, at)
	var us []*UDPConn
	for range 8 {
		us = append(us, hearer(t, b, at, Hearing{Joined: []Membership{{Group: group4, Link: 1}}}))
	}
	s := sender(t, a, group4, nil)
	p, buf := make([]byte, 100), make([]byte, 200)
	n := allocs.PerRun(100, func() {
		if _, err := s.WriteTo(p, at); err != nil {
			t.Fatal(err)
		}
		for _, u := range us {
			if _, _, _, _, err := u.ReadFrom(buf); err != nil {
				t.Fatal(err)
			}
		}
	})
	if n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestNotifyOnce: a goroutine that waits is woken once in a turn, though others are
// woken between its datagrams.
func TestNotifyOnce(t *testing.T) {
	_, b := newPair(t, pairOptions{})
	locked(b, func() {
		var ws [3]waiter
		for range 4 {
			for i := range ws {
				ws[i].state.Store(waiterParked)
				b.notify(&ws[i])
			}
		}
		if n := len(b.turn.wakes); n != len(ws) {
			t.Errorf("%d goroutines are to be woken, not %d", n, len(ws))
		}
		b.turn.wakes = b.turn.wakes[:0]
	})
}

// BenchmarkGroup is a datagram of 100 bytes from one socket to many, which read it
// one after another.
func BenchmarkGroup(b *testing.B) {
	for _, sockets := range []int{1, 10, 100} {
		b.Run(fmt.Sprint(sockets), func(b *testing.B) {
			x, y := newPair(b, pairOptions{})
			at := netip.AddrPortFrom(group4, 5000)
			steer(b, y, at)
			var us []*UDPConn
			for range sockets {
				us = append(us, hearer(b, y, at, Hearing{}))
			}
			s := sender(b, x, group4, nil)
			p, buf := make([]byte, 100), make([]byte, 200)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.WriteTo(p, at); err != nil {
					b.Fatal(err)
				}
				for _, u := range us {
					if _, _, _, _, err := u.ReadFrom(buf); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}
