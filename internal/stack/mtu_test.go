package stack

import (
	"net/netip"
	"testing"

	"github.com/onload-go/onload/internal/control"
)

// A route's MTU holds for connections from both sides, and for the MSS that
// the peer is told.
func TestRouteMTU(t *testing.T) {
	for _, to := range []netip.Addr{addrB, six[addrB]} {
		const mtu = 1400
		var route *control.Static
		a, b := newPair(t, pairOptions{config: func(c *Config) { route = c.Net.(*control.Static) }})
		from := addrA
		if to.Is6() {
			from = six[addrA]
		}
		// The second that newPair made is b's.
		route.AddRoute(control.StaticRoute{Dst: netip.PrefixFrom(from, from.BitLen()), Link: 1, MTU: mtu})
		hdr := 40
		if to.Is6() {
			hdr = 60
		}
		c, s := connect(t, a, b, to) // passive there
		if i, _ := s.Info(); i.PathMTU != mtu || i.SendMSS != mtu-hdr-12 {
			t.Errorf("%v: the server's MTU is %d, MSS %d", to, i.PathMTU, i.SendMSS)
		}
		if i, _ := c.Info(); i.SendMSS != mtu-hdr-12 {
			t.Errorf("%v: the client sends %d bytes, the server's route takes %d", to, i.SendMSS, mtu)
		}
		d, _ := connect(t, b, a, from) // active
		if i, _ := d.Info(); i.PathMTU != mtu || i.SendMSS != mtu-hdr-12 {
			t.Errorf("%v: dialled with MTU %d, MSS %d", to, i.PathMTU, i.SendMSS)
		}
	}
}
