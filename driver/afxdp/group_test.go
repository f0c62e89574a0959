package afxdp

import (
	"net"
	"net/netip"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/lab"
)

// groupFrame is a datagram to a group, in a frame to the address that is its own
// (RFC 1112, 6.4; RFC 2464, 7).
func groupFrame(from host, group netip.Addr, port uint16, tags ...uint16) []byte {
	g := group.As16()
	mac := [6]byte{0x33, 0x33, g[12], g[13], g[14], g[15]}
	if group.Is4() {
		mac = [6]byte{1, 0, 0x5e, g[13] & 0x7f, g[14], g[15]}
	}
	l4 := udpOf(netip.AddrPortFrom(from.addr, 9), netip.AddrPortFrom(group, port), pattern(30))
	return ethOf(from.mac, mac, ipOf(from.addr, group, udp, 5, 0, 0, l4), tags...)
}

// TestGroupSteering: a group's datagrams are ours by an entry of its own, and by
// none for all addresses, unless another socket of the kernel was bound to the port
// after ours.
func TestGroupSteering(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.String(), func(t *testing.T) {
			p := lab.NewPair(t, lab.Options{Neighbors: true})
			d := openAt(t, p.A, Config{Mode: mode})
			inject := injector(t, p.B)
			must(t, d.AddPort(udp, anyPort(1)))
			must(t, d.AddPort(udp, anyPort(100)))
			sentinel := datagram(v4of(p.B), v4of(p.A), 7, 1, pattern(20))
			for _, c := range []struct {
				network string
				from    host
				group   netip.Addr
				wild    string
			}{
				{"udp4", v4of(p.B), netip.MustParseAddr("239.1.2.3"), "0.0.0.0:100"},
				{"udp6", v6of(p.B), netip.MustParseAddr("ff05::1:3"), "[::]:100"},
			} {
				t.Run(c.network, func(t *testing.T) {
					at := netip.AddrPortFrom(c.group, 100)
					frame := groupFrame(c.from, c.group, 100)
					see := func(what string, frame []byte, ours bool) {
						t.Helper()
						t.Log(what)
						expect(t, d, func() { inject(frame) }, func() { inject(sentinel) }, frame, sentinel, ours)
					}
					see("no entry", frame, false)
					must(t, d.AddPort(udp, at))
					see("no socket", frame, true)
					see("another port", groupFrame(c.from, c.group, 101), false)
					see("port 0", groupFrame(c.from, c.group, 0), false)
					see("another group", groupFrame(c.from, c.group.Next(), 100), false)
					see("of a VLAN", groupFrame(c.from, c.group, 100, 5), false)
					bind := func(priority int) net.PacketConn {
						l := net.ListenConfig{Control: reuse(priority)}
						var c2 net.PacketConn
						must(t, p.A.Do(func() (err error) {
							c2, err = l.ListenPacket(t.Context(), c.network, c.wild)
							return err
						}))
						return c2
					}
					twin := bind(GroupPriority())
					defer twin.Close()
					see("our own socket", frame, true)
					other := bind(0)
					see("another socket", frame, false)
					other.Close()
					see("that socket is closed", frame, true)
					must(t, d.RemovePort(udp, at))
					see("left", frame, false)
				})
			}
			if c, err := d.Counters(); err != nil || c.PassGroup != 2 {
				t.Errorf("%+v, %v", c, err)
			}
		})
	}
}

// reuse is a Control hook that sets SO_REUSEADDR and SO_PRIORITY.
func reuse(priority int) func(network, address string, c syscall.RawConn) error {
	return func(_, _ string, c syscall.RawConn) (err error) {
		if cerr := c.Control(func(fd uintptr) {
			if err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err == nil {
				err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PRIORITY, priority)
			}
		}); cerr != nil {
			return cerr
		}
		return err
	}
}
