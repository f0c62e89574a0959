package drivertest

import (
	"errors"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// steers reports whether a packet of f comes to B. Port 7 of UDP over IPv4 is
// always ours, for the packet sent after it.
func (l *Ends) steers(t *testing.T, f flow) bool {
	t.Helper()
	b, _ := f.packet(pattern(60, 1), false)
	l.A.send(t, b)
	last := l.datagram(60, 2)
	l.A.send(t, last)
	return len(l.B.receiveUntil(t, last)) == 1
}

func (l *Ends) wantSteer(t *testing.T, what string, f flow, want bool) {
	t.Helper()
	if got := l.steers(t, f); got != want {
		t.Errorf("%s: ours is %v", what, got)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Error(err)
	}
}

func testPorts(t *testing.T, l *Ends) {
	l.ready(t)
	f4, f6 := l.flow(tcp, false), l.flow(tcp, true)
	f4.dest, f6.dest = 80, 80
	any4 := netip.AddrPortFrom(netip.IPv4Unspecified(), 80)
	any6 := netip.AddrPortFrom(netip.IPv6Unspecified(), 80)
	exact := netip.AddrPortFrom(l.B.Addr4, 80)
	both := netip.AddrPortFrom(netip.Addr{}, 80)
	for _, s := range []struct {
		local    netip.AddrPort
		got4, v6 bool
	}{{exact, true, false}, {any4, true, false}, {any6, false, true}, {both, true, true}} {
		l.wantSteer(t, "nothing added, IPv4", f4, false)
		must(t, l.B.AddPort(tcp, s.local))
		must(t, l.B.AddPort(tcp, s.local))
		must(t, l.B.RemovePort(tcp, s.local))
		l.wantSteer(t, s.local.String()+", IPv4", f4, s.got4)
		l.wantSteer(t, s.local.String()+", IPv6", f6, s.v6)
		must(t, l.B.RemovePort(tcp, s.local))
		l.wantSteer(t, s.local.String()+" removed, IPv6", f6, false)
		if err := l.B.RemovePort(tcp, s.local); !errors.Is(err, unix.ENOENT) {
			t.Errorf("removed once more: %v", err)
		}
	}
	must(t, l.B.AddPort(udp, exact))
	l.wantSteer(t, "other protocol", f4, false)
	if err := l.B.AddPort(1, exact); !errors.Is(err, unix.EPROTONOSUPPORT) {
		t.Errorf("ICMP: %v", err)
	}
	if err := l.B.AddPort(tcp, netip.AddrPortFrom(l.B.Addr4, 0)); !errors.Is(err, unix.EINVAL) {
		t.Errorf("port 0: %v", err)
	}
}

func testFlows(t *testing.T, l *Ends) {
	l.ready(t)
	for _, v6 := range []bool{false, true} {
		f := l.flow(tcp, v6)
		f.dest = 80
		src, dst := f.addrs()
		local, remote := netip.AddrPortFrom(dst, f.dest), netip.AddrPortFrom(src, f.src)
		other := f
		other.src++
		must(t, l.B.AddFlow(tcp, local, remote, true))
		l.wantSteer(t, "flow", f, true)
		l.wantSteer(t, "flow beside", other, false)
		must(t, l.B.AddPort(tcp, local))
		l.wantSteer(t, "port", other, true)
		must(t, l.B.AddFlow(tcp, local, remote, false))
		l.wantSteer(t, "the last added decides", f, false)
		must(t, l.B.RemoveFlow(tcp, local, remote))
		l.wantSteer(t, "one is left", f, false)
		must(t, l.B.RemoveFlow(tcp, local, remote))
		l.wantSteer(t, "none is left", f, true)
		must(t, l.B.RemovePort(tcp, local))
		l.wantSteer(t, "nor a port", f, false)
		if err := l.B.RemoveFlow(tcp, local, remote); !errors.Is(err, unix.ENOENT) {
			t.Errorf("removed once more: %v", err)
		}
		for what, r := range map[string]netip.AddrPort{
			"no address": netip.AddrPortFrom(netip.Addr{}, 1),
			"any":        netip.AddrPortFrom(netip.IPv6Unspecified(), 1),
			"port 0":     netip.AddrPortFrom(src, 0),
		} {
			if err := l.B.AddFlow(tcp, local, r, true); !errors.Is(err, unix.EINVAL) {
				t.Errorf("%s: %v", what, err)
			}
		}
	}
}
