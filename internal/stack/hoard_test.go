package stack

import (
	"testing"
	"time"

	"github.com/onload-go/onload/driver/sim"
	"github.com/onload-go/onload/tcp"
)

// Attack 29: clients fill the victim's memory with what they send, and stay: all
// that the window takes while nobody reads, or single bytes with gaps between
// them. Others connect and transfer all the same.
func TestAttack29Hoarders(t *testing.T) {
	const (
		frames  = 4096
		burst   = 48
		segment = 1400
	)
	for _, tt := range []struct {
		name    string
		clients int
		seg     func(i int) (off uint32, n int)
	}{
		{"unread", 100, func(i int) (uint32, int) { return uint32(i) * segment, segment }},
		{"early", 100, func(i int) (uint32, int) { return uint32(2*i + 1), 1 }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := newPrey(t, pairOptions{nic: sim.Config{Frames: frames, RxRing: 1024, TxRing: 1024}})
			for i := range tt.clients {
				k := v.open(t, uint16(2000+i))
				for from := 0; from < 256; from += burst {
					var segs []forged
					for j := from; j < from+burst; j++ {
						off, n := tt.seg(j)
						segs = append(segs, forged{flags: tcp.FlagACK, seq: scriptISN + 1 + off, ack: k.isn + 1, data: make([]byte, n)})
					}
					k.turn(segs...)
				}
			}
			time.Sleep(300 * time.Millisecond)
			st := v.Stats()
			t.Logf("%d of %d frames are free, a reserve of %d", st.FreeFrames, frames, v.host.Reserve)
			for i := range 4 {
				c, s, err := makeConn(t.Context(), v.peer, v.Stack, addrB)
				if err != nil {
					t.Fatalf("connection %d: %v", i, err)
				}
				defer c.Close()
				defer s.Close()
				for _, p := range []pairOf{{c, s}, {s, c}} {
					p.peer.SetDeadline(time.Now().Add(patience))
					p.own.SetDeadline(time.Now().Add(patience))
					p.works(t)
				}
			}
			v.unnoticed(t)
			if n := v.Stats().Conns; n < tt.clients {
				t.Errorf("%d connections at the end", n)
			}
		})
	}
}
