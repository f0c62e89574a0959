package stack

import (
	"bytes"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
)

// TestSmallWrites: data written under the lock and data handed to its holder stay
// in order, both ways at once, while others want the lock.
func TestSmallWrites(t *testing.T) {
	size := 200 << 10
	if testing.Short() {
		size = 20 << 10
	}
	for _, p := range []Profile{Latency, Balanced, Throughput} {
		t.Run(p.String(), func(t *testing.T) {
			a, b := newPair(t, pairOptions{profile: p})
			var wg sync.WaitGroup
			stream := func(from, to *TCPConn, seed byte) {
				data := make([]byte, size)
				rand.NewChaCha8([32]byte{seed}).Read(data)
				rng := rand.New(rand.NewPCG(uint64(seed), 0))
				wg.Add(2)
				go func() {
					defer wg.Done()
					for rest := data; len(rest) > 0; {
						n := min(1+rng.IntN(2*smallWrite), len(rest))
						if _, err := from.Write(rest[:n]); err != nil {
							t.Error(err)
							return
						}
						rest = rest[n:]
					}
				}()
				go func() {
					defer wg.Done()
					got := make([]byte, size)
					if _, err := io.ReadFull(to, got); err != nil || !bytes.Equal(got, data) {
						t.Errorf("stream %d arrives otherwise than sent, or not: %v", seed, err)
					}
				}()
			}
			for i := range byte(3) {
				c, s := connect(t, a, b, addrB)
				stream(c, s, 2*i)
				stream(s, c, 2*i+1)
			}
			wg.Wait()
		})
	}
}
