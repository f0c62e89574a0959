package capture

import (
	"io"
	"net/netip"
	"syscall"
	"testing"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/driver/drivertest"
	"github.com/onload-go/onload/driver/sim"
)

// A device that is captured keeps the driver's contract.
func TestContract(t *testing.T) {
	drivertest.Run(t, func(t *testing.T) *drivertest.Ends {
		c, err := New(io.Discard, Options{})
		if err != nil {
			t.Fatal(err)
		}
		cfg := sim.Config{MTU: 9000, TSO: 65535, TSOFrags: 64, TxCsum: true, TxRing: 64, RxRing: 256}
		a, b, err := sim.New(cfg, cfg, sim.LinkConfig{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { a.Close(); b.Close(); c.Close() })
		wrap := func(d driver.Device) driver.Device {
			w, err := c.WrapDevice(d)
			if err != nil {
				t.Fatal(err)
			}
			return w
		}
		return &drivertest.Ends{
			A: drivertest.End{Device: wrap(a), MAC: [6]byte{2, 1}, Addr4: netip.MustParseAddr("192.0.2.1"), Addr6: netip.MustParseAddr("2001:db8::1")},
			B: drivertest.End{Device: wrap(b), MAC: [6]byte{2, 2}, Addr4: netip.MustParseAddr("192.0.2.2"), Addr6: netip.MustParseAddr("2001:db8::2")},

			SetLink: func(_ *testing.T, up bool) { a.SetLink(up) },
			Break:   func(*testing.T) { a.Break(syscall.ENODEV) },
		}
	})
}
