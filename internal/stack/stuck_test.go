package stack

import (
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/onload-go/onload/driver/sim"
	"github.com/onload-go/onload/internal/control"
	"github.com/onload-go/onload/tcp"
)

// Attack 29: clients send requests, do not read the answers, and stay: one for
// each four frames of the arena. Others connect and transfer all the same.
func TestAttack29ReadersThatDoNotRead(t *testing.T) {
	const (
		frames   = 4096
		clients  = 1000
		requests = 5
		answer   = 2000 // bytes
		window   = 2304 // of a client
	)
	v := newPrey(t, pairOptions{nic: sim.Config{Frames: frames, RxRing: 1024, TxRing: 1024}})
	bad := netip.MustParseAddr("10.0.0.66")
	v.cfg.Net.(*control.Static).SetNeighbor(1, bad, macs[addrA])
	serve := func(c *TCPConn, answers *atomic.Int32) {
		defer c.Close()
		req, ans := make([]byte, 100), make([]byte, answer)
		for {
			if _, err := c.Read(req); err != nil {
				return
			}
			if _, err := c.Write(ans); err != nil {
				return
			}
			answers.Add(1)
		}
	}
	mss := []byte{2, 4, 5, 180}
	for i := range clients {
		k := &scripted{v: v, from: netip.AddrPortFrom(bad, uint16(2000+i))}
		k.turn(forged{flags: tcp.FlagSYN, seq: scriptISN, opt: mss, wnd: window})
		k.isn = v.ofEnd(k.from).isn
		if k.isn == 0 {
			t.Fatalf("client %d: no SYN-ACK, %d frames are free", i, v.Stats().FreeFrames)
		}
		next, una := uint32(scriptISN+1), k.isn+1
		k.turn(forged{flags: tcp.FlagACK, seq: next, ack: una, wnd: window})
		c, _, err := v.listener.Accept()
		if err != nil {
			t.Fatal(err)
		}
		answers := new(atomic.Int32)
		go serve(c, answers)
		var burst []forged
		for range requests {
			burst = append(burst, forged{flags: tcp.FlagACK | tcp.FlagPSH, seq: next, ack: una, data: make([]byte, 100), wnd: window})
			next += 100
		}
		k.turn(burst...)
		// The client's kernel acknowledges what fits its window, and nobody reads
		// it. So the server ends up waiting, unless its buffer takes all answers.
		for left, end := uint32(window), time.Now().Add(patience); ; time.Sleep(10 * time.Microsecond) {
			if time.Now().After(end) {
				st := v.Stats()
				t.Fatalf("client %d: its server waits, %d of %d frames are free, %d segments dropped", i, st.FreeFrames, frames, st.TCP.TCPRcvQDrop)
			}
			if got := v.ofEnd(k.from).next[sim.BtoA]; int32(got-una) > 0 {
				if left -= min(got-una, left); left < 1460 {
					left = 0 // RFC 9293 section 3.8.6.2.2
				}
				una = got
				k.turn(forged{flags: tcp.FlagACK, seq: next, ack: una, wnd: uint16(left), shut: true})
			} else if answers.Load() == requests || c.w.state.Load() != waiterIdle {
				break
			}
		}
	}
	if n := v.Stats().Conns; n < clients {
		t.Fatalf("%d connections", n)
	}
	st := v.Stats()
	t.Logf("%d connections, %d of %d frames free, %d collapsed, %d dropped", st.Conns, st.FreeFrames, frames, st.TCP.TCPRcvCollapsed, st.TCP.TCPRcvQDrop)
	for i := range 20 {
		c, s, err := makeConn(t.Context(), v.peer, v.Stack, addrB)
		if err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		pairOf{c, s}.works(t)
		defer c.Close()
		defer s.Close()
	}
	v.unnoticed(t)
	if n := v.Stats().Conns; n < clients+20 {
		t.Errorf("%d connections at the end", n)
	}
}
