package main

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// report is what the client found.
type report struct {
	Requests int64
	Sessions int64 // connections opened
	Errors   int64
	First    string  // error
	Seconds  float64 // of asking
	P50, P99 int64   // microseconds

	// The process after a quarter of the time, and when it is over, all users still there.
	Early, Late usage
}

// crowd is all users at work.
type crowd struct {
	*options
	start time.Time
	begun atomic.Int64 // requests
	late  sync.Once

	mu    sync.Mutex
	times *hdrhistogram.Histogram // microseconds
	report
}

// run lets all users ask until the time is over or all requests are made.
func run(o *options) *report {
	c := &crowd{options: o, start: time.Now(), times: newTimes()}
	var group sync.WaitGroup
	for n := range o.users {
		group.Go(func() { c.user(n) })
	}
	group.Wait()
	c.Seconds = time.Since(c.start).Seconds()
	c.P50, c.P99 = c.times.ValueAtQuantile(50), c.times.ValueAtQuantile(99)
	return &c.report
}

func newTimes() *hdrhistogram.Histogram {
	return hdrhistogram.New(1, time.Minute.Microseconds(), 3)
}

func (c *crowd) over() bool {
	return time.Since(c.start) > c.duration || c.requests > 0 && c.begun.Add(1) > c.requests
}

// user is the n-th user, who leaves at the first error.
func (c *crowd) user(n int) {
	u := user{crowd: c, n: n, times: newTimes()}
	err := u.askOn()
	if err == nil {
		c.late.Do(c.Late.look)
	}
	if u.session != nil {
		u.session.close()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.Requests += u.requests
	c.Sessions += u.sessions
	c.times.Merge(u.times)
	if err != nil {
		c.Errors++
		if c.First == "" {
			c.First = fmt.Sprintf("user %d, request %d: %v", n, u.requests, err)
		}
	}
}

type user struct {
	*crowd
	n                  int
	session            session
	requests, sessions int64
	times              *hdrhistogram.Histogram
}

func (u *user) askOn() error {
	for i := 0; !u.over(); i++ {
		if u.n == 0 && u.Early.Files == 0 && time.Since(u.start) > u.duration/4 {
			u.Early.look()
		}
		if err := u.once(i); err != nil {
			return err
		}
	}
	return nil
}

// once makes a request, on a new connection where that is due.
func (u *user) once(i int) error {
	if u.session != nil && u.renew > 0 && i%u.renew == 0 {
		u.session.close()
		u.session = nil
	}
	asked := time.Now()
	if u.session == nil {
		s, err := kinds[u.kind](u.options, u.n)
		if err != nil {
			return fmt.Errorf("connecting: %w", err)
		}
		u.session = s
		u.sessions++
	}
	if err := u.session.ask(u.targets[(u.n+i)%len(u.targets)]); err != nil {
		return err
	}
	u.requests++
	_ = u.times.RecordValue(min(max(1, time.Since(asked).Microseconds()), u.times.HighestTrackableValue()))
	return nil
}
