//go:build guest

package engine_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/onload-go/onload/internal/need"
	"github.com/onload-go/onload/internal/vmrun/monitor"
	onload "github.com/onload-go/onload/net"
)

// TestGuestServers: over VFIO the stack has its addresses from dnsmasq and radvd. When
// QEMU takes the link down, dials hear of it; when the link is up again the server
// confirms the lease, and what was connected goes on.
func TestGuestServers(t *testing.T) {
	ns := guestPeer(t)
	log := ns.Dnsmasq(t, "--port=0", "--dhcp-range=10.9.0.100,10.9.0.100,1h", "--dhcp-option=option:router,10.9.0.2")
	ns.Radvd(t, "\tprefix fd09::/64 { };")
	nic := os.Getenv("VMRUN_NIC0_PCI")
	cfg := onload.Config{Interfaces: []string{nic}, Static: []string{nic + " dhcp slaac"}, Logger: zap.NewNop()}
	if !need.QEMUSegments() {
		cfg.Offloads = onload.OffloadsChecksum
	}
	e, err := onload.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	l, err := ns.Listen("tcp", ":7")
	if err != nil {
		t.Fatal(err)
	}
	go hashed(t, l)
	open := func(to string) net.Conn {
		t.Helper()
		c, err := e.Dial("tcp", to)
		if err != nil {
			t.Fatalf("%s: %v", to, err)
		}
		t.Cleanup(func() { c.Close() })
		if !onload.PathOf(c).Accelerated {
			t.Errorf("%s: the path is %v", to, onload.PathOf(c))
		}
		return c
	}
	four, six := open("10.9.0.2:7"), open("[fd09::2]:7")
	served, err := e.Listen("tcp", "10.9.0.100:0")
	if err != nil {
		t.Fatal(err)
	}
	go hashed(t, served)
	in, err := ns.Dial("tcp", served.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if err := exchange(in, 100_000); err != nil {
		t.Error(err)
	}
	waitFor(t, "the lease", func() bool { return strings.Contains(log.String(), "DHCPACK") })

	acks := strings.Count(log.String(), "DHCPACK")
	setLink(t, false)
	waitFor(t, "a dial hears that the link is down", func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second) // the SYN may be lost
		defer cancel()
		c, err := e.DialContext(ctx, "tcp", "10.9.0.2:7")
		if err == nil {
			c.Close()
		}
		return errors.Is(err, syscall.ENETUNREACH)
	})
	setLink(t, true)
	waitFor(t, "the lease is confirmed", func() bool { return strings.Count(log.String(), "DHCPACK") > acks })
	for _, c := range []net.Conn{four, six, open("10.9.0.2:7")} {
		if err := exchange(c, 100_000); err != nil {
			t.Errorf("%v: %v", c.RemoteAddr(), err)
		}
	}
}

// setLink takes the link of the NIC that is mapped down or up.
func setLink(t *testing.T, up bool) {
	t.Helper()
	monitor.Command(t, fmt.Sprintf(`{"execute": "set_link", "arguments": {"name": "nic0", "up": %v}}`, up))
}

// waitFor waits until fn reports true.
func waitFor(t *testing.T, what string, fn func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !fn(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("this does not happen: ", what)
		}
	}
}
