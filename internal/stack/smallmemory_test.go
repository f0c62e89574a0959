package stack

import (
	"fmt"
	"io"
	"net/netip"
	"testing"
	"time"

	"github.com/onload-go/onload/driver/sim"
)

// What a stack keeps for itself of the free frames never stops its writers, however
// few frames there are: a writer finds only those of the arena.
func TestWriteSmallMemory(t *testing.T) {
	for _, frames := range []int{64, 128, 256} {
		t.Run(fmt.Sprint(frames), func(t *testing.T) {
			a, b := newPair(t, pairOptions{nic: sim.Config{Frames: frames, RxRing: 16, TxRing: 16}})
			c, s := connect(t, a, b, addrB)
			defer c.Close()
			defer s.Close()
			if err := pour(c, s, 1<<20); err != nil {
				t.Error(err)
			}
		})
	}
}

// The stacks of a team keep few enough together: here all frames fit into as many
// caches of the largest size.
func TestTeamWriteSmallMemory(t *testing.T) {
	const n, size = 8, 200_000
	team, peer := newTeam(t, n, pairOptions{nic: sim.Config{Frames: 512, RxRing: 16, TxRing: 16}})
	l, err := peer.ListenTCP(netip.AddrPortFrom(addrB, 80), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	got := make(chan int64, 2*n)
	go func() {
		for {
			s, _, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer s.Close()
				_ = s.SetDeadline(time.Now().Add(patience))
				read, _ := io.Copy(io.Discard, struct{ io.Reader }{s})
				got <- read
			}()
		}
	}()
	for i := range 2 * n {
		go func() {
			c, err := team[i%n].DialTCP(t.Context(), netip.AddrPort{}, netip.AddrPortFrom(addrB, 80), nil)
			if err != nil {
				t.Error(err)
				got <- size // nothing will come
				return
			}
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(patience))
			if k, err := c.Write(make([]byte, size)); err != nil {
				t.Errorf("stack %d wrote %d bytes: %v", i%n, k, err)
			}
		}()
	}
	for range 2 * n {
		if read := <-got; read != size {
			t.Errorf("the peer read %d bytes of %d", read, size)
		}
	}
}

// pour has c send n bytes to s.
func pour(c, s *TCPConn, n int) error {
	for _, e := range []*TCPConn{c, s} {
		if err := e.SetDeadline(time.Now().Add(patience)); err != nil {
			return err
		}
	}
	sent := make(chan error, 1)
	go func() {
		k, err := c.Write(make([]byte, n))
		if err != nil {
			err = fmt.Errorf("after %d bytes: %w", k, err)
			_ = s.Close()
		}
		sent <- err
	}()
	_, err := io.CopyN(io.Discard, struct{ io.Reader }{s}, int64(n))
	if e := <-sent; e != nil {
		return e
	}
	return err
}
