package report

import (
	"fmt"
	"slices"
)

// MicroRow is a microbenchmark on one stack over all rounds. Figures that it
// does not measure are zero.
type MicroRow struct {
	Name, Stack             string
	NsPerOp                 Figure
	GbitPerS, BytesPerConn  Figure
	AllocsPerOp, BytesPerOp int64 // the most in any round
}

func microRows(runs []MicroRun) (rows []*MicroRow) {
	for _, run := range runs {
		if slices.ContainsFunc(rows, func(r *MicroRow) bool { return r.Name == run.Name && r.Stack == run.Stack }) {
			continue
		}
		row := &MicroRow{Name: run.Name, Stack: run.Stack}
		row.NsPerOp = figure(microValues(runs, run.Name, run.Stack, nsPerOp))
		row.GbitPerS = figure(microValues(runs, run.Name, run.Stack, gbitPerS))
		row.BytesPerConn = figure(microValues(runs, run.Name, run.Stack, bytesPerConn))
		for _, r := range runs {
			if r.Name == run.Name && r.Stack == run.Stack {
				row.AllocsPerOp, row.BytesPerOp = max(row.AllocsPerOp, r.AllocsPerOp), max(row.BytesPerOp, r.BytesPerOp)
			}
		}
		rows = append(rows, row)
	}
	return rows
}

func nsPerOp(m *MicroRun) float64      { return m.NsPerOp }
func gbitPerS(m *MicroRun) float64     { return m.GbitPerS }
func bytesPerConn(m *MicroRun) float64 { return m.BytesPerConn }
func allocs(m *MicroRun) float64       { return float64(m.AllocsPerOp) }

// microValues are those of one benchmark on one stack, by round.
func microValues(runs []MicroRun, name, stack string, of func(*MicroRun) float64) (vs []float64) {
	for i := range runs {
		if runs[i].Name == name && runs[i].Stack == stack {
			vs = append(vs, of(&runs[i]))
		}
	}
	return vs
}

// microTarget is a Target for a microbenchmark on onload: a bound on a figure,
// or on its ratio to gVisor's.
type microTarget struct {
	name, bench, metric string
	of                  func(*MicroRun) float64
	ratio               bool
	limit               float64
	atLeast             bool
}

func microTargets() []microTarget {
	const rtt1, rtt2, bulk, idle = "tcp-rtt/size=1/goroutines=1", "tcp-rtt/size=1/goroutines=2", "bulk/mtu=1500/cpus=1", "idle"
	return []microTarget{
		{"in memory: TCP round trip of 1 byte, one goroutine, ns", rtt1, "ns/op", nsPerOp, false, 1000, false},
		{"in memory: TCP round trip of 1 byte, two goroutines that block", rtt2, "ns/op", nsPerOp, true, 1. / 5, false},
		{"in memory: allocations of a round trip", rtt1, "allocs/op", allocs, false, 0, false},
		{"in memory: allocations of a round trip, two goroutines", rtt2, "allocs/op", allocs, false, 0, false},
		{"in memory: bulk at MTU 1500 on one processor, Gbit/s", bulk, GbitPerS, gbitPerS, false, 20, true},
		{"in memory: bulk at MTU 1500 on one processor", bulk, GbitPerS, gbitPerS, true, 8, true},
		{"in memory: idle connection, bytes", idle, "B/conn", bytesPerConn, false, IdleTarget, false},
	}
}

func (r *Report) judgeMicro() (vs []Verdict) {
	for _, t := range microTargets() {
		got := microValues(r.MicroRuns, t.bench, "onload", t.of)
		v := Verdict{Target: t.name, Case: t.bench, Metric: t.metric, Of: "onload", Want: fmt.Sprintf("<= %.4g", t.limit)}
		if t.ratio {
			v.To = "gvisor"
			other := microValues(r.MicroRuns, t.bench, v.To, t.of)
			for i := range min(len(got), len(other)) {
				got[i] /= other[i]
			}
			got = got[:min(len(got), len(other))]
		}
		if len(got) == 0 {
			continue
		}
		met := func(x float64) bool { return x <= t.limit }
		if t.atLeast {
			v.Want, met = fmt.Sprintf(">= %.4g", t.limit), func(x float64) bool { return x >= t.limit }
		}
		v.Ratio, v.Rounds = figure(got), len(got)
		v.Pass, v.Clear = met(v.Ratio.Median), met(v.Ratio.Min) == met(v.Ratio.Max)
		vs = append(vs, v)
	}
	return vs
}
