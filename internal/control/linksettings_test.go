package control

import (
	"testing"

	"github.com/onload-go/onload/internal/lab"
)

// TestLinkMTU6: the IPv6 MTU of a link counts where a route names none, for IPv6 only.
func TestLinkMTU6(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	setSysctl(t, p.A, "ipv6/conf/"+p.A.If+"/mtu", "1300")
	k := newKernel(t, p.A)
	for peer, want := range map[string]int{p.B.Addr4.String(): 1500, p.B.Addr6.String(): 1300, p.B.LinkLocal.String() + "%" + p.A.If: 1300} {
		if r, err := k.Route(Flow{Dst: addr(peer)}); err != nil || r.MTU != want {
			t.Errorf("%v: %v with an MTU of %d, want %d", peer, err, r.MTU, want)
		}
	}
}
