package onload_test

import (
	"net"
	"net/netip"
	"testing"

	"github.com/onload-go/onload/internal/lab"
	onload "github.com/onload-go/onload/net"
)

// An interface without a link-local address (addr_gen_mode 1) reaches its IPv6
// neighbours.
func TestDialWithoutLinkLocal(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	if err := p.A.DelAddr(netip.PrefixFrom(p.A.LinkLocal, 64)); err != nil {
		t.Fatal(err)
	}
	e := vethEngine(t, p.A, onload.Config{})
	ln, err := p.B.Listen("tcp", net.JoinHostPort(p.B.Addr6.String(), "0"))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go echoing(ln)
	pingEcho(t, e, ln.Addr().String())
}
