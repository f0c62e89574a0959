package afxdp

import (
	"bytes"
	"testing"

	"github.com/onload-go/onload/internal/lab"
)

// The interface's own address counts before the process has heard of it: the kernel
// has no such socket, and would refuse the packets.
func TestAddressOfTheMoment(t *testing.T) {
	for _, mode := range []Mode{ModeNative, ModeGeneric} {
		t.Run(mode.String(), func(t *testing.T) {
			p := lab.NewPair(t, lab.Options{Neighbors: true})
			d := openAt(t, p.A, Config{Mode: mode})
			must(t, d.AddPort(udp, anyPort(7)))
			must(t, d.SetMACs([][6]byte{{2, 1}}))
			frame := datagram(v4of(p.B), v4of(p.A), 7, 7, pattern(100))
			injector(t, p.B)(frame)
			if got, _ := receive(t, d, d.queues.all()[0], patience); !bytes.Equal(got, frame) {
				t.Errorf("received %d bytes", len(got))
			}
		})
	}
}
