package sim

import (
	"net/netip"
	"syscall"
	"testing"

	"github.com/onload-go/onload/driver/drivertest"
)

func TestContract(t *testing.T) {
	for name, c := range map[string]Config{
		"plain":    {MTU: 9000},
		"offloads": {MTU: 9000, TSO: 65535, TSOFrags: 64, TxCsum: true, RxInfo: true},
		"virtual":  {MTU: 1500, TSO: 65535, TSOFrags: 64, TxCsum: true, Virtual: true, LargeRx: true},
		"delayed":  {MTU: 1500, CompletionDelay: 1000},
	} {
		var without []string
		if !c.TxCsum {
			without = []string{"Checksum", "Segment"}
		}
		t.Run(name, func(t *testing.T) {
			drivertest.Run(t, func(t *testing.T) *drivertest.Ends {
				a, b, err := New(small(c), small(c), LinkConfig{})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { a.Close(); b.Close() })
				return &drivertest.Ends{
					Without: without,
					A:       drivertest.End{Device: a, MAC: [6]byte{2, 1}, Addr4: netip.MustParseAddr("192.0.2.1"), Addr6: netip.MustParseAddr("2001:db8::1")},
					B:       drivertest.End{Device: b, MAC: [6]byte{2, 2}, Addr4: netip.MustParseAddr("192.0.2.2"), Addr6: netip.MustParseAddr("2001:db8::2")},

					SetLink: func(_ *testing.T, up bool) { a.SetLink(up) },
					Break:   func(*testing.T) { a.Break(syscall.ENODEV) },
				}
			})
		})
	}
}
