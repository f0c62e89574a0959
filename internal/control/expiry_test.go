package control

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/lab"
	"github.com/onload-go/onload/ip"
)

// TestPathMTUExpires: a path MTU that the kernel knows ends with the kernel's.
func TestPathMTUExpires(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	setSysctl(t, p.A, "ipv4/route/mtu_expires", "1") // s
	nl := p.A.Netlink()
	if err := nl.RouteAdd(&netlink.Route{Table: 100, LinkIndex: p.A.Index, Gw: p.B.Addr4.AsSlice()}); err != nil {
		t.Fatal(err)
	}
	rule := netlink.NewRule() // it has the kernel asked
	rule.Family, rule.Priority, rule.Table, rule.Tos = unix.AF_INET, 50, 100, 0x10
	if err := nl.RuleAdd(rule); err != nil {
		t.Fatal(err)
	}
	k := newKernel(t, p.A)
	r := record(t, k)
	f := Flow{Dst: addr("203.0.113.5"), Proto: ip.ProtoUDP, TOS: 0x10}
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
		tooBig(1000)
		k.cache.forget()
		return mtu() == 1000
	})
	r.want(t, Change{Kind: RouteChanged})
	eventually(t, "the link's MTU", func() bool { return mtu() == 1500 })
}

// router returns a function by which p.B tells a socket of p.A that its datagrams of
// the flow exceed an MTU (RFC 1191, section 4).
func router(t *testing.T, p *lab.Pair, f Flow) func(mtu int) {
	t.Helper()
	var socket net.Conn
	err := p.A.Do(func() (err error) {
		d := net.Dialer{Control: func(_, _ string, c syscall.RawConn) (err error) {
			failed := c.Control(func(fd uintptr) {
				err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_TOS, int(f.TOS))
			})
			return errors.Join(failed, err)
		}}
		socket, err = d.DialContext(context.Background(), "udp4", netip.AddrPortFrom(f.Dst, 9).String())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { socket.Close() })
	var raw net.PacketConn
	if err := p.B.Do(func() (err error) { raw, err = net.ListenPacket("ip4:icmp", ""); return err }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { raw.Close() })
	local := socket.LocalAddr().(*net.UDPAddr)
	h := ipv4.Header{Version: 4, Len: ipv4.HeaderLen, TotalLen: 1500, TOS: int(f.TOS), TTL: 1, Protocol: unix.IPPROTO_UDP, Src: local.IP, Dst: f.Dst.AsSlice(), Flags: ipv4.DontFragment}
	quoted, err := h.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	quoted = binary.BigEndian.AppendUint16(quoted, uint16(local.Port))
	quoted = append(quoted, 0, 9, 1500>>8, 1500&0xff, 0, 0)
	return func(mtu int) {
		m := icmp.Message{Type: ipv4.ICMPTypeDestinationUnreachable, Code: 4, Body: &icmp.DstUnreach{Data: quoted}}
		b, err := m.Marshal(nil)
		if err != nil {
			t.Fatal(err)
		}
		binary.BigEndian.PutUint16(b[6:], uint16(mtu))
		binary.BigEndian.PutUint16(b[2:], 0)
		binary.BigEndian.PutUint16(b[2:], ^ip.Sum(b))
		if _, err := raw.WriteTo(b, &net.IPAddr{IP: local.IP}); err != nil {
			t.Fatal(err)
		}
	}
}
