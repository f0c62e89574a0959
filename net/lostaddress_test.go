package onload_test

import (
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/onload-go/onload/internal/lab"
	onload "github.com/onload-go/onload/net"
)

// TestDialAddressLost: an address may go between the look-up of the route and the
// SYN, as when a link comes up again. EADDRNOTAVAIL then is the kernel's answer only,
// never one that comes of what we knew before.
func TestDialAddressLost(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	e := vethEngine(t, p.A, onload.Config{})
	port := serve(t, p.B, p.B.Addr4.String()+":0")
	u, err := p.B.ListenPacket("udp", p.B.Addr4.String()+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	_, udpPort, err := net.SplitHostPort(u.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	at := p.A.Addr4
	for network, port := range map[string]string{"tcp": port, "udp": udpPort} {
		// move replaces the address of the interface by the next one.
		move := func() error {
			l, err := netlink.LinkByName(p.A.If)
			if err != nil {
				return err
			}
			addrs, err := netlink.AddrList(l, netlink.FAMILY_V4)
			if err != nil {
				return err
			}
			for _, a := range addrs {
				if err := netlink.AddrDel(l, &a); err != nil {
					return err
				}
				for at = at.Next(); at == p.B.Addr4; at = at.Next() {
				}
				a.IP, a.Broadcast, a.Label = at.AsSlice(), nil, ""
				if err := netlink.AddrAdd(l, &a); err != nil {
					return err
				}
			}
			return nil
		}
		d := onload.Dialer{Engine: e, Timeout: time.Minute, Control: func(_, _ string, _ syscall.RawConn) error {
			return p.A.Do(move)
		}}
		c, err := d.Dial(network, p.B.Addr4.String()+":"+port)
		if err != nil {
			t.Errorf("%s: %v", network, err)
			continue
		}
		if host, _, _ := net.SplitHostPort(c.LocalAddr().String()); host != at.String() {
			t.Errorf("%s: from %s, want %s", network, host, at)
		}
		c.Close()
	}
}
