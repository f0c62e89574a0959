package control

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/lab"
	"github.com/onload-go/onload/ip"
)

// TestPathMTUExpires: a path MTU that the kernel knows ends with the kernel's.
func TestPathMTUExpires(t *testing.T) {
	for name, c := range map[string]struct {
		f       Flow
		gateway func(p *lab.Pair) netip.Addr
	}{
		"IPv4": {Flow{Dst: addr("203.0.113.5"), Proto: ip.ProtoUDP, TOS: 0x10}, func(p *lab.Pair) netip.Addr { return p.B.Addr4 }},
		"IPv6": {Flow{Dst: addr("2001:db8::5"), Proto: ip.ProtoUDP, TOS: 0x10}, func(p *lab.Pair) netip.Addr { return p.B.Addr6 }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := lab.NewPair(t, lab.Options{})
			pathMTUExpires(t, p, c.f, c.gateway(p))
		})
	}
}

func pathMTUExpires(t *testing.T, p *lab.Pair, f Flow, gateway netip.Addr) {
	family, name := unix.AF_INET, "ipv4"
	if f.Dst.Is6() {
		family, name = unix.AF_INET6, "ipv6"
	}
	setSysctl(t, p.A, name+"/route/mtu_expires", "1") // s
	nl := p.A.Netlink()
	if err := nl.RouteAdd(&netlink.Route{Table: 100, LinkIndex: p.A.Index, Gw: gateway.AsSlice()}); err != nil {
		t.Fatal(err)
	}
	rule := netlink.NewRule() // it has the kernel asked
	rule.Family, rule.Priority, rule.Table, rule.Tos = family, 50, 100, uint(f.TOS)
	if err := nl.RuleAdd(rule); err != nil {
		t.Fatal(err)
	}
	k := newKernel(t, p.A)
	r := record(t, k)
	mtu := func() int {
		route, err := k.Route(f)
		if err != nil {
			t.Fatal(err)
		}
		return route.MTU
	}
	if n := mtu(); n != 1500 {
		t.Fatalf("MTU %d before", n)
	}
	tooBig := router(t, p, f)
	r.reset()
	eventually(t, "the router's MTU", func() bool {
		tooBig()
		k.cache.forget()
		return mtu() == routersMTU
	})
	r.want(t, Change{Kind: RouteChanged})
	eventually(t, "the link's MTU", func() bool { return mtu() == 1500 })
}

// routersMTU is what a router says. Links of IPv6 take no less (RFC 8200, section 5).
const routersMTU = 1280

// router returns a function by which p.B tells a socket of p.A that its datagrams of
// the flow exceed routersMTU.
func router(t *testing.T, p *lab.Pair, f Flow) func() {
	t.Helper()
	level, name := unix.IPPROTO_IP, unix.IP_TOS
	icmpNetwork := "ip4:icmp"
	if f.Dst.Is6() {
		level, name = unix.IPPROTO_IPV6, unix.IPV6_TCLASS
		icmpNetwork = "ip6:ipv6-icmp"
	}
	var socket net.Conn
	err := p.A.Do(func() (err error) {
		d := net.Dialer{Control: func(_, _ string, c syscall.RawConn) (err error) {
			failed := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), level, name, int(f.TOS)) })
			return errors.Join(failed, err)
		}}
		socket, err = d.DialContext(context.Background(), "udp", netip.AddrPortFrom(f.Dst, 9).String())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { socket.Close() })
	var raw net.PacketConn
	if err := p.B.Do(func() (err error) { raw, err = net.ListenPacket(icmpNetwork, ""); return err }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { raw.Close() })
	local := socket.LocalAddr().(*net.UDPAddr)
	message := tooBig(local.AddrPort(), f)
	return func() {
		if _, err := raw.WriteTo(message, &net.IPAddr{IP: local.IP}); err != nil {
			t.Fatal(err)
		}
	}
}

// tooBig is the ICMP error for a datagram of 1500 bytes (RFC 1191, section 4; RFC 4443,
// section 3.2, whose checksum the kernel computes).
func tooBig(local netip.AddrPort, f Flow) []byte {
	udp := binary.BigEndian.AppendUint16(nil, local.Port())
	udp = append(udp, 0, 9, 5, 0, 0, 0) // to port 9
	src, dst := local.Addr().Unmap().AsSlice(), f.Dst.AsSlice()
	if f.Dst.Is6() {
		b := []byte{2, 0, 0, 0, 0, 0, routersMTU >> 8, routersMTU & 0xff}
		b = append(b, 6<<4|f.TOS>>4, f.TOS<<4, 0, 0, 1460>>8, 1460&0xff, f.Proto, 1)
		return slices.Concat(b, src, dst, udp)
	}
	b := []byte{3, 4, 0, 0, 0, 0, routersMTU >> 8, routersMTU & 0xff}
	b = append(b, 0x45, f.TOS, 1500>>8, 1500&0xff, 0, 0, 0x40, 0, 1, f.Proto, 0, 0)
	b = slices.Concat(b, src, dst, udp)
	binary.BigEndian.PutUint16(b[2:], ^ip.Sum(b))
	return b
}
