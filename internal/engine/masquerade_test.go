package engine_test

import (
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"testing"

	"github.com/onload-go/onload/internal/lab"
	"github.com/onload-go/onload/internal/need"
)

// TestMasquerade: a host behind A, which masquerades it, talks to R from ports that are
// those of A's accelerated flows to others.
func TestMasquerade(t *testing.T) {
	if _, err := exec.LookPath("nft"); err != nil {
		need.Missing(t, "nft, which is not installed (see .ci/run)")
	}
	u := newUplinks(t, 0)
	inner, err := lab.NewNS("inner")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { inner.Close() })
	outside, inside, err := lab.Veth(u.A, inner, lab.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range []string{u.a[0].If, outside.If} {
		if err := u.A.Sysctl("net.ipv4.conf."+l+".forwarding", "1"); err != nil {
			t.Fatal(err)
		}
	}
	nft := u.A.Command("nft", "-f", "-")
	nft.Stdin = strings.NewReader(fmt.Sprintf(`table ip onload {
		chain post { type nat hook postrouting priority 100; oifname %q masquerade; }
	}`, u.a[0].If))
	if out, err := nft.CombinedOutput(); err != nil {
		need.Missing(t, "a kernel that masquerades: nft: %v: %s", err, out)
	}
	u.lead(t, false, ways{0, 0})
	u.settle(t, false, ways{0, 0})
	u.ip(t, inner, fmt.Sprintf("route add 10.99.0.0/16 via %s dev %s", outside.Addr4, inside.If))

	for _, network := range []string{"tcp", "udp"} {
		at := func(n int) string {
			if network == "udp" {
				return u.echoUDP(t, far(false, n))
			}
			return netip.AddrPortFrom(far(false, n), 7).String()
		}
		ours, err := u.engine.Dial(network, at(1))
		if err != nil {
			t.Fatal(err)
		}
		defer ours.Close()
		local := netip.AddrPortFrom(inside.Addr4, netip.MustParseAddrPort(ours.LocalAddr().String()).Port())
		var theirs net.Conn
		err = inner.Do(func() (err error) {
			d := net.Dialer{Timeout: patience, LocalAddr: net.TCPAddrFromAddrPort(local)}
			if network == "udp" {
				d.LocalAddr = net.UDPAddrFromAddrPort(local)
			}
			theirs, err = d.Dial(network, at(2))
			return err
		})
		if err != nil {
			t.Fatalf("%s from port %d: %v", network, local.Port(), err)
		}
		defer theirs.Close()
		for range 3 {
			for _, c := range []net.Conn{ours, theirs} {
				if network == "udp" {
					echoed(t, c, c.Read, c.Write)
				} else {
					u.bulk(t, c, c)
				}
			}
		}
	}
}
