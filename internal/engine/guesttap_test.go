//go:build guest

package engine_test

import (
	"net"
	"os"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"go.uber.org/zap"

	"github.com/onload-go/onload/internal/need"
	onload "github.com/onload-go/onload/net"
)

// TestGuestTAP: a NIC by VFIO with a TAP device beside it. The kernel serves at one port
// of its address, onload at another, in bulk: the NIC merges what comes and leaves
// checksums to the receiver.
func TestGuestTAP(t *testing.T) {
	ns := guestPeer(t)
	nic := os.Getenv("VMRUN_NIC0_PCI")
	cfg := onload.Config{Interfaces: []string{nic}, Static: []string{nic + " tap nic0"}, Logger: zap.NewNop()}
	if !need.QEMUSegments() {
		cfg.Offloads = onload.OffloadsChecksum
	}
	e, err := onload.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	tap, err := netlink.LinkByName("nic0")
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range []string{"10.9.0.1/24", "fd09::1/64"} {
		addr, err := netlink.ParseAddr(a)
		if err != nil {
			t.Fatal(err)
		}
		addr.Flags = 2 // IFA_F_NODAD
		if err := netlink.AddrAdd(tap, addr); err != nil {
			t.Fatal(err)
		}
	}
	kernels, err := net.Listen("tcp", ":22")
	if err != nil {
		t.Fatal(err)
	}
	go hashed(t, kernels)
	ours, err := e.Listen("tcp", ":7")
	if err != nil {
		t.Fatal(err)
	}
	go hashed(t, ours)
	there, err := ns.Listen("tcp", ":9")
	if err != nil {
		t.Fatal(err)
	}
	go hashed(t, there)
	for us, them := range map[string]string{"10.9.0.1": "10.9.0.2", "fd09::1": "fd09::2"} {
		for _, port := range []string{"22", "7"} {
			c, err := ns.Dial("tcp", net.JoinHostPort(us, port))
			if err != nil {
				t.Fatalf("%s, port %s: %v", us, port, err)
			}
			bothWays(t, c)
		}
		c, err := e.Dial("tcp", net.JoinHostPort(them, "9"))
		if err != nil {
			t.Fatal(err)
		}
		if p := onload.PathOf(c); !p.Accelerated || !strings.HasPrefix(p.String(), nic) {
			t.Errorf("the path is %v", p)
		}
		bothWays(t, c)
		if c, err = net.Dial("tcp", net.JoinHostPort(them, "9")); err != nil {
			t.Fatal(err)
		}
		bothWays(t, c)
	}
}
