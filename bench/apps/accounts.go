package main

import (
	"time"

	"github.com/onload-go/onload/bench/apps/result"
	"github.com/onload-go/onload/bench/harness"
)

// accounts are readings of the processor time of all ends, in seconds.
type accounts struct {
	at       time.Time
	ends     []float64
	softirqs []float64 // by processor, in no process's time
	busy     float64   // the machine's
}

func (u *run) read() accounts {
	l := harness.ReadLoad()
	a := accounts{at: l.At, busy: l.Busy, softirqs: u.softirqs.Read()}
	for _, e := range u.ends {
		a.ends = append(a.ends, harness.TreeTime(e.Cmd.Process.Pid))
	}
	return a
}

// account charges each end what it used between two readings, as a share of a
// processor; the readings are some microseconds beside the marks. The softirqs of a
// processor count for its end if it has one end, else for the run.
func (u *run) account(r *result.Measured, from, to accounts) {
	r.Wall = to.at.Sub(from.at).Seconds()
	r.CPU = map[string]float64{}
	byCPU := map[int][]string{}
	used := 0.
	for i, e := range u.ends {
		r.CPU[e.role] = (to.ends[i] - from.ends[i]) / r.Wall
		used += to.ends[i] - from.ends[i]
		byCPU[e.cpu] = append(byCPU[e.cpu], e.role)
	}
	for cpu, t := range to.softirqs {
		share := (t - from.softirqs[cpu]) / r.Wall
		if roles := byCPU[cpu]; len(roles) == 1 {
			r.CPU[roles[0]] += share
		} else {
			r.Softirq += share
		}
	}
	r.Others = max(0, to.busy-from.busy-used) / r.Wall
}
