package micro

import (
	"errors"
	"net"
	"runtime"
	"sync"
	"time"

	"github.com/onload-go/onload/bench/load"
)

// Idle opens connections that then do nothing, and returns how long that took
// and the bytes of heap and stacks that each of the two ends of one keeps.
func Idle(s Stack, conns int) (took time.Duration, bytes float64, err error) {
	x, y, err := s.Pair(1500)
	if err != nil {
		return 0, 0, err
	}
	defer x.Close()
	defer y.Close()
	l, err := y.Listen("tcp", server)
	if err != nil {
		return 0, 0, err
	}
	defer l.Close()
	dialed, accepted := make([]net.Conn, conns), make(chan net.Conn, conns)
	before := load.Memory()
	go func() {
		for c, err := l.Accept(); err == nil; c, err = l.Accept() {
			accepted <- c
		}
	}()
	begin := time.Now()
	const workers = 16
	var wg sync.WaitGroup
	errs := make([]error, workers)
	for w := range workers {
		wg.Go(func() {
			for i := w; i < conns && errs[w] == nil; i += workers {
				dialed[i], errs[w] = x.DialFrom(clients[i%len(clients)], server)
			}
		})
	}
	wg.Wait()
	for _, e := range errs {
		if e != nil {
			return 0, 0, e
		}
	}
	for len(accepted) < conns {
		if time.Since(begin) > time.Minute {
			return 0, 0, errors.New("not all were accepted within a minute")
		}
		time.Sleep(time.Millisecond)
	}
	took = time.Since(begin)
	bytes = (load.Memory().Heap - before.Heap) / float64(2*conns)
	runtime.KeepAlive(dialed)
	return took, bytes, nil
}
