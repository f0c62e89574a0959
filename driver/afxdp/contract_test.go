package afxdp

import (
	"testing"

	"github.com/onload-go/onload/driver/drivertest"
	"github.com/onload-go/onload/internal/lab"
)

func TestContract(t *testing.T) {
	for name, tt := range map[string]struct {
		config  Config
		link    lab.Options
		without []string
	}{
		"native":  {Config{Mode: ModeNative}, lab.Options{MTU: 9000}, nil},
		"generic": {Config{Mode: ModeGeneric}, lab.Options{MTU: 9000}, nil},
		"small":   {Config{FrameSize: 2048, Frames: 1024, RxRing: 256, TxRing: 256, Offloads: OffloadsOff}, lab.Options{}, []string{"Checksum", "Segment"}},
		"summed":  {Config{Offloads: OffloadsChecksum}, lab.Options{}, []string{"Segment"}},
	} {
		t.Run(name, func(t *testing.T) {
			drivertest.Run(t, func(t *testing.T) *drivertest.Ends {
				p := lab.NewPair(t, tt.link)
				end := func(ns *lab.NS) drivertest.End {
					c := tt.config
					c.Interface, c.InNS = ns.If, ns.Do
					d, err := Open(c)
					must(t, err)
					t.Cleanup(func() {
						if err := d.Close(); err != nil {
							t.Error(err)
						}
					})
					return drivertest.End{Device: d, MAC: ns.MAC, Addr4: ns.Addr4, Addr6: ns.Addr6}
				}
				return &drivertest.Ends{
					Without: tt.without,
					A:       end(p.A), B: end(p.B),
					SetLink: func(t *testing.T, up bool) {
						if up {
							must(t, p.A.SetUp())
						} else {
							must(t, p.A.SetDown())
						}
					},
					Break: func(t *testing.T) { must(t, p.A.Delete()) },
				}
			})
		})
	}
}
