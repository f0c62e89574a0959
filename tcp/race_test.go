package tcp

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// One reader and one writer on each end run beside the lock holder, without
// the lock. Small buffers and small segments make the holder squeeze the
// receive queue under the reader's hands.
func TestConcurrentReadWrite(t *testing.T) {
	total := 4 << 20
	if testing.Short() {
		total = 1 << 20
	}
	a, b := newWireEnds(t, Config{RcvBuf: 32 << 10, SndBuf: 32 << 10, NoDelay: true}, Caps{MaxFrags: 1}, 2048)
	var (
		mu   sync.Mutex // the stack lock
		wg   sync.WaitGroup
		stop atomic.Bool
		now  = int64(2e9)
	)
	deadline := time.Now().Add(60 * time.Second)
	turn := func() {
		now += 5e3
		for _, e := range []*wireEnd{a, b} {
			if e.c.Deadline() <= now {
				e.c.Expire(now)
			}
			e.poll(now)
		}
	}
	locked := func(f func()) {
		mu.Lock()
		f()
		mu.Unlock()
	}
	wg.Add(4)
	for _, e := range []*wireEnd{a, b} {
		go func() {
			defer wg.Done()
			buf := make([]byte, 3000)
			for wrote := 0; wrote < total && !stop.Load(); {
				n := min(1+wrote%2999, total-wrote)
				if wrote%3 == 0 {
					n = 1
				}
				for i := range n {
					buf[i] = pattern(wrote + i)
				}
				k := e.c.Write(buf[:n])
				wrote += k
				if k == 0 {
					for !e.c.Writable() && !stop.Load() {
						locked(func() { e.c.Output(now) })
						runtime.Gosched()
					}
				}
			}
			locked(func() { e.c.CloseWrite(now) })
		}()
		go func() {
			defer wg.Done()
			buf := make([]byte, 2500)
			for read := 0; ; {
				err := e.c.Err()
				n, eof, update := e.c.Read(buf)
				for i := range n {
					if buf[i] != pattern(read+i) {
						t.Errorf("byte %d", read+i)
						stop.Store(true)
						return
					}
				}
				read += n
				if update {
					locked(func() { e.c.WindowUpdate(now) })
				}
				switch {
				case eof:
					if read != total {
						t.Errorf("read %d of %d", read, total)
					}
					return
				case err != nil || stop.Load() || time.Now().After(deadline):
					t.Errorf("read %d of %d: %v, %v", read, total, err, e.c.State())
					stop.Store(true)
					return
				case n == 0:
					for !e.c.Readable() && !stop.Load() {
						runtime.Gosched()
						if time.Now().After(deadline) {
							break
						}
					}
				}
			}
		}()
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	for {
		select {
		case <-done:
			return
		default:
			locked(turn)
			runtime.Gosched()
		}
	}
}
