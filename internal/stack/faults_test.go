package stack

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/onload-go/onload/driver/sim"
	"github.com/onload-go/onload/internal/testlong"
)

// TestFaultyLink: over a link that loses, reorders and duplicates 5% each
// way, every transfer completes intact, whatever the seed.
func TestFaultyLink(t *testing.T) {
	seeds := testlong.Pick(200, 1000)
	faults := sim.Faults{
		Loss: 0.05, Reorder: 0.05, Duplicate: 0.05,
		Delay: 200 * time.Microsecond, ReorderDelay: 500 * time.Microsecond,
	}
	const size = 128 << 10
	slots := make(chan struct{}, 20) // transfers at a time: they mostly wait
	var wg sync.WaitGroup
	for seed := range seeds {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			o := pairOptions{
				profile: Throughput,
				nic:     sim.Config{TxRing: 256, RxRing: 256},
				link:    sim.LinkConfig{AtoB: faults, BtoA: faults, Seed: uint64(seed)},
			}
			if seed%2 == 1 {
				// The NIC segments; the scoreboard's frames hold two segments
				// or so.
				o.nic.TSO, o.nic.TSOFrags, o.nic.FrameSize = 65535, 48, 4096
			}
			if err := faultyTransfer(t, o, size, byte(seed)); err != nil {
				t.Errorf("seed %d: %v", seed, err)
			}
		})
	}
	wg.Wait()
}

// faultyTransfer sends size bytes each way at once, and checks that all
// frames come back.
func faultyTransfer(t *testing.T, o pairOptions, size int, seed byte) error {
	a, b, err := makePair(o)
	if err != nil {
		return err
	}
	defer a.Close()
	defer b.Close()
	c, s, err := makeConn(t.Context(), a, b, addrB)
	if err != nil {
		return err
	}
	deadline := time.Now().Add(2 * time.Minute)
	c.SetDeadline(deadline)
	s.SetDeadline(deadline)
	var wg sync.WaitGroup
	errs := make(chan error, 4)
	for i, ends := range [][2]*TCPConn{{c, s}, {s, c}} {
		data := make([]byte, size)
		rand.NewChaCha8([32]byte{seed, byte(i)}).Read(data)
		wg.Go(func() {
			if n, err := ends[0].Write(data); err != nil {
				errs <- fmt.Errorf("sent %d: %w", n, err)
			}
			if err := ends[0].CloseWrite(); err != nil {
				errs <- err
			}
		})
		wg.Go(func() {
			h := sha256.New()
			n, err := io.Copy(h, ends[1])
			if want := sha256.Sum256(data); err != nil || !bytes.Equal(h.Sum(nil), want[:]) {
				errs <- fmt.Errorf("received %d of %d: %v", n, size, err)
			}
		})
	}
	wg.Wait()
	c.Close()
	s.Close()
	close(errs)
	return <-errs
}
