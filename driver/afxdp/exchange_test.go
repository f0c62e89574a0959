package afxdp

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/onload-go/onload/internal/lab"
)

var modes = []Mode{ModeNative, ModeGeneric}

// Two AF_XDP ends exchange frames of every size up to the largest, both ways.
func TestExchange(t *testing.T) {
	for _, mode := range modes {
		for _, mtu := range []int{1500, 9000, 65535} {
			t.Run(fmt.Sprintf("%v/%d", mode, mtu), func(t *testing.T) {
				p := lab.NewPair(t, lab.Options{MTU: mtu, Neighbors: true})
				a, b := openAt(t, p.A, Config{Mode: mode}), openAt(t, p.B, Config{Mode: mode})
				must(t, a.AddPort(udp, anyPort(7)))
				must(t, b.AddPort(udp, anyPort(7)))
				if c := a.Caps(); c.Mode != mode.String() || c.Driver != "veth" || !c.Virtual || c.ZeroCopy || c.MTU != mtu {
					t.Errorf("caps %+v", c)
				}
				for _, n := range []int{18, 64, 1472, 3800, 3900, 8972, 20000, 65000, 65507} {
					if n+28 > mtu {
						continue
					}
					data := pattern(n)
					for _, way := range []struct {
						from, to *Device
						frame    []byte
					}{
						{a, b, datagram(v4of(p.A), v4of(p.B), 7, 7, data)},
						{b, a, datagram(v4of(p.B), v4of(p.A), 7, 7, data)},
					} {
						send(t, way.from, way.from.queues.all()[0], way.frame)
						got, descs := receive(t, way.to, way.to.queues.all()[0], patience)
						if !bytes.Equal(got, way.frame) {
							t.Fatalf("%d bytes: received %d", len(way.frame), len(got))
						}
						if want := (len(got) + 3839) / 3840; descs != want {
							t.Errorf("%d bytes came in %d Descs, want %d", len(got), descs, want)
						}
					}
				}
				for _, d := range []*Device{a, b} {
					q := d.queues.all()[0]
					await(t, "all frames come back", func() bool { q.Reclaim(); return q.posted == 0 })
					if free := d.arena.FreeFrames(); free != d.arena.Frames()-q.lent {
						t.Errorf("%d frames free, %d with the kernel, of %d", free, q.lent, d.arena.Frames())
					}
					if s := q.Stats(); s.RxDropped+s.RxInvalid+s.TxInvalid+s.BadDesc+s.KickErrors != 0 || s.RxPackets == 0 || s.TxPackets == 0 {
						t.Errorf("stats %+v", s)
					}
				}
			})
		}
	}
}
