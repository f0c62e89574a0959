package stack

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/onload-go/onload/driver/sim"
	"github.com/onload-go/onload/internal/control"
	"github.com/onload-go/onload/ring"
)

// large is a NIC that segments and sums, and takes the peer's packets whole.
var large = sim.Config{MTU: 1500, TSO: 65535, TSOFrags: 48, LargeRx: true, TxCsum: true}

// largest records the longest frame that host a sends by a link.
type largest struct{ n atomic.Int64 }

func (l *largest) see(dir sim.Dir, frame []byte) {
	if n := int64(len(frame)); dir == sim.AtoB && n > l.n.Load() {
		l.n.Store(n)
	}
}

// pump sends data from c to d while move is called again and again, until all has
// arrived, and compares the hashes.
func pump(t *testing.T, c io.Writer, d io.Reader, n int, move func()) {
	t.Helper()
	data := make([]byte, n)
	for i := range data {
		data[i] = byte(rand.Uint32())
	}
	done := make(chan error, 1)
	go func() {
		_, err := c.Write(data)
		done <- err
	}()
	h := sha256.New()
	for got := 0; got < n; {
		k := min(n/20, n-got)
		if _, err := io.CopyN(h, d, int64(k)); err != nil {
			t.Fatalf("after %d bytes: %v", got, err)
		}
		got += k
		move()
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if want := sha256.Sum256(data); !bytes.Equal(h.Sum(nil), want[:]) {
		t.Error("other bytes arrived")
	}
}

// TestOffloadsMove: a connection moves between a link whose device segments and sums
// packets and one whose device does less, again and again while data flows. Each link
// gets packets that its device can take, and large ones where it can.
func TestOffloadsMove(t *testing.T) {
	small := sim.Config{MTU: 1500}
	sums := sim.Config{MTU: 1500, TxCsum: true}
	wide := large
	wide.FrameSize = 4096 // two segments a frame
	for _, nics := range [][2]sim.Config{{large, small}, {small, large}, {large, sums}, {large, {MTU: 1000}}, {wide, small}} {
		name := fmt.Sprintf("tso=%d,%d/csum=%v,%v/mtu=%d/frame=%d", nics[0].TSO, nics[1].TSO, nics[0].TxCsum, nics[1].TxCsum, nics[1].MTU, nics[0].FrameSize)
		t.Run(name, func(t *testing.T) {
			var seen [2]largest
			a, b := newTwoLinkedOver(t, nics, [2]sim.LinkConfig{{Tap: seen[0].see}, {Tap: seen[1].see}})
			c, d := connect(t, a.Stack, b.Stack, serviceB)
			at := 1
			move := func() {
				at = 3 - at
				a.lead(at)
				b.lead(at)
			}
			pump(t, c, d, 4<<20, move)
			pump(t, d, c, 4<<20, move)
			for i, nic := range nics {
				for _, h := range []*twoLinked{a, b} {
					for _, q := range h.devs[i].Queues() {
						if n := q.Stats().TxInvalid; n > 0 {
							t.Errorf("link %d refused %d packets", i+1, n)
						}
					}
				}
				if n := seen[i].n.Load(); nic.TSO == 0 && n > int64(nic.MTU+14) || nic.TSO > 0 && n < 2*int64(nic.MTU) {
					t.Errorf("link %d had packets of up to %d bytes", i+1, n)
				}
			}
		})
	}
}

// TestOffloadsParked: packets that were made for a link whose device segments them, and
// waited for a neighbour there, leave by one whose device does not.
func TestOffloadsParked(t *testing.T) {
	a, b := newTwoLinkedOver(t, [2]sim.Config{{MTU: 1500}, large}, [2]sim.LinkConfig{}, func(c *Config) {
		c.Net.(*control.Static).OnResolve = func(int, netip.Addr) {} // nobody answers
	})
	c, d := connect(t, a.Stack, b.Stack, serviceB)
	exchange(t, c, d, 500_000) // the window grows
	gateway := netip.MustParseAddr("10.8.0.1")
	long := 0
	for range 20 {
		gateway = gateway.Next()
		a.leadVia(2, gateway)
		before := a.Stats().TxUnresolved
		long += parkedLong(t, a.Stack, func() { pump(t, c, d, 200_000, func() {}) }, func() { a.lead(1) })
		if n := a.Stats().TxUnresolved; n != before {
			t.Fatalf("%d packets that waited were dropped", n-before)
		}
	}
	if long == 0 {
		t.Error("no packet that is to be segmented waited")
	}
	if n := a.devs[0].Queues()[0].Stats().TxInvalid; n > 0 {
		t.Errorf("the link refused %d packets", n)
	}
}

// parkedLong calls move when packets wait for a neighbour while send runs. It returns
// how many of them are to be segmented.
func parkedLong(t *testing.T, s *Stack, send, move func()) (long int) {
	t.Helper()
	moved := make(chan struct{})
	go func() {
		defer close(moved)
		for start := time.Now(); long == 0 && time.Since(start) < patience; time.Sleep(time.Millisecond) {
			waits := false
			locked(s, func() {
				for _, d := range s.dests.all {
					for _, p := range d.parked {
						waits = true
						if p.pkt[0].Flags&ring.FlagGSO != 0 {
							long++
						}
					}
				}
			})
			if waits {
				break
			}
		}
		move()
	}()
	send()
	<-moved
	return long
}
