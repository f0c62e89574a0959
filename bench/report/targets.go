package report

import (
	"fmt"

	"github.com/onload-go/onload/bench/load"
)

// Target is a ratio that the project promises.
type Target struct {
	Name     string
	Match    func(load.Case) bool
	Metric   string
	Rung, To string
	Limit    float64
	AtLeast  bool // else at most
}

// Verdict is a Target with its measurement. The ratio is taken within each
// round, so that noise which lasts longer than a round cancels out.
type Verdict struct {
	Target string
	Case   string
	Metric string
	Of, To string
	Want   string
	Ratio  Figure
	Rounds int
	Pass   bool
	// Clear: every round alone gives the same verdict.
	Clear bool
}

func is(workload string, size int) func(load.Case) bool {
	return func(c load.Case) bool { return c.Workload == workload && (size == 0 || c.Size == size) }
}

// Targets are the project's performance goals, as far as rungs exist.
func Targets() []Target {
	tcp1, udp1 := is(load.TCPRTT, 1), is(load.UDPRTT, 1)
	bulk := is(load.Bulk, 0)
	bulkAt := func(mtu int) func(load.Case) bool {
		return func(c load.Case) bool { return c.Workload == load.Bulk && c.MTU == mtu }
	}
	k := func(conns int) func(load.Case) bool {
		return func(c load.Case) bool { return c.Workload == load.Requests && c.Conns == conns }
	}
	return []Target{
		{"TCP 1-byte RTT, both ends spinning, above the floor", tcp1, P50, "latency", "raw", 1.3, false},
		{"TCP 1-byte RTT, both ends spinning, against net", tcp1, P50, "latency", "net", 1. / 12, false},
		{"TCP 1-byte RTT, both ends spinning, against net unpinned", tcp1, P50, "latency", "net-free", 1, false},
		{"TCP 1-byte RTT, both ends spinning, against the spinning kernel", tcp1, P50, "latency", "spin", 0.5, false},
		{"TCP 1-byte RTT, p99.9 no worse than net", tcp1, P999, "latency", "net", 1, false},
		{"UDP 1-byte RTT above the floor", udp1, P50, "latency", "raw", 1.15, false},
		{"TCP RTT, onload serves a kernel client", tcp1, P50, "onload-net", "net", 0.6, false},
		{"TCP RTT without spinning", tcp1, P50, "throughput", "net", 1, false},
		{"bulk TCP frame by frame against raw frames", bulk, GbitPerS, "frames", "raw", 0.9, true},
		{"bulk TCP frame by frame against raw frames that are copied and summed (aim)", bulk, GbitPerS, "frames", "raw-copy", 0.9, true},
		{"bulk TCP frame by frame against gVisor over AF_XDP", bulk, GbitPerS, "frames", "gvisor", 4, true},
		{"bulk TCP frame by frame, kernel client, against the kernel without offloads", bulk, GbitPerS, "frames-net", "net-nooffload", 1, true},
		{"bulk TCP frame by frame, kernel server, against the kernel without offloads", bulk, GbitPerS, "net-frames", "net-nooffload", 1, true},
		{"bulk TCP with segmentation offload against gVisor with its own", bulkAt(1500), GbitPerS, "latency", "gvisor-gso", 1, true},
		{"bulk TCP with segmentation offload, kernel client, against gVisor with its own", bulkAt(1500), GbitPerS, "onload-net", "gvisor-gso", 1, true},
		{"bulk TCP with segmentation offload, kernel server, against gVisor with its own", bulkAt(1500), GbitPerS, "net-onload", "gvisor-gso", 1, true},
		{"bulk TCP with segmentation offload against net with its own (aim)", bulkAt(1500), GbitPerS, "latency", "net", 1, true},
		{"bulk TCP with segmentation offload, kernel client, against net with its own (aim)", bulkAt(1500), GbitPerS, "onload-net", "net", 1, true},
		{"bulk TCP with segmentation offload, kernel server, against net with its own (aim)", bulkAt(1500), GbitPerS, "net-onload", "net", 1, true},
		{"connect-request-response-close", is(load.CRR, 0), OpsPerS, "latency", "net", 2, true},
		{"connect-request-response-close against gVisor", is(load.CRR, 0), OpsPerS, "latency", "gvisor", 4, true},
		{"requests/s, 1,000 connections", k(1000), OpsPerS, "latency", "net", 2, true},
		// Datagrams share kicks outside the profile latency.
		{"UDP 64-byte frames/s against raw", is(load.Packets, SmallDatagram), OpsPerS, "balanced", "raw", 0.9, true},
	}
}

// SmallDatagram is the payload of a 64-byte frame.
const SmallDatagram = 22

// IdleTarget is the most memory of ours that an idle connection may take.
const IdleTarget = 1024

func (r *Report) judge() (vs []Verdict) {
	for _, t := range Targets() {
		for _, c := range r.Cases {
			if !t.Match(c) {
				continue
			}
			of, to := r.find(c, t.Rung), r.find(c, t.To)
			if of == nil || to == nil {
				continue
			}
			var ratios []float64
			for i := range of.ByRound {
				if a, b := of.ByRound[i][t.Metric], to.ByRound[i][t.Metric]; a > 0 && b > 0 {
					ratios = append(ratios, a/b)
				}
			}
			if len(ratios) == 0 {
				continue
			}
			v := Verdict{Target: t.Name, Case: c.String(), Metric: t.Metric, Of: t.Rung, To: t.To, Ratio: figure(ratios), Rounds: len(ratios)}
			met := func(x float64) bool { return x <= t.Limit }
			v.Want = fmt.Sprintf("<= %.4g", t.Limit)
			if t.AtLeast {
				met = func(x float64) bool { return x >= t.Limit }
				v.Want = fmt.Sprintf(">= %.4g", t.Limit)
			}
			v.Pass = met(v.Ratio.Median)
			v.Clear = met(v.Ratio.Min) == met(v.Ratio.Max)
			vs = append(vs, v)
		}
	}
	for _, c := range r.Cases {
		row := r.find(c, "latency")
		if c.Workload != load.Idle || row == nil || row.Rounds == 0 {
			continue
		}
		f := row.Metrics[HeapConn]
		vs = append(vs, Verdict{Target: "idle connection, bytes of the Go heap (not a ratio)", Case: c.String(), Metric: HeapConn, Of: "latency", To: "",
			Want: fmt.Sprintf("<= %d B", IdleTarget), Ratio: f, Rounds: row.Rounds,
			Pass: f.Median <= IdleTarget, Clear: (f.Min <= IdleTarget) == (f.Max <= IdleTarget)})
	}
	return vs
}
