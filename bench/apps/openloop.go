package main

import (
	"fmt"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/onload-go/onload/bench/apps/program"
	"github.com/onload-go/onload/bench/apps/result"
	"github.com/onload-go/onload/bench/load"
)

// openLoop makes Calls when they are due, however late the answers are. A
// request that is due while all connections wait for answers is queued. Latency
// counts from when a request was due, so that a server that stalls also pays for
// the requests that could not leave meanwhile.
type openLoop struct {
	from, to time.Time // requests due in between count
	queue    chan time.Time

	mu   sync.Mutex
	hist *hdrhistogram.Histogram
	done int64 // answers between from and to
	left int64 // due in between and not answered
	err  error
}

// runOpenLoop follows a plan of arrivals.
func runOpenLoop(calls []program.Call, due []time.Duration, s *load.Spec) (*result.Sample, error) {
	start := time.Now()
	l := &openLoop{from: start.Add(s.Warm), to: start.Add(s.Warm + s.Duration), queue: make(chan time.Time, len(due)), hist: load.NewHist()}
	for _, d := range due {
		if d >= s.Warm {
			l.left++
		}
	}
	var wg sync.WaitGroup
	for i, call := range calls {
		wg.Go(func() {
			if err := l.work(call); err != nil {
				l.fail(fmt.Errorf("connection %d: %w", i+1, err))
			}
		})
	}
	late := load.NewHist()
	err := l.pace(start, due, late)
	close(l.queue)
	if err != nil {
		l.fail(err)
	}
	// An overloaded rung must not take for ever: requests still in the queue then
	// count as unanswered.
	drained := make(chan struct{})
	go func() { wg.Wait(); close(drained) }()
	select {
	case <-drained:
	case <-time.After(time.Until(l.to) + s.Duration):
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return nil, l.err
	}
	r := &result.Sample{Ops: l.done, Seconds: s.Duration.Seconds(), Unanswered: l.left}
	if r.Hist, err = l.hist.EncodeV2(); err == nil {
		r.Late, err = late.EncodeV2()
	}
	return r, err
}

// pace puts requests into the queue when they are due, and notes how late.
func (l *openLoop) pace(start time.Time, due []time.Duration, late *hdrhistogram.Histogram) error {
	p, err := newPacer()
	if err != nil {
		return err
	}
	defer p.close()
	for _, d := range due {
		t := start.Add(d)
		now, err := p.until(t)
		if err != nil {
			return err
		}
		if !t.Before(l.from) {
			record(late, now.Sub(t))
		}
		l.queue <- t
	}
	return nil
}

// record keeps a value past the histogram's range at its end.
func record(h *hdrhistogram.Histogram, d time.Duration) {
	_ = h.RecordValue(min(int64(d), h.HighestTrackableValue()))
}

// work answers the queue on one connection.
func (l *openLoop) work(call program.Call) error {
	for due := range l.queue {
		if err := call(); err != nil {
			return err
		}
		now := time.Now()
		l.mu.Lock()
		if now.After(l.from) && !now.After(l.to) {
			l.done++
		}
		if !due.Before(l.from) {
			record(l.hist, now.Sub(due))
			l.left--
		}
		failed := l.err != nil
		l.mu.Unlock()
		if failed {
			return nil
		}
	}
	return nil
}

func (l *openLoop) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil {
		l.err = err
	}
}
