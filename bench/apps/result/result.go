// Package result turns runs of programs into ratios, and ratios into files
// that people and programs read.
package result

import (
	"slices"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/onload-go/onload/bench/report"
)

// Sample has a client's measurements.
type Sample struct {
	Ops     int64 // answers in Seconds
	Seconds float64
	Hist    []byte `json:",omitempty"` // latency, ns, HdrHistogram V2 compressed
	// Of the open loop: how late requests were put into the queue, and how
	// many of those due were not answered soon after the end.
	Late       []byte `json:",omitempty"`
	Unanswered int64  `json:",omitempty"`
	Lost       int64  `json:",omitempty"` // datagrams sent again, warm-up included
}

// Measured is the result of a run.
type Measured struct {
	Sample
	// CPU is the processor time of each end while it was measured, and Softirq
	// that of softirqs beside them, as shares of one processor. Others is the
	// share of programs that are not ours: noise.
	CPU             map[string]float64
	Softirq, Others float64
	Wall            float64        // seconds
	Counters        map[string]any // of onload, by end
}

// Run is a cell on a rung in a round.
type Run struct {
	Cell  Cell
	Rung  string
	Round int
	Rate  float64 `json:",omitempty"` // of an open loop, requests/s
	Error string  `json:",omitempty"`
	*Measured
	Metrics map[string]float64
}

// Metrics that report has not. Processor time is in microseconds for a
// request, of idle ends in milliseconds a second.
const (
	CPUClient  = "client-cpu-us/op"
	CPUServer  = "server-cpu-us/op"
	IdleCPU    = "server-cpu-ms/s"
	Late       = "late-us" // the median of how late the open loop's client woke
	Unanswered = "unanswered-%"
)

// metrics computes the figures of a run. Latencies are microseconds.
func (m *Measured) metrics() (map[string]float64, error) {
	f := map[string]float64{report.Others: 100 * m.Others}
	if m.Ops == 0 {
		f[IdleCPU] = 1e3 * m.CPU["server"]
		return f, nil
	}
	h, err := hdrhistogram.Decode(m.Hist)
	if err != nil {
		return nil, err
	}
	f[report.OpsPerS], f[report.Mean], f[report.MaxUS] = float64(m.Ops)/m.Seconds, h.Mean()/1e3, float64(h.Max())/1e3
	for name, q := range map[string]float64{report.P50: 50, report.P99: 99, report.P999: 99.9} {
		f[name] = float64(h.ValueAtPercentile(q)) / 1e3
	}
	f[report.LostPct] = 100 * float64(m.Lost) / float64(m.Ops)
	us := 1e6 / f[report.OpsPerS]
	all := m.Softirq
	for end, share := range m.CPU {
		all += share
		switch end {
		case "client":
			f[CPUClient] = share * us
		case "server":
			f[CPUServer] = share * us
		}
	}
	f[report.CPUPerOp] = all * us
	if len(m.Late) > 0 {
		late, err := hdrhistogram.Decode(m.Late)
		if err != nil {
			return nil, err
		}
		f[Late] = float64(late.ValueAtPercentile(50)) / 1e3
		f[Unanswered] = 100 * float64(m.Unanswered) / float64(m.Unanswered+h.TotalCount())
	}
	return f, nil
}

// Set is the runs of a session.
type Set struct {
	Runs []*Run
}

// Add takes a run.
func (s *Set) Add(r *Run) error {
	if r.Measured != nil {
		m, err := r.Measured.metrics()
		if err != nil {
			return err
		}
		r.Metrics = m
		r.Hist, r.Late = nil, nil // its figures are kept
	}
	s.Runs = append(s.Runs, r)
	return nil
}

func (s *Set) values(c Cell, rung, metric string) map[int]float64 {
	v := map[int]float64{}
	for _, r := range s.Runs {
		if r.Cell == c && r.Rung == rung && r.Error == "" {
			v[r.Round] = r.Metrics[metric]
		}
	}
	return v
}

// Figure is a metric over the rounds, and whether there is one.
func (s *Set) Figure(c Cell, rung, metric string) (report.Figure, bool) {
	return figure(s.values(c, rung, metric))
}

// Ratio is a metric of one rung divided by that of another, taken within a
// round, over the rounds.
func (s *Set) Ratio(c Cell, rung, to, metric string) (report.Figure, bool) {
	a, b := s.values(c, rung, metric), s.values(c, to, metric)
	ratios := map[int]float64{}
	for round, v := range a {
		if w := b[round]; w > 0 && v > 0 {
			ratios[round] = v / w
		}
	}
	return figure(ratios)
}

func figure(by map[int]float64) (report.Figure, bool) {
	var v []float64
	for _, x := range by {
		v = append(v, x)
	}
	if len(v) == 0 {
		return report.Figure{}, false
	}
	slices.Sort(v)
	n := len(v)
	return report.Figure{Median: (v[(n-1)/2] + v[n/2]) / 2, Min: v[0], Max: v[n-1]}, true
}
