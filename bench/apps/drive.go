package main

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/onload-go/onload/bench/apps/program"
	"github.com/onload-go/onload/bench/load"
)

// handshakes is how many connections are made at the same time.
const handshakes = 32

// connect makes each Call once, so that its connection exists.
func connect(calls []program.Call) error {
	var next atomic.Int64
	var wg sync.WaitGroup
	errs := make([]error, min(handshakes, len(calls)))
	for w := range errs {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(calls) {
					return
				}
				if err := calls[i](); err != nil {
					errs[w] = fmt.Errorf("connection %d: %w", i+1, err)
					return
				}
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// closedLoop has a goroutine for each Call, that makes it again and again.
func closedLoop(calls []program.Call, s *load.Spec) (load.Sample, error) {
	clk := load.NewClock(s)
	// One histogram for all: the lock is held for a part of a microsecond.
	var mu sync.Mutex
	var first error
	var wg sync.WaitGroup
	for i, call := range calls {
		wg.Go(func() {
			start := time.Now()
			for {
				err := call()
				now := time.Now()
				mu.Lock()
				if err != nil && first == nil {
					first = fmt.Errorf("connection %d: %w", i+1, err)
				}
				more := first == nil && clk.Op(start, now)
				mu.Unlock()
				if !more {
					return
				}
				start = now
			}
		})
	}
	wg.Wait()
	if first != nil {
		return load.Sample{}, first
	}
	return clk.Sample()
}
