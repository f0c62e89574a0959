package result

import (
	"fmt"
	"io"
	"math"
	"slices"
	"text/tabwriter"

	"github.com/onload-go/onload/bench/plot"
	"github.com/onload-go/onload/bench/report"
)

// Layout describes a table: for each cell a row with the figures of Base and
// the ratios of Rungs to it.
type Layout struct {
	Base  string
	Rungs []string
	Cells []Cell
	// Pairs are further ratios, of one rung to another.
	Pairs [][2]string
}

// Metrics are those that tables compare for a load; Loads without requests
// have IdleCPU, which is no ratio: the kernel's is next to nothing.
func Metrics() []string {
	return []string{report.OpsPerS, report.P50, report.P99, report.CPUPerOp, IdleCPU}
}

// applies reports whether a metric means something for a cell.
func (s *Set) applies(metric string, c Cell) bool {
	for _, r := range s.Runs {
		if r.Cell == c && r.Error == "" {
			_, ok := r.Metrics[metric]
			// In an open loop the number of requests is given.
			return ok && (r.Rate == 0 || metric != report.OpsPerS)
		}
	}
	return false
}

// column is a ratio.
type column struct{ name, of, to string }

func (l *Layout) columns() (cs []column) {
	for _, g := range l.Rungs {
		if g != l.Base {
			cs = append(cs, column{g, g, l.Base})
		}
	}
	for _, p := range l.Pairs {
		cs = append(cs, column{p[0] + " / " + p[1], p[0], p[1]})
	}
	return cs
}

// Table writes ratios, a table for each metric: medians over the rounds with
// their range, and below each condition's and load's rows geometric means.
func (s *Set) Table(w io.Writer, l *Layout) error {
	tw := tabwriter.NewWriter(w, 0, 8, 2, ' ', tabwriter.AlignRight)
	for _, metric := range Metrics() {
		for _, g := range l.Groups() {
			rows := slices.DeleteFunc(l.Of(g), func(c Cell) bool { return !s.applies(metric, c) })
			if len(rows) == 0 {
				continue
			}
			fmt.Fprintf(tw, "%s, %s\t%s\t", g.Where(), metric, l.Base)
			for _, c := range l.columns() {
				fmt.Fprintf(tw, "%s\t", c.name)
			}
			fmt.Fprintln(tw)
			for _, c := range rows {
				f, ok := s.Figure(c, l.Base, metric)
				fmt.Fprintf(tw, "%s\t%s\t", c.Program, cell(plot.Number(f.Median), ok))
				for _, col := range l.columns() {
					fmt.Fprintf(tw, "%s\t", s.compare(c, col, metric))
				}
				fmt.Fprintln(tw)
			}
			if metric != IdleCPU && len(rows) > 1 {
				fmt.Fprint(tw, "geometric mean\t\t")
				for _, col := range l.columns() {
					m, ok := s.geoMean(rows, col, metric)
					fmt.Fprintf(tw, "%s\t", cell(fmt.Sprintf("%.2f", m), ok))
				}
				fmt.Fprintln(tw)
			}
			fmt.Fprintln(tw)
		}
	}
	return tw.Flush()
}

// compare is a ratio in words; of IdleCPU the figure itself.
func (s *Set) compare(c Cell, col column, metric string) string {
	if metric == IdleCPU {
		f, ok := s.Figure(c, col.of, metric)
		return cell(plot.Number(f.Median), ok)
	}
	r, ok := s.Ratio(c, col.of, col.to, metric)
	return cell(Ratio(r), ok)
}

func cell(s string, ok bool) string {
	if !ok {
		return "-"
	}
	return s
}

// Ratio is a ratio in words, with its range over the rounds.
func Ratio(f report.Figure) string {
	if f.Min == f.Max {
		return fmt.Sprintf("%.2f", f.Median)
	}
	return fmt.Sprintf("%.2f (%.2f-%.2f)", f.Median, f.Min, f.Max)
}

// Groups are the properties shared by the cells of a geometric mean: all but the
// program.
func (l *Layout) Groups() (gs []Cell) {
	for _, c := range l.Cells {
		if c.Program = ""; !slices.Contains(gs, c) {
			gs = append(gs, c)
		}
	}
	return gs
}

// Of are the cells of a group.
func (l *Layout) Of(g Cell) (cs []Cell) {
	for _, c := range l.Cells {
		if g.Program = c.Program; c == g {
			cs = append(cs, c)
		}
	}
	return cs
}

// geoMean is the geometric mean of the medians of a ratio over cells.
func (s *Set) geoMean(cs []Cell, col column, metric string) (float64, bool) {
	sum, n := 0., 0
	for _, c := range cs {
		if r, ok := s.Ratio(c, col.of, col.to, metric); ok {
			sum += math.Log(r.Median)
			n++
		}
	}
	return math.Exp(sum / float64(n)), n > 0
}
