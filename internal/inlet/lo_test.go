package inlet

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/onload-go/onload/internal/lab"
)

// TestLoopbackIsTheKernels: a client by lo reaches the kernel's listener, whatever
// flow of ours its addresses are those of.
func TestLoopbackIsTheKernels(t *testing.T) {
	lab.NeedRoot(t)
	ns, err := lab.NewNS("inlet")
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	in, err := Open(ns.Handle(), zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	for _, addr := range []string{"127.0.0.1:8080", "[::1]:8080"} {
		local := netip.MustParseAddrPort(addr)
		remote := netip.AddrPortFrom(local.Addr(), 9090)
		in.Add(false, local, remote)
		if !in.takes(t, false, local, remote) {
			t.Fatal("the flow would not be taken by any other link")
		}
		l, err := ns.Listen("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		err = ns.Do(func() error {
			d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(remote), Timeout: time.Minute}
			c, err := d.Dial("tcp", addr)
			if err == nil {
				c.Close()
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
		l.Close()
	}
}
