package result

import (
	"fmt"
	"io"
	"math"
	"slices"
	"text/tabwriter"

	"github.com/onload-go/onload/bench/report"
)

// Verdict is a promise of the project with its measurement.
type Verdict struct {
	Clause string
	Want   string
	Got    string
	Met    bool
	// Missed are the cells that miss it, with their ratios.
	Missed []string `json:",omitempty"`
}

// Word is the verdict.
func (v *Verdict) Word() string {
	if v.Met {
		return "met"
	}
	return "missed"
}

// targets are the least ratios of requests/s, with onload at both ends, one
// connection and a processor each.
var targets = []struct {
	program string
	least   float64
}{
	{"net/http", 3.5}, {"TLS", 3.4}, {"HTTP/2", 2.4}, {"gRPC", 2}, {"DNS", 5}, {"redis", 4.5}, {"fasthttp", 4}, {"websocket", 5}, {"ReverseProxy", 2},
}

// Promises for every program.
const (
	oneSide   = 1.3  // least ratio of requests/s with onload at one end, one connection
	crowded   = 1.2  // least geometric mean of it at 32 and 512 connections
	neverLess = 0.95 // of the kernel's requests/s in any cell
	neverMore = 1.05 // of the kernel's times in any cell
	cpuLimit  = 1.1  // of the kernel's processor time for a request of an open loop
	idleLimit = 1.0  // ms of processor time a second of an idle server, above the kernel's
)

// onloadRungs are those that are judged: of the default profile and this build.
var onloadRungs = []string{"S", "C", "SC"}

// judge compares the results with the project's promises.
func (r *Report) judge() {
	for _, t := range targets {
		c := Cell{t.program, Cores, Closed, 1}
		r.verdict(fmt.Sprintf("SC at 1 connection, a processor each: %s", t.program), atLeast(t.least),
			r.checks([]Cell{c}, []string{"SC"}, report.OpsPerS))
	}
	one := Cell{Condition: Cores, Load: Closed, Conns: 1}
	for _, g := range []string{"S", "C"} {
		r.verdict(g+" at 1 connection, a processor each: every program", atLeast(oneSide), r.checks(r.Layout.Of(one), []string{g}, report.OpsPerS))
	}
	for _, conns := range []int{32, 512} {
		for _, g := range onloadRungs {
			r.meanVerdict(Cell{Condition: Cores, Load: Closed, Conns: conns}, g)
		}
	}
	for _, cond := range Conditions() {
		cells := r.cells(func(c Cell) bool { return c.Condition == cond && c.Load == Closed })
		r.verdict("closed loop, "+cond+": no cell has fewer requests/s, beyond the spread", beyondLeast(neverLess), r.checks(cells, onloadRungs, report.OpsPerS))
		r.verdict("closed loop, "+cond+": no cell has a higher p99, beyond the spread", beyondMost(neverMore), r.checks(cells, onloadRungs, report.P99))
	}
	for _, load := range []string{Open10, Open50, Open80, EachMS} {
		cells := r.cells(func(c Cell) bool { return c.Load == load })
		r.verdict(load+": processor time for a request", atMost(cpuLimit), r.checks(cells, onloadRungs, report.CPUPerOp))
		for _, m := range []string{report.P50, report.P99} {
			r.verdict(load+": no higher "+m+", beyond the spread", beyondMost(neverMore), r.checks(cells, onloadRungs, m))
		}
	}
	r.idleVerdict()
}

// bound is a limit of ratios.
type bound struct {
	want string
	met  func(report.Figure) bool
	// worse orders ratios: below 0 if a is further on the wrong side than b.
	worse func(a, b report.Figure) int
}

func lower(a, b report.Figure) int  { return sign(a.Median - b.Median) }
func higher(a, b report.Figure) int { return sign(b.Median - a.Median) }

func sign(v float64) int {
	switch {
	case v < 0:
		return -1
	case v > 0:
		return 1
	}
	return 0
}

func atLeast(x float64) bound {
	return bound{fmt.Sprintf(">= %.4g", x), func(f report.Figure) bool { return f.Median >= x }, lower}
}

func atMost(x float64) bound {
	return bound{fmt.Sprintf("<= %.4g", x), func(f report.Figure) bool { return f.Median <= x }, higher}
}

// beyondLeast is missed only if every round misses it.
func beyondLeast(x float64) bound {
	return bound{fmt.Sprintf(">= %.4g", x), func(f report.Figure) bool { return f.Max >= x }, lower}
}

func beyondMost(x float64) bound {
	return bound{fmt.Sprintf("<= %.4g", x), func(f report.Figure) bool { return f.Min <= x }, higher}
}

// check is a ratio with its place.
type check struct {
	where string
	ratio report.Figure
}

func (c check) String() string { return c.where + ": " + Ratio(c.ratio) }

func (r *Report) cells(want func(Cell) bool) (cs []Cell) {
	for _, c := range r.Layout.Cells {
		if want(c) {
			cs = append(cs, c)
		}
	}
	return cs
}

// checks returns the ratios to the kernel of the cells and rungs that were
// measured.
func (r *Report) checks(cells []Cell, rungs []string, metric string) (cs []check) {
	for _, c := range cells {
		for _, g := range rungs {
			if f, ok := r.Ratio(c, g, r.Layout.Base, metric); ok {
				cs = append(cs, check{c.String() + ", " + g, f})
			}
		}
	}
	return cs
}

// verdict judges checks; of none there is no verdict.
func (r *Report) verdict(clause string, b bound, cs []check) {
	if len(cs) == 0 {
		return
	}
	slices.SortStableFunc(cs, func(x, y check) int { return b.worse(x.ratio, y.ratio) })
	v := Verdict{Clause: clause, Want: b.want}
	for _, c := range cs {
		if !b.met(c.ratio) {
			v.Missed = append(v.Missed, c.String())
		}
	}
	v.Met = len(v.Missed) == 0
	v.Got = Ratio(cs[0].ratio)
	if len(cs) > 1 {
		v.Got = fmt.Sprintf("%d of %d; worst: %s", len(cs)-len(v.Missed), len(cs), cs[0])
	}
	r.Verdicts = append(r.Verdicts, v)
}

// meanVerdict judges the geometric mean over programs, taken within each round.
func (r *Report) meanVerdict(g Cell, rung string) {
	by := map[int]float64{}
	for round := range r.Rounds {
		sum, n := 0., 0
		for _, c := range r.Layout.Of(g) {
			a, b := r.values(c, rung, report.OpsPerS)[round], r.values(c, r.Layout.Base, report.OpsPerS)[round]
			if a > 0 && b > 0 {
				sum += math.Log(a / b)
				n++
			}
		}
		if n > 0 {
			by[round] = math.Exp(sum / float64(n))
		}
	}
	if f, ok := figure(by); ok {
		r.verdict(fmt.Sprintf("%s at %d connections, a processor each: geometric mean over programs", rung, g.Conns), atLeast(crowded), []check{{rung, f}})
	}
}

// idleVerdict judges servers whose clients do nothing.
func (r *Report) idleVerdict() {
	var over []string
	n, most := 0, math.Inf(-1)
	for _, c := range r.cells(func(c Cell) bool { return c.Load == Idle }) {
		k, ok := r.Figure(c, r.Layout.Base, IdleCPU)
		if !ok {
			continue
		}
		for _, g := range onloadRungs {
			f, ok := r.Figure(c, g, IdleCPU)
			if !ok {
				continue
			}
			n++
			extra := f.Median - k.Median
			most = max(most, extra)
			if extra > idleLimit {
				over = append(over, fmt.Sprintf("%s, %s: %.2g ms/s more", c, g, extra))
			}
		}
	}
	if n == 0 {
		return
	}
	r.Verdicts = append(r.Verdicts, Verdict{Clause: "an idle server costs nothing: processor time above the kernel's", Want: fmt.Sprintf("<= %.4g ms/s", idleLimit),
		Got: fmt.Sprintf("%d of %d; most: %.2g ms/s", n-len(over), n, most), Met: len(over) == 0, Missed: over})
}

func (r *Report) verdictText(w io.Writer) error {
	tw := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	if len(r.Verdicts) > 0 {
		fmt.Fprintln(tw, "promise\twant\tverdict\tgot")
	}
	for _, v := range r.Verdicts {
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\n", v.Clause, v.Want, v.Word(), v.Got)
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	for _, f := range r.Failures {
		fmt.Fprintln(w, "FAILED:", f)
	}
	for _, n := range r.Notes {
		fmt.Fprintln(w, "note:", n)
	}
	return nil
}
