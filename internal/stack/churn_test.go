package stack

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/onload-go/onload/driver/sim"
	"github.com/onload-go/onload/internal/testlong"
)

// sizes is how much every structure of a stack holds.
type sizes struct {
	frames                                            int // not free
	flows, timeWaits, listeners, udps, udpFlows, dsts int
	dirty, blocked, dead, gathering, udpWait, holding int
	ports                                             int // in use
	embryonic, pending                                int // of the listeners
	orphans                                           int
	timers                                            bool
	fragments                                         int
}

func (s *Stack) sizes() sizes {
	s.begin()
	defer s.end()
	s.cache.Flush()
	for _, q := range s.queues {
		q.Refill()
	}
	s.dests.dropIdle()
	z := sizes{
		frames: s.arena.Frames() - s.arena.FreeFrames(),
		flows:  s.demux.flows.len(), timeWaits: s.demux.timeWaits.len(), listeners: len(s.demux.listeners),
		udps: len(s.demux.udps), udpFlows: len(s.demux.udpFlows), dsts: len(s.dests.all),
		dirty: len(s.turn.dirty), blocked: len(s.turn.blocked), dead: len(s.turn.dead),
		gathering: len(s.turn.gathering), udpWait: len(s.turn.udpWait), holding: s.dests.parked,
		orphans: s.host.Orphans(), timers: s.wheel.Next() != never, fragments: s.fragments.Reassembler.Held(),
	}
	for _, sp := range s.ports.spaces {
		for _, p := range sp.used {
			if p.refs > 0 {
				z.ports++
			}
		}
	}
	for _, l := range s.demux.listeners {
		for _, x := range l {
			z.embryonic += x.socket.tl.Embryonic()
			z.pending += x.socket.tl.Pending()
		}
	}
	return z
}

// churn opens, uses and closes n connections from a to b, many at a time.
func churn(ctx context.Context, a, b *Stack, n int) error {
	const size = 3000
	var wg sync.WaitGroup
	defer wg.Wait()
	var ls []*TCPListener
	for range 8 {
		l, err := b.ListenTCP(netip.AddrPortFrom(addrB, 0), nil)
		if err != nil {
			return err
		}
		defer l.Close()
		ls = append(ls, l)
		wg.Go(func() {
			for {
				c, _, err := l.Accept()
				if err != nil {
					return
				}
				wg.Go(func() {
					defer c.Close()
					_, _ = io.Copy(c, c)
				})
			}
		})
	}
	var next, failed atomic.Int64
	var first atomic.Value
	var users sync.WaitGroup
	for range 256 {
		users.Go(func() {
			buf := make([]byte, size)
			for {
				i := int(next.Add(1))
				if i > n || failed.Load() > 0 {
					return
				}
				if err := useConn(ctx, a, ls[i%len(ls)].Addr(), buf); err != nil {
					failed.Add(1)
					first.CompareAndSwap(nil, fmt.Errorf("connection %d: %w", i, err))
				}
			}
		})
	}
	users.Wait()
	err, _ := first.Load().(error)
	return err
}

func useConn(ctx context.Context, a *Stack, to netip.AddrPort, buf []byte) error {
	c, err := a.DialTCP(ctx, netip.AddrPort{}, to, nil)
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := c.Write(buf); err != nil {
		return err
	}
	if err := c.CloseWrite(); err != nil {
		return err
	}
	switch n, err := io.Copy(io.Discard, c); {
	case err != nil:
		return err
	case int(n) != len(buf):
		return fmt.Errorf("%d bytes came back of %d", n, len(buf))
	}
	return nil
}

// TestChurnLeavesNothing: connections opened, used and closed while 2% of the
// packets are lost leave every structure of both stacks as it was: frames,
// tables, ports, timers. With -long there are 100,000, and TIME-WAIT ends by
// itself.
func TestChurnLeavesNothing(t *testing.T) {
	n := testlong.Pick(3000, 100000)
	faults := sim.Faults{Loss: 0.02, Delay: 50 * time.Microsecond}
	a, b := newPair(t, pairOptions{
		profile: Throughput,
		nic:     sim.Config{Frames: 1 << 15},
		link:    sim.LinkConfig{AtoB: faults, BtoA: faults, Seed: 11},
	})
	before := [2]sizes{a.sizes(), b.sizes()}
	if err := churn(t.Context(), a, b, n); err != nil {
		t.Fatal(err)
	}
	if !testlong.Enabled() {
		for _, s := range []*Stack{a, b} {
			s.drainTimeWait()
		}
	}
	// A closed connection still acknowledges. A lost FIN takes a timeout or
	// several.
	var after [2]sizes
	limit := time.Now().Add(testlong.Pick(time.Minute, 4*time.Minute))
	for after != before && time.Now().Before(limit) {
		time.Sleep(50 * time.Millisecond)
		for i, s := range []*Stack{a, b} {
			if !testlong.Enabled() {
				s.drainTimeWait()
			}
			after[i] = s.sizes()
		}
	}
	for i := range after {
		if after[i] != before[i] {
			t.Errorf("stack %d:\nbefore %+v\nafter  %+v", i, before[i], after[i])
		}
	}
}

// drainTimeWait ends every TIME-WAIT now.
func (s *Stack) drainTimeWait() {
	s.begin()
	defer s.end()
	for tw := range s.demux.timeWaits.all() {
		s.endTimeWait(tw)
	}
}
