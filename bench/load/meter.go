package load

import (
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/sys/unix"
)

// CPU is processor time in seconds.
type CPU struct{ User, System float64 }

// Total is both.
func (c CPU) Total() float64 { return c.User + c.System }

// Sub returns the time spent since o.
func (c CPU) Sub(o CPU) CPU { return CPU{c.User - o.User, c.System - o.System} }

// Spent returns the time that this process has used so far.
func Spent() CPU {
	var r unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &r) != nil {
		return CPU{}
	}
	sec := func(t unix.Timeval) float64 { return float64(t.Sec) + float64(t.Usec)/1e6 }
	return CPU{sec(r.Utime), sec(r.Stime)}
}

// since meters a server: its CPU time counts from the first operation, since
// a spinning server spends as much while it waits for the client's process.
type since struct{ at atomic.Pointer[CPU] }

func (s *since) begin() {
	if s.at.Load() == nil {
		c := Spent()
		s.at.CompareAndSwap(nil, &c)
	}
}

func (s *since) spent() CPU {
	if c := s.at.Load(); c != nil {
		return Spent().Sub(*c)
	}
	return CPU{}
}

// NewHist is an empty histogram of nanoseconds up to a minute, 3 digits.
func NewHist() *hdrhistogram.Histogram {
	return hdrhistogram.New(1, int64(time.Minute), 3)
}

// Clock separates the warm-up from the measurement, ends it, and keeps the
// histogram.
//
// The rate is of the operations that end within the measurement, whenever they
// began: with many connections at once one may last as long as it does. The
// latency is of those that begin within.
type Clock struct {
	warm, duration  time.Duration
	begin, from, to time.Time
	cpu             CPU
	hist            *hdrhistogram.Histogram
	ops, all        int64
	last            time.Time
}

// NewClock starts now.
func NewClock(s *Spec) *Clock {
	c := &Clock{warm: s.Warm, duration: s.Duration, cpu: Spent(), hist: NewHist()}
	c.Restart()
	return c
}

// Restart begins the warm-up anew. The processor time before it counts, for the
// operations that Early noted.
func (c *Clock) Restart() {
	c.begin = time.Now()
	c.from = c.begin.Add(c.warm)
	c.to = c.from.Add(c.duration)
}

// Early notes an operation before the warm-up.
func (c *Clock) Early() { c.all++ }

// Op notes an operation from start to end, and reports whether to go on: a machine
// that others use may have taken the whole time away, and one operation there is.
func (c *Clock) Op(start, end time.Time) bool {
	c.all++
	if !start.Before(c.from) {
		// A value past the range is kept at its end, not lost.
		if c.hist.RecordValue(int64(end.Sub(start))) != nil {
			_ = c.hist.RecordValue(c.hist.HighestTrackableValue())
		}
	}
	if !end.Before(c.from) && (end.Before(c.to) || c.ops == 0) {
		c.ops++
		c.last = end
	}
	return end.Before(c.to) || c.ops == 0
}

// Sample ends the measurement.
func (c *Clock) Sample() (Sample, error) {
	s := Sample{Ops: c.ops, AllOps: c.all, CPU: Spent().Sub(c.cpu)}
	if c.ops > 0 {
		s.Seconds = c.last.Sub(c.from).Seconds()
	}
	var err error
	s.Hist, err = c.hist.EncodeV2()
	return s, err
}
