// Package report turns runs into figures, and figures into files that people
// and programs read.
package report

import (
	"slices"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/onload-go/onload/bench/load"
)

// Machine records the conditions of the figures.
type Machine struct {
	Kernel, CPU, Go, OS string
	CPUs                int
	Load                string // averages when it began
	Driver              string
	Offloads            map[string]bool
	Congestion          string // of the kernel's TCP
	BusyPoll            string
	GOGC, MemLimit      string
	Pinning             string
	Revision            string
	Modules             []string
	Notes               []string
}

// Run is one case on one rung in one round.
type Run struct {
	Round int
	Rung  string
	Case  load.Case
	Error string `json:",omitempty"`
	load.Joined
	hist *hdrhistogram.Histogram
}

// Figure is a figure over the rounds.
type Figure struct {
	Median, Min, Max float64
}

// Row is one case on one rung over all rounds.
type Row struct {
	Case   string
	Params load.Case
	Rung   string
	Rounds int // with a result
	Failed int
	Paths  string

	// Metrics by name; see the metric constants.
	Metrics map[string]Figure

	ByRound []map[string]float64 // index: round; nil where it failed
	hist    *hdrhistogram.Histogram
}

// Names of metrics. Latencies are microseconds of a full round trip (connect
// to close for crr).
const (
	P50      = "p50-us"
	P90      = "p90-us"
	P99      = "p99-us"
	P999     = "p99.9-us"
	MaxUS    = "max-us"
	Mean     = "mean-us"
	OpsPerS  = "ops/s"
	GbitPerS = "Gbit/s"
	LostPct  = "lost-%"
	CPUPerOp = "cpu-us/op"
	CPUPerGB = "cpu-s/GB"
	HeapConn = "server-heap-B/conn"
	RSSConn  = "server-rss-B/conn"
	HeapCli  = "client-heap-B/conn"
	RSSCli   = "client-rss-B/conn"
	Others   = "others-%" // of the processors' time taken by programs that are not ours
)

// MicroRun is one run of an in-process microbenchmark.
type MicroRun struct {
	Name, Stack             string
	Round, N                int
	NsPerOp                 float64
	GbitPerS                float64 `json:",omitempty"`
	BytesPerConn            float64 `json:",omitempty"`
	AllocsPerOp, BytesPerOp int64
}

// Report is everything.
type Report struct {
	Command   string
	Began     time.Time
	Took      time.Duration
	Quick     bool
	Rounds    int
	Duration  time.Duration // measured for each case, rung and round
	XDPMode   string        // requested; the paths have the actual one
	Machine   Machine
	RungDocs  [][2]string
	Cases     []load.Case
	Rows      []*Row
	Verdicts  []Verdict
	MicroRuns []MicroRun
	Micro     []*MicroRow
	Limits    []string
	Failures  []string
	Runs      []*Run
	Spent     []*Spent `json:",omitempty"` // with -profile
	rungNames []string
}

// Add takes the result of one run.
func (r *Report) Add(run *Run) error {
	if len(run.Hist) > 0 {
		h, err := hdrhistogram.Decode(run.Hist)
		if err != nil {
			return err
		}
		run.hist = h
		run.Hist = nil // the histograms have a file of their own
	}
	r.Runs = append(r.Runs, run)
	return nil
}

// Finish computes rows and verdicts.
func (r *Report) Finish() {
	r.Rows, r.rungNames = nil, nil
	for _, d := range r.RungDocs {
		r.rungNames = append(r.rungNames, d[0])
	}
	for _, c := range r.Cases {
		for _, name := range r.rungNames {
			if row := r.row(c, name); row != nil {
				r.Rows = append(r.Rows, row)
			}
		}
	}
	r.Micro = microRows(r.MicroRuns)
	r.Verdicts = append(r.judge(), r.judgeMicro()...)
}

func (r *Report) row(c load.Case, rung string) *Row {
	row := &Row{Case: c.String(), Params: c, Rung: rung, Metrics: map[string]Figure{}, ByRound: make([]map[string]float64, r.Rounds)}
	values := map[string][]float64{}
	for _, run := range r.Runs {
		if run.Case != c || run.Rung != rung {
			continue
		}
		if run.Error != "" {
			row.Failed++
			continue
		}
		row.Rounds++
		row.Paths = run.ClientPath + " <-> " + run.ServerPath
		m := run.metrics()
		row.ByRound[run.Round] = m
		for k, v := range m {
			values[k] = append(values[k], v)
		}
		if run.hist != nil {
			if row.hist == nil {
				row.hist = load.NewHist()
			}
			row.hist.Merge(run.hist)
		}
	}
	if row.Rounds+row.Failed == 0 {
		return nil
	}
	for k, v := range values {
		row.Metrics[k] = figure(v)
	}
	return row
}

func figure(v []float64) Figure {
	v = slices.Sorted(slices.Values(v))
	n := len(v)
	return Figure{Median: (v[(n-1)/2] + v[n/2]) / 2, Min: v[0], Max: v[n-1]}
}

// metrics are those that mean something for the run's case.
func (run *Run) metrics() map[string]float64 {
	m := map[string]float64{}
	if h := run.hist; h != nil && h.TotalCount() > 0 {
		for name, q := range map[string]float64{P50: 50, P90: 90, P99: 99, P999: 99.9} {
			m[name] = float64(h.ValueAtPercentile(q)) / 1e3
		}
		m[MaxUS] = float64(h.Max()) / 1e3
		m[Mean] = h.Mean() / 1e3
	}
	perS := func(n int64) float64 {
		if run.Seconds <= 0 {
			return 0
		}
		return float64(n) / run.Seconds
	}
	switch run.Case.Workload {
	case load.Bulk:
		m[GbitPerS] = perS(run.Bytes) * 8 / 1e9
		m[CPUPerGB] = run.CPUPerOp() * 1e9
	case load.Idle:
		m[HeapConn], m[RSSConn] = run.ServerHeapPerConn, run.ServerRSSPerConn
		m[HeapCli], m[RSSCli] = run.HeapPerConn, run.RSSPerConn
		m[OpsPerS] = perS(run.Ops)
	default:
		m[OpsPerS] = perS(run.Ops)
		m[CPUPerOp] = run.CPUPerOp() * 1e6
	}
	switch {
	case run.Case.Workload == load.Packets && run.Sent > 0:
		m[LostPct] = 100 * max(0, 1-float64(run.AllOps)/float64(run.Sent))
	case run.Case.Workload == load.OpenLoop && run.Ops+run.Unsent > 0:
		m[LostPct] = 100 * float64(run.Unsent) / float64(run.Ops+run.Unsent)
	case run.Case.Workload == load.UDPRTT && run.Ops+run.Lost > 0:
		m[LostPct] = 100 * float64(run.Lost) / float64(run.Ops+run.Lost)
	}
	if run.Wall > 0 {
		m[Others] = 100 * run.Joined.Others / run.Wall
	}
	return m
}

// find returns a row, or nil.
func (r *Report) find(c load.Case, rung string) *Row {
	for _, row := range r.Rows {
		if row.Params == c && row.Rung == rung {
			return row
		}
	}
	return nil
}

// Main returns the main metric of a workload, and whether less is better.
func Main(workload string) (metric string, less bool) {
	switch workload {
	case load.Bulk:
		return GbitPerS, false
	case load.CRR, load.Requests, load.Packets:
		return OpsPerS, false
	case load.OpenLoop:
		return P99, true
	case load.Idle:
		return HeapConn, true
	}
	return P50, true
}
