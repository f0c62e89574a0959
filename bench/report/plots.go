package report

import (
	"fmt"
	"math"
	"slices"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/onload-go/onload/bench/load"
	"github.com/onload-go/onload/bench/plot"
)

// charts are all that the cases give.
func (r *Report) charts() (cs []*plot.Chart) {
	add := func(c *plot.Chart) {
		c.Series = slices.DeleteFunc(c.Series, func(s plot.Series) bool { return len(s.Points) == 0 })
		if len(c.Series) > 0 {
			cs = append(cs, c)
		}
	}
	names := map[string]string{load.TCPRTT: "TCP", load.UDPRTT: "UDP"}
	for _, w := range []string{load.TCPRTT, load.UDPRTT} {
		if c, ok := r.smallest(w); ok {
			add(r.ccdf(c, fmt.Sprintf("%s round trip of %d byte: how many take longer", names[w], c.Size)))
		}
	}
	for _, w := range []string{load.TCPRTT, load.UDPRTT} {
		add(r.over(w, names[w]+" round trip by message size", "message, bytes", "RTT p50, us", P50, func(c load.Case) int { return c.Size }))
	}
	add(r.over(load.OpenLoop, "Open loop: p99 against offered load", "requests a second offered", "p99 from the intended send time, us", P99,
		func(c load.Case) int { return c.Rate }))
	add(r.over(load.Requests, "Requests by number of connections", "connections", "requests/s", OpsPerS, func(c load.Case) int { return c.Conns }))
	add(r.barsOf(load.Bulk, "Bulk TCP by MTU and direction", "Gbit/s received", GbitPerS, func(c load.Case) string {
		if c.Down {
			return fmt.Sprintf("%d, to client", c.MTU)
		}
		return fmt.Sprintf("%d, to server", c.MTU)
	}))
	add(r.barsOf(load.Packets, "UDP datagrams one way", "datagrams/s received", OpsPerS, func(c load.Case) string { return fmt.Sprintf("%d bytes", c.Size) }))
	add(r.barsOf(load.CRR, "Connect, request, response, close", "a second", OpsPerS, func(load.Case) string { return "one worker" }))
	add(r.barsOf(load.Idle, "Memory of an idle connection", "server's Go heap, bytes", HeapConn, func(c load.Case) string { return fmt.Sprintf("%d connections", c.Conns) }))
	return cs
}

// smallest is the case of w with the smallest message.
func (r *Report) smallest(w string) (best load.Case, ok bool) {
	for _, c := range r.Cases {
		if c.Workload == w && (!ok || c.Size < best.Size) {
			best, ok = c, true
		}
	}
	return best, ok
}

func (r *Report) ccdf(c load.Case, title string) *plot.Chart {
	ch := &plot.Chart{Title: title, XLabel: "full round trip, us", YLabel: "percentile", XLog: true, YLog: true, Nines: true,
		Note: "All rounds together. Further down is rarer: at p99.9 one of a thousand round trips takes longer than x."}
	for _, name := range r.rungNames {
		if row := r.find(c, name); row != nil && row.hist != nil {
			ch.Series = append(ch.Series, plot.Series{Name: name, Points: tailOf(row.hist)})
		}
	}
	return ch
}

// tailOf is the share that takes longer than x, down to the last ten samples:
// below, it is chance.
func tailOf(h *hdrhistogram.Histogram) (ps []plot.Point) {
	total := float64(h.TotalCount())
	for nines := 0.; nines <= 6; nines += 0.02 {
		rest := math.Pow(10, -nines)
		if rest*total < 10 && nines > 0 {
			break
		}
		x := float64(h.ValueAtQuantile(100*(1-rest))) / 1e3
		if x <= 0 {
			continue
		}
		ps = append(ps, plot.Point{X: x, Y: rest})
	}
	return ps
}

// over is a metric over a parameter of a workload's cases.
func (r *Report) over(w, title, xLabel, yLabel, metric string, x func(load.Case) int) *plot.Chart {
	ch := &plot.Chart{Title: title, XLabel: xLabel, YLabel: yLabel, XLog: true, YLog: true, Note: "Medians; bars: from the least to the most over rounds."}
	for _, c := range r.Cases {
		if c.Workload == w && !slices.Contains(ch.XTicks, float64(x(c))) {
			ch.XTicks = append(ch.XTicks, float64(x(c)))
		}
	}
	slices.Sort(ch.XTicks)
	for _, name := range r.rungNames {
		s := plot.Series{Name: name}
		for _, row := range r.Rows {
			if f, ok := row.Metrics[metric]; ok && row.Rung == name && row.Params.Workload == w && f.Median > 0 {
				s.Points = append(s.Points, plot.Point{X: float64(x(row.Params)), Y: f.Median, Lo: f.Min, Hi: f.Max})
			}
		}
		slices.SortFunc(s.Points, func(a, b plot.Point) int { return int(a.X - b.X) })
		ch.Series = append(ch.Series, s)
	}
	return ch
}

func (r *Report) barsOf(w, title, yLabel, metric string, group func(load.Case) string) *plot.Chart {
	ch := &plot.Chart{Title: title, YLabel: yLabel, Note: "Medians; thin lines: from the least to the most over rounds."}
	index := map[string]int{}
	for _, c := range r.Cases {
		if g := group(c); c.Workload == w && !slices.Contains(ch.Groups, g) {
			index[g] = len(ch.Groups)
			ch.Groups = append(ch.Groups, g)
		}
	}
	for _, name := range r.rungNames {
		s := plot.Series{Name: name}
		for _, row := range r.Rows {
			if f, ok := row.Metrics[metric]; ok && row.Rung == name && row.Params.Workload == w {
				s.Points = append(s.Points, plot.Point{X: float64(index[group(row.Params)]), Y: f.Median, Lo: max(0, f.Min), Hi: f.Max})
			}
		}
		ch.Series = append(ch.Series, s)
	}
	return ch
}
