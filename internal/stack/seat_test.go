package stack

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/onload-go/onload/driver/afxdp"
	"github.com/onload-go/onload/driver/sim"
	"github.com/onload-go/onload/internal/lab"
)

// TestSeatTorture: readers that may not spin take turns at the queues, wake
// each other, and are woken by deadlines; no datagram waits for a reader that
// nobody wakes. UDP, since nothing would come again that heals a lost wake-up.
func TestSeatTorture(t *testing.T) {
	trips := 3000
	if testing.Short() {
		trips = 300
	}
	late := sim.Faults{Delay: 20 * time.Microsecond, Jitter: 30 * time.Microsecond}
	for _, socks := range []int{1, 2, 9} {
		for name, o := range map[string]pairOptions{
			"plain":  {profile: Throughput},
			"queues": {profile: Throughput, nic: sim.Config{Queues: 3}},
			"delay":  {profile: Throughput, link: sim.LinkConfig{AtoB: late, BtoA: late}},
			"mixed":  {profile: Throughput},
		} {
			t.Run(fmt.Sprintf("%s/%d", name, socks), func(t *testing.T) {
				t.Parallel()
				a, b := newPair(t, o)
				n := trips / socks
				if name == "delay" {
					n /= 10
				}
				seatTorture(t, a, b, addrB, socks, n, name == "mixed")
				for _, s := range []*Stack{a, b} {
					if s.Stats().Sits == 0 {
						t.Error("nobody sat")
					}
				}
			})
		}
	}
}

func TestSeatVeth(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	a, b := vethStack(t, p.A, Throughput, afxdp.ModeAuto), vethStack(t, p.B, Throughput, afxdp.ModeAuto)
	for _, socks := range []int{1, 5} {
		seatTorture(t, a, b, p.B.Addr4, socks, 3000/socks, true)
	}
}

// seatTorture has socks pairs of sockets play ping-pong. Where mixed, readers
// run into deadlines, sockets are opened and closed, and a goroutine waits for
// connections that do not come.
func seatTorture(t *testing.T, a, b *Stack, at netip.Addr, socks, trips int, mixed bool) {
	var wg sync.WaitGroup
	if mixed {
		l, err := b.ListenTCP(netip.AddrPortFrom(at, 0), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		go l.Accept()
	}
	for i := range socks {
		wg.Add(1)
		go func() {
			defer wg.Done()
			rng := rand.New(rand.NewPCG(1, uint64(i)))
			for done := 0; done < trips; {
				n := trips - done
				if mixed {
					n = min(n, 1+rng.IntN(trips))
				}
				if err := pingPong(a, b, at, n, mixed, rng); err != nil {
					t.Error(err)
					return
				}
				done += n
			}
		}()
	}
	wg.Wait()
}

func pingPong(a, b *Stack, at netip.Addr, trips int, mixed bool, rng *rand.Rand) error {
	srv, err := b.OpenUDP(netip.AddrPortFrom(at, 0), netip.AddrPort{}, nil)
	if err != nil {
		return err
	}
	c, err := a.OpenUDP(netip.AddrPort{}, srv.LocalAddr(), nil)
	if err != nil {
		return err
	}
	defer c.Close()
	end := make(chan error, 1)
	go func() {
		p := make([]byte, 8)
		for {
			n, _, from, _, err := srv.ReadFrom(p)
			if errors.Is(err, net.ErrClosed) {
				end <- nil
				return
			}
			if err == nil {
				_, err = srv.WriteTo(p[:n], from)
			}
			if err != nil {
				end <- err
				return
			}
		}
	}()
	p := make([]byte, 8)
	for i := range trips {
		if _, err := c.WriteTo([]byte{byte(i)}, netip.AddrPort{}); err != nil {
			return err
		}
		for {
			// The long one only ends a test that failed.
			d := patience
			if mixed && rng.IntN(4) == 0 {
				d = time.Duration(rng.IntN(50)) * time.Microsecond
			}
			c.SetReadDeadline(time.Now().Add(d))
			_, _, _, _, err := c.ReadFrom(p)
			if err == nil {
				break
			}
			if !errors.Is(err, os.ErrDeadlineExceeded) || d > time.Second {
				return fmt.Errorf("trip %d of %d: %w", i, trips, err)
			}
		}
		if p[0] != byte(i) {
			return fmt.Errorf("trip %d: got %d", i, p[0])
		}
	}
	srv.Close()
	return <-end
}
