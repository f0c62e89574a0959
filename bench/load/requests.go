package load

import (
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// callCRR connects, asks, reads the answer and closes, one after the other.
// An operation lasts until Close has returned.
func callCRR(n Network, s *Spec) (Sample, error) {
	clk := NewClock(s)
	b := make([]byte, s.Size)
	var path string
	start := time.Now()
	for {
		c, err := n.Dial("tcp", s.Addrs[0])
		if err != nil {
			return Sample{}, fmt.Errorf("connection %d: %w", clk.all+1, err)
		}
		if path == "" {
			path = n.Path(c)
		}
		err = ask(c, b)
		if cerr := c.Close(); err == nil {
			err = cerr
		}
		if err != nil {
			return Sample{}, fmt.Errorf("connection %d: %w", clk.all+1, err)
		}
		now := time.Now()
		if !clk.Op(start, now) {
			break
		}
		start = now
	}
	sm, err := clk.Sample()
	sm.Path, sm.Counters = path, n.Counters()
	return sm, err
}

func ask(c net.Conn, b []byte) error {
	if err := c.SetDeadline(time.Now().Add(hung)); err != nil {
		return err
	}
	if _, err := c.Write(b); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	if _, err := io.ReadFull(c, b); err != nil {
		return fmt.Errorf("read: %w", err)
	}
	return nil
}

// dialAll opens count connections, a few at a time.
func dialAll(n Network, addrs []string, count int) ([]net.Conn, error) {
	const atOnce = 16
	cs := make([]net.Conn, count)
	errs := make(chan error, atOnce)
	for w := range atOnce {
		go func() {
			for i := w; i < count; i += atOnce {
				c, err := n.Dial("tcp", addrs[i%len(addrs)])
				if err != nil {
					errs <- fmt.Errorf("connection %d: %w", i+1, err)
					return
				}
				cs[i] = c
			}
			errs <- nil
		}()
	}
	var err error
	for range atOnce {
		if e := <-errs; err == nil {
			err = e
		}
	}
	if err != nil {
		closeAll(cs)
		return nil, err
	}
	return cs, nil
}

func closeAll(cs []net.Conn) {
	for _, c := range cs {
		if c != nil {
			c.Close()
		}
	}
}

// callRequests has a goroutine for each connection that asks, waits for the
// answer and asks again. The warm-up begins when each has had one answer: the
// first costs memory that nobody has touched yet, and 10,000 take longer than
// the warm-up.
func callRequests(n Network, s *Spec) (Sample, error) {
	cs, err := dialAll(n, s.Addrs, s.Conns)
	if err != nil {
		return Sample{}, err
	}
	defer closeAll(cs)
	clk := NewClock(s)
	// One histogram serves all: the ends have one processor each, so its lock is
	// hardly ever taken.
	var mu sync.Mutex
	var first error
	var wg, early sync.WaitGroup
	early.Add(len(cs))
	begin := make(chan struct{})
	for i, c := range cs {
		wg.Go(func() {
			b := make([]byte, s.Size)
			var dl deadline
			start := time.Now()
			for ops := 0; ; ops++ {
				err := dl.extend(start, hung, c.SetDeadline)
				if err == nil {
					_, err = c.Write(b)
				}
				if err == nil {
					_, err = io.ReadFull(c, b)
				}
				now := time.Now()
				mu.Lock()
				if err != nil && first == nil {
					first = fmt.Errorf("connection %d after %d requests (%d on all): %w", i+1, ops, clk.all, err)
				}
				more := first == nil
				if ops == 0 {
					clk.Early()
				} else if more {
					more = clk.Op(start, now)
				}
				mu.Unlock()
				if ops == 0 {
					early.Done()
					<-begin
					now = time.Now()
				}
				if !more {
					return
				}
				start = now
			}
		})
	}
	early.Wait()
	clk.Restart()
	close(begin)
	wg.Wait()
	if first != nil {
		return Sample{}, first
	}
	sm, err := clk.Sample()
	sm.Path, sm.Counters = n.Path(cs[0]), n.Counters()
	return sm, err
}
