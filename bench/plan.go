package main

import (
	"slices"

	"github.com/onload-go/onload/bench/load"
	"github.com/onload-go/onload/bench/raw"
	"github.com/onload-go/onload/bench/report"
	"github.com/onload-go/onload/bench/rung"
)

// plan lists the cases and rungs to measure.
type plan struct {
	workloads []string
	sizes     []int // of ping-pong messages
	mtus      []int // of bulk streams
	conns     []int // of requests
	rates     []int // of the open loop
	datagrams []int // sizes for packets
	idle      int
	every     bool // no rungs were chosen
}

const (
	requestSize = 64
	maxDatagram = 65507
	mtu         = 1500 // the MTU of cases that are not about it
)

func (p *plan) cases() (cs []load.Case) {
	for _, w := range p.workloads {
		switch w {
		case load.TCPRTT, load.UDPRTT:
			for _, n := range p.sizes {
				if w == load.UDPRTT {
					n = min(n, maxDatagram)
				}
				cs = append(cs, load.Case{Workload: w, Size: n, MTU: mtu})
			}
		case load.Bulk:
			for _, m := range p.mtus {
				cs = append(cs, load.Case{Workload: w, MTU: m}, load.Case{Workload: w, MTU: m, Down: true})
			}
		case load.CRR:
			cs = append(cs, load.Case{Workload: w, Size: 1, MTU: mtu})
		case load.Requests:
			for _, n := range p.conns {
				cs = append(cs, load.Case{Workload: w, Size: requestSize, Conns: n, MTU: mtu})
			}
		case load.OpenLoop:
			for _, n := range p.rates {
				cs = append(cs, load.Case{Workload: w, Size: requestSize, Rate: n, MTU: mtu})
			}
		case load.Packets:
			for _, n := range p.datagrams {
				cs = append(cs, load.Case{Workload: w, Size: n, MTU: mtu})
			}
		case load.Idle:
			cs = append(cs, load.Case{Workload: w, Conns: p.idle, MTU: mtu})
		}
	}
	return cs
}

// crowd is the number of connections from which on making them takes longer than
// measuring requests: unless asked for by name, few rungs have cases with more.
// jumbo is the MTU from which on streams show nothing new on every rung.
const (
	crowd = 1000
	jumbo = 9000
)

var (
	crowded = []string{"net", "latency", "throughput"}
	slim    = []string{"tuned", "balanced", "throughput"}
)

// wants reports whether g is to run c.
func (p *plan) wants(g *rung.Rung, c load.Case) bool {
	if p.every && c.Workload == load.Requests && c.Conns > crowd && !slices.Contains(crowded, g.Name) {
		return false
	}
	if p.every && c.Workload == load.Bulk && c.MTU >= jumbo && slices.Contains(slim, g.Name) {
		return false
	}
	return applies(g, c)
}

// applies reports whether a case makes sense on a rung: an unpinned end, or a
// link without offloads, is for comparisons of a few workloads.
func applies(g *rung.Rung, c load.Case) bool {
	switch {
	case g.Client == rung.Raw:
		return raw.Supports(c)
	case g.Client == rung.RawCopy:
		return c.Workload == load.Bulk
	case g.Client == rung.GVisor:
		return c.MTU == mtu
	case g.Client == rung.GVisorGSO:
		return c.Workload == load.Bulk
	case g.NoOffload, g.Client == rung.Frames:
		return c.Workload == load.Bulk
	case g.Free:
		return c.Workload == load.TCPRTT || c.Workload == load.UDPRTT || c.Workload == load.CRR || c.Workload == load.Requests
	case g.Client == rung.Spin:
		return c.Workload != load.Idle && c.Conns <= 1
	}
	return true
}

func defaults(quick bool) plan {
	if quick {
		return plan{sizes: []int{1, 16384}, mtus: []int{1500}, conns: []int{100}, rates: []int{10000},
			datagrams: []int{report.SmallDatagram}, idle: 1000}
	}
	return plan{sizes: []int{1, 1024, 16384, 65536}, mtus: []int{1500, 9000, 65535}, conns: []int{1, 32, 1000, 10_000},
		rates: []int{1000, 10000, 50000}, datagrams: []int{report.SmallDatagram, 1472}, idle: 5000}
}
