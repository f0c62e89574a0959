package tcp

import (
	"testing"

	"github.com/onload-go/onload/ring"
)

// during runs when a packet leaves: it does what another processor does meanwhile.
type during struct {
	*wire
	read func()
}

func (d during) Transmit(pkt []ring.Desc, ecn uint8) bool {
	d.read()
	return d.wire.Transmit(pkt, ecn)
}

// A reader that takes everything while the acknowledgement that shuts the window is
// leaving knows that it has to open the window again. Otherwise the stream would
// stand still until the peer probes.
func TestReaderMeetsShutWindow(t *testing.T) {
	for _, late := range []bool{false, true} {
		w := dial(t, Config{RcvBuf: 8192, NoWindowScale: true}, wscale(-1))
		update := false
		w.c.owner = during{w, func() {
			if n, _, u := w.c.Read(make([]byte, 8192)); n > 0 {
				update = u
			}
		}}
		for i := range uint32(8) {
			w.in("A", 1+1000*i, 1, 1000)
		}
		if late {
			w.in("PA", 8101, 1, 50) // early, acknowledged at once
		}
		w.c.Output(w.now)
		if update {
			w.c.WindowUpdate(w.now)
		}
		if n := w.wnds[len(w.wnds)-1]; n < 4000 {
			t.Errorf("early segment %v: window of %d in front of a reader that has read all", late, n)
		}
		w.out = nil
	}
}
